"""Print a config as the commands see it: bases merged, references replaced, options on top; or say where a
value comes from."""
import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # beside tools/

from mmdet_ft.config import Config, ConfigError, load_config, value_at  # noqa: E402
from mmdet_ft.config.options import add_options, take_older_options  # noqa: E402
from mmdet_ft.engine.begin import read_arguments  # noqa: E402


def parse_args(arguments=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='path of a config')
    add_options(parser, '--options', 'older spelling of --cfg-options')
    add_options(parser)
    parser.add_argument(
        '--explain',
        nargs='+',
        metavar='KEY',
        help='print which file and line set a value: model.backbone.depth')
    parser.add_argument(
        '--save-path', metavar='FILE', help='write it too, as .py, .json, .yaml or .yml')
    args = parser.parse_args(arguments)
    take_older_options(parser, args, 'cfg_options')
    return args


# Parse arguments and read the config before importing torch: --help and wrong paths respond at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

from mmdet_ft.engine.legacy.old_configs import modernize  # noqa: E402
from mmdet_ft.errors import UserError  # noqa: E402
from mmdet_ft.outputs import Inputs  # noqa: E402


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


def _short(value) -> str:
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


def main(arguments=None) -> None:
    args = ARGS or parse_args(arguments)
    try:
        config = load_config(args.config, args.cfg_options)
        if args.explain:
            print('\n'.join(explain(config, path) for path in args.explain))
        else:
            print(f'Config:\n{config.pretty_text}')
        if args.save_path:
            save(config, args.save_path)
    except (ConfigError, UserError) as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(getattr(error, 'exit_code', 1))


if __name__ == '__main__':
    main()
