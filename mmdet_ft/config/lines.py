"""Line numbers of values in config files, and readers of variables.

Nothing here executes a config: a python file is read as a syntax tree, json and yaml as marked nodes.
It is used only when a line number is needed, and caches results by the file's text.
"""
import ast
import functools
from typing import (Any, Dict, FrozenSet, Iterator, List, NamedTuple, Optional, Sequence, Tuple,
                    Union)

import yaml

Steps = Tuple[str, ...]  # a dotted path, split


class Binding(NamedTuple):
    """A statement that sets a variable or an item in it: `name = value`, `name['a']['b'] = value`."""
    name: str
    steps: Steps  # inside the variable
    value: Optional[ast.expr]  # None if not written in the file, such as a loop's variable
    line: int
    is_left_over: bool = False  # the variable of a `for` or `with`


class PythonSource:
    """The statements of a python config, in order."""

    def __init__(self, source: str):
        tree = ast.parse(source)
        self.bindings = list(_bindings(tree.body))
        self.names_read: FrozenSet[str] = frozenset(
            node.id for node in ast.walk(tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
        set_by_statements = {binding.name for binding in self.bindings if not binding.is_left_over}
        # Names bound only by a `for` or `with`: helpers that python keeps, not settings.
        self.left_over: FrozenSet[str] = frozenset(binding.name
                                                   for binding in self.bindings) - set_by_statements
        self.imported: FrozenSet[str] = frozenset(
            (alias.asname or alias.name).partition('.')[0]
            for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))
            for alias in node.names) - set_by_statements

    def line_of(self, steps: Sequence[str]) -> Optional[int]:
        """Return the line of the key that sets the value at a path, or of its innermost written parent.

        Variables are followed: a step inside `pipeline=train_pipeline` is searched where `train_pipeline` is
        written.
        """
        return self._line_in_variable(steps[0], tuple(steps[1:]), len(self.bindings))

    def readers(self, variable: str, roots: Sequence[str]) -> List[str]:
        """Return dotted paths, inside the top-level names `roots`, whose expression reads a variable."""
        paths: List[str] = []
        for index, binding in enumerate(self.bindings):
            if binding.name in roots and binding.value is not None:
                start = '.'.join((binding.name, *binding.steps))
                paths += self._readers(binding.value, start, variable, index)
        return list(dict.fromkeys(paths))

    # --- lines

    def _line_in_variable(self, name: str, steps: Steps, before: int) -> Optional[int]:
        for index in range(before - 1, -1, -1):
            binding = self.bindings[index]
            shared = len(binding.steps)
            if binding.name != name or steps[:shared] != binding.steps:
                continue
            line = self._line(binding.value, steps[shared:], binding.line, index)
            if line is not None:
                return line
        return None

    def _line(self, node: Optional[ast.expr], steps: Steps, line: int,
              before: int) -> Optional[int]:
        """Return the line of a step in `node`, or `line` of its parent; None if certainly missing."""
        if not steps:
            return line
        if isinstance(node, ast.Name):
            return self._line_in_variable(node.id, steps, before) or line
        if isinstance(node, ast.Subscript):
            start = _subscript(node)
            return start and self._line_in_variable(start[0], start[1] + steps, before) or line
        if isinstance(node, ast.IfExp):
            return self._line(node.body, steps, line, before) or self._line(
                node.orelse, steps, line, before)
        items = _items(node)
        if items is not None:
            for key, value, key_line in reversed(items):
                if key == steps[0]:
                    return self._line(value, steps[1:], key_line, before)
                found = self._inside(value, steps, before) if key is None else None
                if found is not None:
                    return found
            return None
        if isinstance(node, (ast.List, ast.Tuple)) and steps[0].isdigit():
            index = int(steps[0])
            if any(isinstance(item, ast.Starred) for item in node.elts[:index + 1]):
                return line
            return self._line(node.elts[index], steps[1:], node.elts[index].lineno, before) \
                if index < len(node.elts) else None
        return line

    def _inside(self, node: ast.expr, steps: Steps, before: int) -> Optional[int]:
        """Return the line of a step in the dict unpacked by `**node`, or None if not found."""
        if isinstance(node, ast.Name):
            return self._line_in_variable(node.id, steps, before)
        return self._line(node, steps, node.lineno, before) if _items(node) is not None else None

    # --- readers

    def _readers(self, node: Optional[ast.expr], path: str, variable: str,
                 before: int) -> Iterator[str]:
        items = _items(node)
        if items is not None:
            for key, value, _ in items:
                yield from self._readers(value, path if key is None else f'{path}.{key}', variable,
                                         before)
        elif isinstance(node, (ast.List, ast.Tuple)):
            for position, item in enumerate(node.elts):
                yield from self._readers(item, f'{path}.{position}', variable, before)
        elif isinstance(node, ast.Name) and node.id != variable:
            for index in range(before - 1, -1, -1):
                binding = self.bindings[index]
                if binding.name == node.id and not binding.steps:
                    yield from self._readers(binding.value, path, variable, index)
                    break
        elif node is not None and any(
                isinstance(part, ast.Name) and part.id == variable for part in ast.walk(node)):
            yield path


