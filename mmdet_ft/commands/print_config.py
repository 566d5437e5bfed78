"""Print a config as the commands see it, or which line sets a value."""
import os
from argparse import Namespace
from typing import Any, Iterator, List, Tuple

from mmdet_ft.config.config import Config
from mmdet_ft.config.errors import ConfigError
from mmdet_ft.config.load import load_config, value_at
from mmdet_ft.errors import UserError
from mmdet_ft.outputs import Inputs, print_text


def explain(config: Config, path: str) -> str:
    """Format the history of a value, oldest setting first.

    Raises ConfigError for a value that does not exist and never did.
    """
    from mmdet_ft.engine.legacy.old_configs import \
        modernize  # imports torch, which printing does not need
    modern, notes = modernize(config)
    config = modern if _has(modern, path) or not _has(config, path) else config
    settings = config.history(path)
    width = max((len(setting.where) for setting in settings), default=0)
    gone = settings and not _has(config, path)
    lines = [f'{path} is dropped' if gone else f'{path} = {_short(value_at(config, path))}']
    for setting in settings:
        lines.append(f'  {setting.where:<{width}}  ' + (
            'dropped, with what is around it' if setting.is_dropped else _short(setting.value)))
    if not settings:
        lines.append('  set by no file and no option')
    return '\n'.join(lines + [f'  ({note})' for note in notes if path in note])


def _has(config: Config, path: str) -> bool:
    try:
        value_at(config, path)
    except ConfigError:
        return False
    return True


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + '...'


def origins(config: Config) -> Iterator[str]:
    """Yield a line for each value: its path, the value, and the `file:line` or option that set it last."""
    leaves = [(path, _short(value)) for path, value in _leaves(config._cfg_dict, '')]
    width = min(max((len(path) + len(value) for path, value in leaves), default=0), 70)
    for path, value in leaves:
        yield f'{f"{path} = {value}":<{width + 3}}  {config.where(path) or "set by no file"}'


def _leaves(value: object, path: str) -> Iterator[Tuple[str, Any]]:
    """Yield (dotted path, value) of everything that is no dict and no list of dicts."""
    items: List[Tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value):
        items = list(enumerate(value))
    if not items:
        yield path, value
    for key, item in items:
        yield from _leaves(item, f'{path}.{key}' if path else str(key))


def save(config: Config, path: str) -> None:
    """Write a config. Raises OutputError if it would overwrite an input, UserError if it cannot be written."""
    Inputs(layer.path for layer in config.layers).require_free(path, '--save-path')
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        config.dump(path)
    except OSError as error:
        raise UserError(
            f'--save-path {path} cannot be written: {error.strerror or error}') from error


def main(args: Namespace) -> None:
    config = load_config(args.config, args.cfg_options)
    if args.explain:
        print('\n'.join(explain(config, path) for path in args.explain))
    elif args.origins:
        print_text('\n'.join(origins(config)))
    else:
        print_text(f'Config:\n{config.pretty_text}')
    if args.save_path:
        save(config, args.save_path)
