"""Measures of the package, printed: python tests/measures.py (--quick leaves out what has to train).

Lengths of functions, imports in circles or upwards, typed signatures, `Any`, words of docstrings and messages, frames
from `main` to a loss, and who names `cfg`. `.ci/lint` counts the findings of yapf, isort, flake8, codespell, ruff and
mypy. test_measures.py holds the limits.
"""
import ast
import collections
import contextlib
import functools
import io
import re
import runpy
import statistics
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Dict, Iterator, List, Tuple, Union

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'mmdet_ft'
OURS = (str(PACKAGE), str(ROOT / 'tools'))
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))
from tests import test_architecture as architecture  # noqa: E402

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]
NO_VERB = re.compile(r'(What|Whether|Where|Who|Whose|How|When|Which|Of)\b')
# Words that a reader from the field would have to translate; 'place' and 'behind' have a meaning of their own too.
STRUCK = re.compile(r'\b(told|anew|way on|mend|what is not|none that|that are none)\b')


@functools.lru_cache(maxsize=None)
def nodes() -> List[Tuple[Path, List[ast.AST]]]:
    """Return every file of the package with the nodes of its syntax tree."""
    return [(path, list(ast.walk(architecture.tree_of(path)))) for path in architecture.FILES]


def functions() -> Iterator[Tuple[Path, Function]]:
    """Yield every function and method of the package with its file."""
    for path, inside in nodes():
        for node in inside:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield path, node


def parameters(function: Function) -> List[ast.arg]:
    """Return the parameters of a function without self and cls."""
    given = function.args
    found = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [arg for arg in found if arg.arg not in ('self', 'cls')]


def messages() -> Iterator[Tuple[Path, str]]:
    """Yield every string of the package that is not a docstring, without the values in an f-string."""
    for path, inside in nodes():
        docstrings = {
            id(node.value)
            for node in inside
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in inside:
            if isinstance(node, ast.Constant) and isinstance(node.value,
                                                             str) and id(node) not in docstrings:
                yield path, node.value


def measures() -> Dict[str, float]:
    """Return {name: value}; shares are in percent."""
    all_functions = [function for _, function in functions()]
    lengths = sorted(node.end_lineno - node.lineno + 1 for node in all_functions)
    typed = [
        node for node in all_functions
        if all(arg.annotation
               for arg in parameters(node)) and (node.returns or node.name == '__init__')
    ]
    annotated = [arg for node in all_functions for arg in parameters(node) if arg.annotation]
    any_typed = [
        arg for arg in annotated
        if isinstance(arg.annotation, ast.Name) and arg.annotation.id == 'Any'
    ]
    docs = [doc for node in all_functions for doc in [ast.get_docstring(node)] if doc]
    return {
        'functions':
        len(all_functions),
        'median length':
        statistics.median(lengths),
        'p90 length':
        lengths[int(.9 * len(lengths))],
        'longest':
        lengths[-1],
        'over 50 lines':
        sum(length > 50 for length in lengths),
        'files in circles of imports':
        len(architecture.circles_of_files()),
        'rooms of the engine in circles of imports':
        len(architecture.circles_of_the_engine()),
        'imports that point upwards':
        len(architecture.upward_imports()),
        'typed signatures %':
        100 * len(typed) / len(all_functions),
        'parameters that are Any %':
        100 * len(any_typed) / len(annotated),
        'docstrings':
        len(docs),
        'docstrings that begin with What, Of and the like %':
        100 * sum(bool(NO_VERB.match(doc)) for doc in docs) / len(docs),
        'docstrings with struck words':
        sum(bool(STRUCK.search(doc)) for doc in docs),
        'messages with struck words':
        sum(bool(STRUCK.search(text)) for _, text in messages() if ' ' in text),
    }


def files_that_name_cfg() -> List[str]:
    """Return 'file: times' of the files whose code names `cfg`."""
    counts = collections.Counter()
    for path, inside in nodes():
        names = [node for node in inside if isinstance(node, ast.Name) and node.id == 'cfg']
        if names:
            counts[str(path.relative_to(PACKAGE))] = len(names)
    return [f'{path}: {count}' for path, count in sorted(counts.items())]


def frames_to_a_loss() -> Dict[str, List[str]]:
    """Train a small Mask R-CNN for an epoch by tools/train.py; return the frames of each loss in its first step.

    The frames are ours, from `main` to the loss: {log key of the loss: ['train.py main', ...]}.
    """
    from mmdet_ft.models.losses.entropy import CrossEntropyLoss
    from tests.tools.tiny_world import write_world
    found: List[List[str]] = []
    forward = CrossEntropyLoss.forward

    def noted(self, *arguments, **named):
        if arguments[0].is_meta:  # the check of the config tries a step without values
            return forward(self, *arguments, **named)
        frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(OURS)]
        names = [f'{Path(frame.filename).name} {frame.name}' for frame in frames]
        found.append([*names[names.index('train.py main'):], 'cross_entropy.py forward'])
        return forward(self, *arguments, **named)

    before = sys.argv
    CrossEntropyLoss.forward = noted
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(
                io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            config = write_world(Path(folder), 2, 1)
            sys.argv = [
                str(ROOT / 'tools' / 'train.py'), config, '--work-dir', folder + '/run',
                '--no-validate', '--device', 'cpu', '--cfg-options', 'runner.max_epochs=1'
            ]
            runpy.run_path(sys.argv[0], run_name='__main__')
    except SystemExit as end:
        assert not end.code, f'tools/train.py exited with {end.code}'
    finally:
        CrossEntropyLoss.forward, sys.argv = forward, before
    return dict(zip(('loss_rpn_cls', 'loss_cls', 'loss_mask'), found))


if __name__ == '__main__':
    for name, value in measures().items():
        print(f'{name:52}{value:8.1f}')
    if '--quick' not in sys.argv:
        for name, frames in frames_to_a_loss().items():
            print(f'frames from main to {name}: {len(frames)}\n    {" > ".join(frames)}')
    print('\nfiles whose code names cfg:')
    print('\n'.join(files_that_name_cfg()))
    print('\nfindings of the formatter, the linters and the type checker: .ci/lint')