class DataSource:
    """A json or yaml config."""
    left_over: FrozenSet[str] = frozenset()
    imported: FrozenSet[str] = frozenset()

    def __init__(self, source: str):
        self.root = yaml.compose(source.replace('\t', ' '), yaml.SafeLoader)
        # An alias is the node of its anchor: a value under two names is read by the later one.
        first: Dict[int, str] = {}
        shared = set()
        for key, value in getattr(self.root, 'value',
                                  ()) if isinstance(self.root, yaml.MappingNode) else ():
            for node in _nodes(value):
                if first.setdefault(id(node), str(key.value)) != str(key.value):
                    shared.add(first[id(node)])
        self.names_read: FrozenSet[str] = frozenset(shared)

    def line_of(self, steps: Sequence[str]) -> Optional[int]:
        node, line = self.root, None
        for step in steps:
            if isinstance(node, yaml.MappingNode):
                found = [(key, value) for key, value in node.value if key.value == step]
                if not found:
                    return None
                line, node = found[-1][0].start_mark.line + 1, found[-1][1]
            elif isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(
                    node.value):
                node = node.value[int(step)]
                line = node.start_mark.line + 1
            else:
                return line
        return line

    def readers(self, variable: str, roots: Sequence[str]) -> List[str]:
        return []


def _nodes(root: yaml.Node) -> Iterator[yaml.Node]:
    """Yield a node and all its descendants, each once."""
    seen, left = set(), [root]
    while left:
        node = left.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            for item in node.value if isinstance(node.value, list) else ():
                left += item if isinstance(item, tuple) else [item]


@functools.lru_cache(maxsize=1024)
def read_source(source: str, is_python: bool) -> Union[PythonSource, DataSource]:
    """Return the parsed source of a loaded text, for its line numbers."""
    return PythonSource(source) if is_python else DataSource(source)


def _bindings(statements: Sequence[ast.stmt]) -> Iterator[Binding]:
    for statement in statements:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                yield from _targets(target, statement.value)
        elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
            value = statement.value if isinstance(statement, ast.AnnAssign) else None
            yield from _targets(statement.target, value)
        elif isinstance(statement, ast.For):
            yield from _leftover_bindings(statement.target)
        elif isinstance(statement, ast.With):
            for item in statement.items:
                if item.optional_vars is not None:
                    yield from _leftover_bindings(item.optional_vars)
        elif isinstance(statement, ast.Expr):
            yield from _update(statement.value)
        for block in ('body', 'orelse', 'finalbody'):
            if not isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
                yield from _bindings(getattr(statement, block, ()))
        for part in (*getattr(statement, 'handlers', ()), *getattr(statement, 'cases', ())):
            yield from _bindings(part.body)


def _leftover_bindings(target: ast.expr) -> Iterator[Binding]:
    for binding in _targets(target, None):
        yield binding._replace(is_left_over=not binding.steps)


def _targets(target: ast.expr, value: Optional[ast.expr]) -> Iterator[Binding]:
    if isinstance(target, ast.Name):
        yield Binding(target.id, (), value, target.lineno)
    elif isinstance(target, (ast.Tuple, ast.List)):
        values: List[Optional[ast.expr]] = [None] * len(target.elts)
        if isinstance(value, (ast.Tuple, ast.List)) and len(value.elts) == len(target.elts):
            values = [*value.elts]
        for part, own in zip(target.elts, values):
            yield from _targets(part, own)
    elif isinstance(target, ast.Subscript):
        start = _subscript(target)
        if start:
            yield Binding(start[0], start[1], value, target.lineno)


def _update(node: ast.expr) -> Iterator[Binding]:
    """Yield the bindings of `name.update(key=value)`, `name['a'].update(dict(...))`."""
    if not isinstance(node, ast.Call) or not isinstance(
            node.func, ast.Attribute) or node.func.attr != 'update':
        return
    owner = node.func.value
    start = (owner.id, ()) if isinstance(owner, ast.Name) else _subscript(owner)
    items: List[Any] = [(word.arg, word.value, word.value.lineno) for word in node.keywords]
    for argument in node.args:
        items += _items(argument) or ()
    for key, value, line in items:
        if start and key is not None:
            yield Binding(start[0], (*start[1], key), value, line)


def _subscript(node: object) -> Optional[Tuple[str, Steps]]:
    """Return (variable, steps) of `name['a'][0]`, or None if a step is not a literal."""
    steps: List[str] = []
    while isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        steps.insert(0, str(node.slice.value))
        node = node.value
    return (node.id, tuple(steps)) if isinstance(node, ast.Name) else None


def _items(node: object) -> Optional[List[Tuple[Optional[str], ast.expr, int]]]:
    """Return (key, value, line of the key) of `dict(...)` or `{...}`; the key of `**value` is None."""
    if isinstance(node, ast.Dict):
        items = []
        for key, value in zip(node.keys, node.values):
            name = None if key is None else str(key.value) if isinstance(
                key, ast.Constant) else ast.dump(key)
            items.append((name, value, (key or value).lineno))
        return items
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        return [(None, argument, argument.lineno) for argument in node.args] + \
            [(word.arg, word.value, word.lineno) for word in node.keywords]
    return None
