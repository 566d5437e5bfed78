"""Config as text: python, json or yaml, which can always be read again."""
import functools
import json
import keyword
import re
from typing import TYPE_CHECKING, Any, Collection, Dict, List, Tuple

import yaml

from mmdet_ft.config.config_dict import ConfigDict, is_object, plain
from mmdet_ft.config.errors import ConfigFileError, ConfigTypeError
from mmdet_ft.config.reading import EXTENSIONS

if TYPE_CHECKING:
    from typing_extensions import TypeGuard

# yapf is worse than quadratic in a list's length: 30 s for three lists of 4000 names.
MOST_ITEMS = 100  # items of a list or dict that yapf formats
MOST_LETTERS = 30000  # characters of a statement
WIDTH = 79
NAMES_OF_TEXT = ('dict', 'float', 'globals', 'range', 'set')  # called by the text itself


def as_text(values: ConfigDict, name: str) -> str:
    """Return a config in the format of a file's name; tuples become lists in json.

    Raises ConfigTypeError for a value that no config can hold, with its dotted path.
    """
    if name.endswith('.py'):
        return as_python(values)
    if name.endswith('.json'):
        try:
            text = json.dumps(_writable(values), indent=2, default=_to_json)
        except TypeError as error:
            raise ConfigTypeError(f'{name}: {error}; dump to a .py file instead') from None
        return text.replace('{{', '{\\u007b') + '\n'
    if name.endswith(('.yaml', '.yml')):
        text = yaml.dump(_writable(values), Dumper=_YamlDumper, sort_keys=False, allow_unicode=True)
        return text.replace('{{', '{\\x7b')
    raise ConfigFileError(f'{name}: a config is one of {", ".join(EXTENSIONS)}')


def as_python(values: ConfigDict) -> str:
    """Return the values as a python config of literals, `dict(...)` and `float('inf')`."""
    # Names that the text itself calls come last: `range = 3` would shadow it for the lines below.
    items = sorted(_writable(values).items(), key=lambda item: item[0] in NAMES_OF_TEXT)
    return _layout(items)


class Code(str):
    """An expression, which `as_statements` writes as it is."""


def as_statements(items: List[Tuple[str, Any]]) -> str:
    """Return assignments in their order, with values of literals, `dict(...)` and Code."""
    return _layout(items)


def _writable(values: Dict[str, Any]) -> Dict[str, Any]:
    """Return a plain tree without top-level objects, which are helpers of a program."""
    kept = {name: value for name, value in values.items() if not is_object(value)}
    return plain(kept, _refuse)


def _refuse(path: str, value: object) -> None:
    raise ConfigTypeError(f'{path}: no config file can hold {repr(value)[:60]}; '
                          'write a number, a text, or a list or dict of them')


# --- python: yapf formats short values, and long lists are filled line by line


def _layout(items: List[Tuple[Any, Any]]) -> str:
    name = '_long_'
    while True:
        long: List[Any] = []
        statements = [(key, value, f'{_target(key)} = {_expression(value, long, name)}\n')
                      for key, value in items]
        if sum(text.count(name) for _, _, text in statements) == len(long):
            break
        name += '_'  # a value contains this name
    parts: List[str] = []
    short = ''
    for key, value, text in statements:
        if len(text) <= MOST_LETTERS:
            short += text
        else:
            start = f'{_target(key)} = '
            parts += [_format(short), f'{start}{_fill_lines(value, 0, len(start))}\n']
            short = ''
    parts.append(_format(short))

    def put_in(match):
        indent = len(match[1]) - len(match[1].lstrip())
        return match[1] + _fill_lines(long[int(match[2])], indent, WIDTH)

    text = ''.join(parts)
    pattern = re.compile(rf'(?m)^(.*?){name}(\d+)_')
    while pattern.search(text) and long:  # several in one line: one after the other
        text = pattern.sub(put_in, text)
    return text


def _target(key: object) -> str:
    """Return the assignment target of a key; json and yaml have keys that are not identifiers."""
    return key if _is_name(key) else f'globals()[{key!r}]'


def _is_name(key: object) -> 'TypeGuard[str]':
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)


def _expression(value: object, long: Any = None, name: str = '') -> str:
    """Return a value in one line; with `long`, names replace long containers, added to `long`."""
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        if long is not None and _is_long(value):
            long.append(value)
            return f'{name}{len(long) - 1}_'
        opening, items, closing = _parts(value)
        texts = [before + _expression(item, long, name) for before, item in items]
        return f'{opening}{", ".join(texts)}{closing}'
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, (str, bytes)):  # a {{ must not be read as a variable
        return repr(value).replace('{{', '{\\x7b')
    if isinstance(value, float):
        text = float.__repr__(value)
        return text if text[-1].isdigit() else f"float('{text}')"  # inf and nan
    return repr(value)


