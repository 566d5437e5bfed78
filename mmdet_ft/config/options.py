"""Parsing of `--cfg-options`: KEY=VALUE to values."""
import ast
import re
import sys
from argparse import Action, ArgumentParser, Namespace
from typing import Any, Callable, Dict, List, Optional, Tuple

OVER_CONFIG = (
    'values to put over those of the config: optimizer.lr=0.01 data.train.pipeline.2.flip_ratio=0. '
    """key="[(a,b),(c,d)]" 'key=dict(type="A")'""")

# Their values are paths and names and stay strings: 2024_01_05 is not a number there.
TEXT_KEYS = ('work_dir', 'load_from', 'resume_from', 'data_root', 'data_prefix', 'img_prefix',
             'seg_prefix', 'ann_file', 'proposal_file', 'ann_subdir', 'img_subdir', 'checkpoint',
             'pretrained', 'classes', 'outfile_prefix', 'jsonfile_prefix')


class Options(dict):
    """Values by dotted path; `texts` holds each as typed."""

    def __init__(self, *values: Any):
        super().__init__(*values)
        self.texts: Dict[str, str] = dict(getattr(values[0], 'texts', {})) if values else {}


def as_typed(options: Dict[str, Any], path: str, old: object) -> Any:
    """Return an option's value; over an old text like a path, a number or a date, return it as typed."""
    value, typed = options[path], getattr(options, 'texts', {}).get(path)
    if typed is None or not isinstance(old, str) or not isinstance(value, (int, float)):
        return value
    looks_alike = any(letter in old for letter in '/\\.') or old[:1].isdigit()
    return _unquoted(typed) if looks_alike and not isinstance(value, bool) else value


def _unquoted(text: str) -> str:
    """Return the text without enclosing quotes."""
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in '\'"'
    return text[1:-1] if is_quoted else text


def add_options(parser: ArgumentParser,
                name: str = '--cfg-options',
                of_what: str = OVER_CONFIG) -> None:
    """Add an option that takes KEY=VALUE arguments to a command's parser."""
    parser.add_argument(name, nargs='+', action=DictAction, metavar='KEY=VALUE', help=of_what)


def take_older_options(parser: ArgumentParser, args: Namespace, name: str) -> None:
    """Rename V2's `--options` to its later name: 'cfg_options' or 'eval_options'."""
    if args.options:
        newer = '--' + name.replace('_', '-')
        if getattr(args, name):
            parser.error(f'--options is the older spelling of {newer}: use the latter only')
        print(f'--options is now {newer}', file=sys.stderr)
        setattr(args, name, args.options)


class DictAction(Action):
    """argparse action: KEY=VALUE arguments to a dict. `a.b=1 c=x,y d=[(1,2),3]` gives, as in V2,

    {'a.b': 1, 'c': ['x', 'y'], 'd': [(1, 2), 3]}. Values are integers, floats, true or false in any
    case, None, or strings; lists and tuples of them nest. Repeated options add up.

    Beyond V2 a value, or an item of a list, may be a python dict of literals:
    `'a={"type":"A"}' 'b=[dict(type="A",x=(1,2))]'`, quoted for the shell.
    """

    def __call__(self, parser, namespace, values, option_string=None):
        options = Options(getattr(namespace, self.dest, None) or {})
        for word in values:
            key, equals, value = word.partition('=')
            key = key.strip()
            if not key or not equals:
                blanks = ' (without blanks around the =)' if '=' in values else ''
                parser.error(f'{option_string}: {word!r} is not of the form KEY=VALUE{blanks}')
            if re.search(r'\[-?\d+\]', key):
                parser.error(
                    f'{option_string}: {word!r}: an item of a list is named by its number after a point: '
                    + re.sub(r'\[(-?\d+)\]', r'.\1', key))
            try:
                is_text = key.rpartition('.')[2] in TEXT_KEYS
                options[key] = self._parse_text(value) if is_text else self._parse_iterable(value)
                options.texts[key] = value.strip()
            except ValueError as error:
                parser.error(f'{option_string}: {word!r}: {error}')
        setattr(namespace, self.dest, options)

    @staticmethod
    def _parse_int_float_bool(text: str) -> Any:
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                pass
        return {'true': True, 'false': False}.get(text.lower(), None if text == 'None' else text)

    @staticmethod
    def _parse_text(text: str) -> Any:
        """Return the value of a key with paths or names: None, a string, a dict, or lists of them.

        Enclosing quotes keep a comma; beyond V2.
        """
        inner = _unquoted(text.strip())
        if inner != text.strip() and inner[:1] not in ('(', '[', '{') and inner[0:1] not in '\'"':
            return inner
        return DictAction._parse_iterable(text, lambda word: None if word == 'None' else word)

    @staticmethod
    def _parse_iterable(text: str, leaf: Optional[Callable[[str], Any]] = None) -> Any:
        leaf = leaf or DictAction._parse_int_float_bool
        text = text.strip().strip('\'"').strip()
        if text and _end_of_dict(text) == len(text):
            return _parse_dict(text)
        if ',' not in text and text[:1] not in ('(', '['):
            return leaf(text)
        parts, first_closing = _split_at_commas(text)
        enclosed = text[0] in '([' and first_closing == len(text) - 1
        if enclosed:
            parts, _ = _split_at_commas(text[1:-1])
        elif len(parts) == 1 and text[-1] != ',':  # such as '[a]b'
            return text
        items = [DictAction._parse_iterable(part, leaf) for part in parts]
        return tuple(items) if enclosed and text[0] == '(' else items


