"""A config as text: python, json or yaml."""
import ast
import functools
import json
import keyword
from typing import Any

import yaml

from mmdet_ft.config.errors import ConfigFileError
from mmdet_ft.config.reading import EXTENSIONS
from mmdet_ft.config.values import ConfigDict


def as_text(values: ConfigDict, name: str) -> str:
    """In the format of a file's name; tuples become lists in json."""
    if name.endswith('.py'):
        return as_python(values)
    if name.endswith('.json'):
        return json.dumps(
            values.to_dict(), indent=2, default=_to_json).replace('{{', '{\\u007b') + '\n'
    if name.endswith(('.yaml', '.yml')):
        text = yaml.dump(values.to_dict(), Dumper=_YamlDumper, sort_keys=False, allow_unicode=True)
        return text.replace('{{', '{\\x7b')
    raise ConfigFileError(f'{name}: a config is one of {", ".join(EXTENSIONS)}')


def as_python(values: ConfigDict) -> str:
    return _format(_python_source(values))


def _python_source(config: ConfigDict) -> str:
    # Names that python cannot write come from json and yaml.
    targets = {key: key if _is_name(key) else f'globals()[{key!r}]' for key in config}
    return ''.join(f'{targets[key]} = {_expression(value)}\n' for key, value in config.items())


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and key.isidentifier() and not keyword.iskeyword(key)


def _expression(value: Any) -> str:
    if isinstance(value, dict) and all(map(_is_name, value)):
        return f'dict({", ".join(f"{key}={_expression(item)}" for key, item in value.items())})'
    if isinstance(value, dict):
        items = (f'{_expression(key)}: {_expression(item)}' for key, item in value.items())
        return f'{{{", ".join(items)}}}'
    if type(value) is list:
        return f'[{", ".join(map(_expression, value))}]'
    if type(value) is tuple:
        return f'({", ".join(map(_expression, value))}{"," if len(value) == 1 else ""})'
    if isinstance(value, str):  # a {{ must not be read as a variable
        return str.__repr__(value).replace('{{', '{\\x7b')
    if isinstance(value, float):
        text = float.__repr__(value)
        return text if text[-1].isdigit() else f"float('{text}')"  # inf and nan
    return repr(value)


@functools.lru_cache(maxsize=4)  # a run asks three times; yapf takes its time
def _format(source: str) -> str:
    from yapf.yapflib.yapf_api import FormatCode
    style = dict(
        based_on_style='pep8',
        blank_line_before_nested_class_or_def=True,
        split_before_expression_after_opening_paren=True)
    try:
        ast.parse(source)
    except SyntaxError:  # a value without a literal, such as a class: readable, if not loadable
        return source
    return FormatCode(source, style_config=style)[0]


class _YamlDumper(yaml.SafeDumper):

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_tuple(self, value: tuple) -> yaml.Node:
        return self.represent_sequence('tag:yaml.org,2002:python/tuple', value)

    def represent_str(self, value: str) -> yaml.Node:
        style = '"' if '{{' in value else None  # only there can a brace be escaped
        return self.represent_scalar('tag:yaml.org,2002:str', value, style=style)


_YamlDumper.add_representer(tuple, _YamlDumper.represent_tuple)
_YamlDumper.add_representer(str, _YamlDumper.represent_str)


def _to_json(value: Any) -> Any:
    if isinstance(value, (set, range)):
        return list(value)
    if hasattr(value, 'tolist'):  # numpy
        return value.tolist()
    raise TypeError(f'json cannot hold {value!r}; dump to a .py file instead')
