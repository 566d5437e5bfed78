"""The arrows of the package: who may import whom, and from where."""
import ast
import functools
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'mmdet_ft'
BOTTOM = {
    'old_names', 'errors', 'parts', 'spelling', 'v2_types', 'structures', 'registry', 'config',
    'processes', 'untrusted', 'outputs', 'file_kinds', 'command_names', 'ranges', 'offline'
}
ROOMS = {'ops', 'checkpoints', 'models', 'datasets', 'evaluation', 'visualization'}
MAY_IMPORT = {  # room -> rooms below it
    'errors': set(),
    'parts': set(),
    'structures': set(),
    'ranges': set(),
    'ops': {'structures'},
    'spelling': set(),
    'file_kinds': set(),
    'command_names': set(),
    'v2_types': {'spelling'},
    'registry': {'spelling', 'v2_types'},
    'config': {'spelling'},
    'visualization': set(),
    'outputs': {'errors'},
    'offline': set(),
    'old_names': set(),
    'old_paths': set(),
    '__init__': {'old_paths'},
    'core': {'old_names'},
    'utils': {'old_names'},
    'pickle_values': set(),
    'untrusted': {'errors', 'pickle_values'},
    'processes': set(),
    'checkpoints': {'errors', 'file_kinds', 'parts', 'pickle_values', 'outputs', 'command_names', 'offline'},
    'models': BOTTOM | {'ops'},
    'evaluation': BOTTOM | {'ops'},
    'datasets': BOTTOM | {'ops', 'evaluation', 'visualization'},
    'engine': BOTTOM | ROOMS,
    'old_functions': BOTTOM | ROOMS | {'engine'},
    'folders': BOTTOM | ROOMS | {'engine'},
    'inference': BOTTOM | ROOMS | {'engine'},
    'apis': BOTTOM | ROOMS | {'engine', 'folders', 'old_functions', 'inference'},
    'deploy': BOTTOM | ROOMS | {'engine', 'inference', 'apis'},
    'commands': BOTTOM | ROOMS | {'engine', 'folders', 'inference', 'apis', 'deploy'},
    '__main__': {'commands'},
}
FILES = sorted(PACKAGE.rglob('*.py'))


@functools.lru_cache(maxsize=None)
def tree_of(path):
    return ast.parse(path.read_text(encoding='utf-8'))


def imports(path):
    """(line, dotted module, imported name or None) of every import of the package in a file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, None) for alias in node.names
                        if alias.name.split('.')[0] == 'mmdet_ft')
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}:{node.lineno}: a relative import; write the whole name'
            if node.module.split('.')[0] == 'mmdet_ft':
                yield from ((node.lineno, node.module, alias.name) for alias in node.names)


@functools.lru_cache(maxsize=None)
def is_module(dotted):
    path = PACKAGE.parent.joinpath(*dotted.split('.'))
    return path.is_dir() or path.with_suffix('.py').is_file()


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].replace('.py', '')


def test_imports_point_down_only():
    assert not upward_imports()


@pytest.mark.parametrize(
    'path', [path for path in FILES if path.name != '__init__.py'],
    ids=lambda path: str(path.relative_to(PACKAGE)))
def test_code_imports_from_leaf_modules(path):
    for line, module, name in imports(path):
        is_package = PACKAGE.parent.joinpath(*module.split('.')).is_dir()
        if is_package and name != '__version__':
            assert name and is_module(
                f'{module}.{name}'
            ), f'{path}:{line}: import from the file that defines {name}, not from {module}'


def floor_of(dotted):
    """Return the folder of the engine, or the file of its own, that a module belongs to."""
    return dotted.split('.')[2] if dotted.startswith('mmdet_ft.engine.') else None


def upward_imports():
    """Return 'file:line: what' of every import that MAY_IMPORT does not allow."""
    found = []
    for path in FILES:
        room = room_of(path)
        for line, module, name in imports(path):
            dotted = f'{module}.{name}' if name and is_module(f'{module}.{name}') else module
            target = dotted.split('.')[1] if '.' in dotted else None
            if target not in (None, room) and target not in MAY_IMPORT.get(room, ()):
                found.append(f'{path}:{line}: {room} may not import {dotted}')
    return found


def circles_of_the_engine():
    """Return the folders and files of the engine that import each other, sorted."""
    arrows = {}
    for path in (PACKAGE / 'engine').rglob('*.py'):
        own = floor_of('.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts))
        for _, module, name in imports(path):
            target = floor_of(
                f'{module}.{name}' if name and is_module(f'{module}.{name}') else module)
            if target not in (None, own, '__init__') and own != '__init__':
                arrows.setdefault(own, set()).add(target)
    return in_circles(arrows)


def circles_of_files():
    """Return the files of the package that import each other when they are loaded, sorted."""
    arrows = {}
    for path in FILES:
        own = '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts)
        for node in tree_of(path).body:
            if isinstance(node, ast.ImportFrom) and path.name != '__init__.py':
                targets = (f'{node.module}.{alias.name}' for alias in node.names)
                arrows.setdefault(own, set()).update(
                    target if is_module(target) else node.module for target in targets)
    return in_circles(arrows)


def in_circles(arrows):
    """Return those of {importer: imported} that reach themselves, sorted."""
    left = dict(arrows)
    while True:  # take away what imports nothing that is left
        free = [own for own, targets in left.items() if not targets & set(left)]
        if not free:
            return sorted(left)
        for own in free:
            del left[own]


def test_no_folder_of_the_engine_imports_one_that_imports_it():
    assert not circles_of_the_engine()


def test_no_file_imports_one_that_imports_it():
    assert not circles_of_files()


def test_the_engine_keeps_few_files_of_its_own():
    assert len(list((PACKAGE / 'engine').glob('*.py'))) <= 10


def test_runner_names_no_model_and_no_dataset():
    rooms = {
        module.split('.')[1]
        for path in (PACKAGE / 'engine' / 'runner').glob('*.py')
        for _, module, _ in imports(path) if '.' in module
    }
    assert not rooms & {'models', 'datasets'}


@pytest.mark.parametrize(
    'path', [path for path in FILES if path.name == '__init__.py'],
    ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_name_of_a_package_hides_one_of_its_modules(path):
    """`import package.module as m` gives the package's attribute, which must be the module."""
    package = '.'.join(path.parent.relative_to(PACKAGE.parent).parts)
    modules = {item.stem
               for item in path.parent.glob('*.py')
               } | {item.parent.name
                    for item in path.parent.glob('*/__init__.py')}
    for name in modules - {'__init__'}:
        module = importlib.import_module(f'{package}.{name}')
        assert getattr(importlib.import_module(package), name) is module, name


def test_running_an_exported_file_imports_nothing_that_imports_torch():
    for path in (PACKAGE / 'deploy').glob('*.py'):
        allowed = {'mmdet_ft.errors', 'mmdet_ft.command_names', 'mmdet_ft.ops.paste_crop'}
        others = {module for _, module, _ in imports(path)} - allowed
        assert all(module.startswith('mmdet_ft.deploy.') and 'export' not in module
                   for module in others), (path, others)  # yapf: disable
