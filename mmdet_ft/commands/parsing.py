"""Parsers of commands: a short usage line, and one line an argument where it fits."""
import argparse
import importlib
import shutil
from typing import Any, Iterable, NoReturn, Optional, Sequence, Tuple

from mmdet_ft.command_names import CommandName

ARGUMENTS = 'mmdet_ft.commands.arguments'


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help that fits a screen: as wide as the terminal, up to 120 columns, and a usage without optional arguments."""

    def __init__(self, prog: str, **settings: Any):
        columns = shutil.get_terminal_size().columns
        settings = {'width': max(60, min(columns, 122) - 2), 'max_help_position': 30, **settings}
        super().__init__(prog, **settings)

    def _format_usage(self, usage: Optional[str], actions: Iterable[argparse.Action],
                      groups: Iterable[Any], prefix: Optional[str]) -> str:
        if usage is not None:
            return super()._format_usage(usage, actions, groups, prefix)
        actions = [action for action in actions if action.help != argparse.SUPPRESS]
        needed = [action for action in actions if action.required or not action.option_strings]
        text = super()._format_usage(None, needed, [], prefix).rstrip('\n')
        return f'{text} [options]\n\n' if len(needed) < len(actions) else f'{text}\n\n'

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if action.nargs == '+' and isinstance(action.metavar, (str, type(None))):
            return f'{action.metavar or default_metavar} ...'
        return super()._format_args(action, default_metavar)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        """Return the last word of a long name: FILE of `--output-file`."""
        return action.dest.rpartition('_')[2].upper()


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with that help; a mistake points to it."""

    def __init__(self, *arguments: Any, **settings: Any):
        settings.setdefault('formatter_class', HelpFormatter)
        super().__init__(*arguments, **settings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'{self.format_usage().strip()}\n{self.prog}: error: {message}\n')


def build_parser(command: CommandName, prog: str) -> Parser:
    """Build the parser of a command; `prog` is how it was typed."""
    module = importlib.import_module(f'{ARGUMENTS}.{command.module}')
    parser = Parser(
        prog=prog, description=(module.__doc__ or '').strip(), epilog=getattr(module, 'EPILOG', ''))
    module.add_arguments(parser)
    return parser


def parse(command: CommandName, words: Sequence[str], prog: str) -> argparse.Namespace:
    """Parse the arguments of a command. Ends the process with exit code 2 for a mistake."""
    parser = build_parser(command, prog)
    args = parser.parse_args(list(words))
    check = getattr(
        importlib.import_module(f'{ARGUMENTS}.{command.module}'), 'check_arguments', None)
    if check is not None:
        check(parser, args)
    return args


def summary_of(command: CommandName) -> str:
    """Return the first sentence on a command."""
    doc = importlib.import_module(f'{ARGUMENTS}.{command.module}').__doc__ or ''
    return doc.strip().splitlines()[0].rstrip('.')


def columns(rows: Sequence[Tuple[str, str]]) -> str:
    """Return names and sentences on them in two columns, each cut to the width of the terminal."""
    width = max(60, shutil.get_terminal_size().columns)
    first = max(len(name) for name, _ in rows)
    lines = [f'  {name:<{first}}  {text}'.rstrip() for name, text in rows]
    return '\n'.join(line if len(line) <= width else f'{line[:width - 4]} ...' for line in lines)
