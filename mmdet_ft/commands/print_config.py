"""Print a config as the commands see it, or which line sets a value."""
import os
from argparse import Namespace

from mmdet_ft.config.config import Config
from mmdet_ft.config.errors import ConfigError
from mmdet_ft.config.load import load_config, value_at
from mmdet_ft.engine.legacy.old_configs import modernize
from mmdet_ft.errors import UserError
from mmdet_ft.outputs import Inputs


def explain(config: Config, path: str) -> str:
    """Format the history of a value, oldest setting first.

    Raises ConfigError for a value that does not exist and never did.
    """
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
    else:
        print(f'Config:\n{config.pretty_text}')
    if args.save_path:
        save(config, args.save_path)
