"""Measures of the package, printed: python tests/measures.py

Lengths of functions, typed signatures, `Any`, words that docstrings begin with, struck words, and who names `cfg`.
"""
import ast
import collections
import re
import statistics
from pathlib import Path
from typing import Dict, Iterator, List, Tuple, Union

PACKAGE = Path(__file__).resolve().parents[1] / 'mmdet_ft'
Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]
NO_VERB = re.compile(r'(What|Whether|Where|Who|Whose|How|When|Which|Of)\b')
# Words that a reader from the field would have to translate; 'place' and 'behind' have a meaning of their own too.
STRUCK = re.compile(r'\b(told|anew|way on|mend|what is not|none that|that are none)\b')


def functions() -> Iterator[Tuple[Path, Function]]:
    """Yield every function and method of the package with its file."""
    for path in sorted(PACKAGE.rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield path, node


def parameters(function: Function) -> List[ast.arg]:
    """Return the parameters of a function without self and cls."""
    given = function.args
    found = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [arg for arg in found if arg.arg not in ('self', 'cls')]


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
    any_typed = [arg for arg in annotated if ast.unparse(arg.annotation) == 'Any']
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
    }


def files_that_name_cfg() -> List[str]:
    """Return 'file: times' of the files whose code names `cfg`."""
    counts = collections.Counter()
    for path in PACKAGE.rglob('*.py'):
        names = [
            node for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
            if isinstance(node, ast.Name) and node.id == 'cfg'
        ]
        if names:
            counts[str(path.relative_to(PACKAGE))] = len(names)
    return [f'{path}: {count}' for path, count in sorted(counts.items())]


if __name__ == '__main__':
    for name, value in measures().items():
        print(f'{name:52}{value:8.1f}')
    print('\nfiles whose code names cfg:')
    print('\n'.join(files_that_name_cfg()))