def _split_at_commas(text: str) -> Tuple[List[str], int]:
    """Split at commas outside all brackets and dicts.

    Also return the index where the first bracket closes, or -1.
    """
    parts, start, open_brackets, first_closing, end_of_dict = [], 0, [], -1, 0
    for index, letter in enumerate(text):
        if index < end_of_dict:
            continue
        if letter in '([':
            open_brackets.append(letter)
        elif letter in ')]':
            if not open_brackets or open_brackets.pop() != {')': '(', ']': '['}[letter]:
                raise ValueError(f'{letter!r} closes no bracket')
            if not open_brackets and first_closing < 0:
                first_closing = index
        elif letter == ',' and not open_brackets:
            parts.append(text[start:index])
            start = index + 1
        elif letter in 'd{' and text[:index].rstrip()[-1:] in '([,':  # start of an item
            end_of_dict = _end_of_dict(text, index)
    if open_brackets:
        raise ValueError(f'{open_brackets[-1]!r} is not closed')
    if text[start:].strip():
        parts.append(text[start:])
    return parts, first_closing


_DICT = re.compile(r'dict\s*\(|\{\s*(?=[}"\']|\w+\s*:)')  # not '{a}/b.jpg', which is a string
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|[\[({\])}]')  # or a whole string


def _end_of_dict(text: str, start: int = 0) -> int:
    """Return the end index of a dict that begins at `start`; 0 if none begins there."""
    if not _DICT.match(text, start):
        return 0
    depth = 0
    for token in _BRACKET.finditer(text, start):
        depth += (token[0] in '[({') - (token[0] in '])}')
        if depth == 0:
            return token.end() if text[token.end():].lstrip()[:1] in ',])' else 0
    return len(text)


def _parse_dict(text: str) -> Dict[Any, Any]:
    try:
        value = _literal(ast.parse(text, mode='eval').body)
        if isinstance(value, dict):
            return value
    except (SyntaxError, ValueError, TypeError):  # TypeError: a key that is not hashable
        pass
    raise ValueError(
        f'{text} looks like a dict but cannot be read as one; in a shell write single quotes around '
        """the whole and double quotes around strings: 'key={"type":"A","x":1}'""")


def _key(node: Optional[ast.expr]) -> Any:
    """Return the key of a dict's item. Raises ValueError for `**`, which has none."""
    if node is None:
        raise ValueError('** is not a literal')
    return _literal(node)


def _literal(node: ast.AST) -> Any:
    """Return the value of a literal, of dict(name=literal, ...), and of true and false in any case."""
    if isinstance(node, ast.Dict):
        return {_key(key): _literal(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'dict' and not node.args \
            and all(word.arg for word in node.keywords):
        return {word.arg: _literal(word.value) for word in node.keywords}
    if isinstance(node, (ast.List, ast.Tuple)):
        items = [_literal(item) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Name) and node.id.lower() in ('true', 'false'):
        return node.id.lower() == 'true'
    return ast.literal_eval(node)
