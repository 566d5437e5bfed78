"""Messages, docstrings and names of functions use the words of the field: the rules of CONTRIBUTING, by machine."""
import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*ROOT.glob('mmdet_ft/**/*.py'), *ROOT.glob('tools/**/*.py')])

# A word that a reader from the field would have to translate -> what to write instead.
STRUCK = {
    r'told|tells?|telling': 'report, list, name, say',
    r'stands?|standing': 'is, is set, comes, means',
    r'lies': 'is',
    r'anew': 'again',
    r'mends?|mended': 'fix',
    r'meets?': 'matches, reaches',
    r'goes on|go on|going on': 'continue, resume',
    r'comes? to': 'is',
    r'way on|way out': 'To fix:',
    r'what is not|none that|that are none': 'name the things',
    r'behind': 'after',
    r'places?': 'index, location, path, position',
    r'data sets?': 'dataset',
    r'(?:initial|normal|recogn|serial|optim|synchron|modern|organ|standard)is(?:e|es|ed|ing)':
    'the American spelling, -ize',
    r'colours?|coloured|grey|behaviour|centre|licence': 'the American spelling',
}
# Right in these phrases: idioms of PyTorch and Python, and positions of pictures.
RIGHT = re.compile(
    r'in[- ]place|take[sn]? place|taking place|in place of|decimal places?|place ?holders?|'
    r'(?:object|box|picture|image|thing)s? behind|behind (?:a|an|the|its|another|other) (?:proxy|camera|car|object)',
    re.I)


def texts(path):
    """(line, kind, text) of every docstring and message, and of the names of functions."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, 'name', node.name.replace('_', ' ')
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                docstrings.add(id(first.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            kind = 'docstring' if id(node) in docstrings else 'message'
            if ' ' in node.value.strip():
                yield node.lineno, kind, node.value


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_of_the_field_are_used(path):
    found = []
    for line, kind, text in texts(path):
        text = RIGHT.sub('', text)
        for pattern, instead in STRUCK.items():
            for match in re.finditer(rf'\b(?:{pattern})\b', text, re.I):
                found.append(
                    f'{path}:{line}: {match[0]!r} in a {kind}; write: {instead}\n    {text.strip()[:100]!r}'
                )
    assert not found, '\n'.join(found)