def _is_long(value: Collection[Any]) -> bool:
    """Check whether a container, or a table such as a palette, has more than MOST_ITEMS items."""
    if len(value) > MOST_ITEMS:
        return True
    if isinstance(value, dict) or not all(isinstance(item, (list, tuple)) for item in value):
        return False
    return sum(map(len, value)) > MOST_ITEMS and not any(
        isinstance(inner, (dict, list, tuple)) for item in value for inner in item)


def _parts(value: Collection[Any]) -> Tuple[str, List[Tuple[str, Any]], str]:
    """Return the opening of a container, (prefix of an item, item) pairs, and its closing."""
    if isinstance(value, dict):
        if all(map(_is_name, value)):
            return 'dict(', [(f'{key}=', item) for key, item in value.items()], ')'
        return '{', [(f'{_expression(key)}: ', item) for key, item in value.items()], '}'
    if isinstance(value, (set, frozenset)):
        items = sorted(value, key=_expression)  # the same text in every process
        return ('{', [('', item) for item in items], '}') if items else ('set(', [], ')')
    items = [('', item) for item in value]
    if isinstance(value, tuple):
        return '(', items, ',)' if len(items) == 1 else ')'
    return '[', items, ']'


def _fill_lines(value: Any, indent: int, used: int) -> str:
    """Return a value over several lines; `used` characters of the first line are taken."""
    text = _expression(value)
    is_container = isinstance(value, (dict, list, tuple, set, frozenset))
    if not is_container or not value or used + len(text) <= WIDTH:
        return text
    opening, items, closing = _parts(value)
    inner = ' ' * (indent + 4)
    if any(isinstance(item, (dict, list, tuple, set, frozenset)) for _, item in items) \
            and any(len(_expression(item)) > WIDTH // 2 for _, item in items):
        lines = [
            f'{inner}{before}{_fill_lines(item, indent + 4, indent + 4 + len(before))}'
            for before, item in items
        ]
        inside = ',\n'.join(lines)
    else:
        inside = _wrapped([before + _expression(item) for before, item in items], inner)
    return f'{opening}\n{inside}\n{" " * indent}{closing}'


def _wrapped(texts: List[str], inner: str) -> str:
    """Return items in sequence, as many on a line as fit."""
    lines, line = [], inner
    for pattern, text in enumerate(texts):
        text += ',' if pattern < len(texts) - 1 else ''
        if line != inner and len(line) + len(text) > WIDTH:
            lines.append(line.rstrip())
            line = inner
        line += text + ' '
    return '\n'.join([*lines, line.rstrip()])


@functools.lru_cache(maxsize=4)  # a run asks three times; yapf is slow
def _format(source: str) -> str:
    if not source:
        return ''
    from yapf.yapflib.yapf_api import FormatCode
    style = dict(
        based_on_style='pep8',
        blank_line_before_nested_class_or_def=True,
        split_before_expression_after_opening_paren=True)
    return FormatCode(source, style_config=style)[0]


# --- yaml and json

_FastDumper: Any = getattr(yaml, 'CSafeDumper', yaml.SafeDumper)  # C's, if built


class _YamlDumper(_FastDumper):

    def ignore_aliases(self, data: object) -> bool:
        return True

    def represent_tuple(self, value: tuple) -> yaml.Node:
        return self.represent_sequence('tag:yaml.org,2002:python/tuple', value)

    def represent_str(self, value: str) -> yaml.Node:
        style = '"' if '{{' in value else None  # braces can be escaped only in double quotes
        return self.represent_scalar('tag:yaml.org,2002:str', value, style=style)

    def represent_range(self, value: range) -> yaml.Node:
        return self.represent_sequence('tag:yaml.org,2002:seq', list(value))


_YamlDumper.add_representer(tuple, _YamlDumper.represent_tuple)
_YamlDumper.add_representer(str, _YamlDumper.represent_str)
_YamlDumper.add_representer(range, _YamlDumper.represent_range)


def _to_json(value: object) -> Any:
    if isinstance(value, (set, frozenset, range)):
        return sorted(value, key=repr) if not isinstance(value, range) else list(value)
    raise TypeError(f'json cannot hold {value!r}')
