"""`mmdet-ft`: finds the command, reads its arguments, then imports torch and runs it."""
import importlib
import os
import sys
from typing import List, Sequence

from mmdet_ft.command_names import COMMANDS, PROGRAM, CommandName, find_command, named
from mmdet_ft.commands import parsing
from mmdet_ft.engine import begin, errors
from mmdet_ft.spelling import did_you_mean

# libgomp reads it when torch starts its threads: waiting threads release their core soon. On shared cores, steps took
# up to eight times longer without it.
SPINS = '2000'


def main() -> None:
    """Run the command that `mmdet-ft` or `python -m mmdet_ft` was given."""
    words = sys.argv[1:]
    is_module = os.path.basename(sys.argv[0]) == '__main__.py'
    program = 'python -m mmdet_ft' if is_module else PROGRAM
    found = find_command(words)
    if found is None:
        return answer(program, words)
    command, typed = found
    run(command, words[typed:], ' '.join([program, *words[:typed]]))


def run_tool(name: str) -> None:
    """Run a command by its name with the arguments of this process; for the scripts in tools/."""
    run(named(name), sys.argv[1:], f'python {sys.argv[0]}')


def run(command: CommandName, words: Sequence[str], prog: str) -> None:
    """Read the arguments and the files that they name, then import the body of the command and run it."""
    args = begin.read_arguments(lambda: parsing.parse(command, words, prog))
    os.environ.setdefault('GOMP_SPINCOUNT', SPINS)
    body = importlib.import_module(f'mmdet_ft.commands.{command.body or command.module}')
    errors.command(lambda: body.main(args))()


def answer(program: str, words: List[str]) -> None:
    """Print help or the version. Ends the process with exit code 2 for words that name no command."""
    first, rest = (words[0], words[1:]) if words else ('', [])
    if first in ('-h', '--help', 'help'):
        print(help_text(program))
    elif first in ('-V', '--version'):
        from mmdet_ft import __version__
        print(f'{PROGRAM} {__version__}')
    elif members(first) and (not rest or rest[0] in ('-h', '--help')):
        print(help_of_group(program, first))
    else:
        print(f'{program}: error: {mistake(program, words)}', file=sys.stderr)
        sys.exit(2)


def members(group: str) -> List[CommandName]:
    """Return the commands of two words that begin with `group`."""
    return [command for command in COMMANDS if command.name.startswith(f'{group} ')]


def help_text(program: str) -> str:
    """Return the help on all commands, a line each."""
    rows = []
    for command in COMMANDS:
        group = command.name.partition(' ')[0]
        if command.name == group:
            rows.append((group, parsing.summary_of(command)))
        elif not any(name == group for name, _ in rows):
            forms = ', '.join(other.name.split()[1] for other in members(group))
            rows.append((group, f'Turn annotations into or from a COCO json: {forms}'))
    return (
        f'usage: {program} COMMAND [arguments]\n\n{parsing.columns(rows)}\n\n'
        f'{program} COMMAND --help has the arguments of a command; README.md and docs/ the rest.')


def help_of_group(program: str, group: str) -> str:
    """Return the help on the commands that share their first word, a line each."""
    rows = [(command.name.split()[1], parsing.summary_of(command)) for command in members(group)]
    return (f'usage: {program} {group} FORM [arguments]\n\n{parsing.columns(rows)}\n\n'
            f'{program} {group} FORM --help has its arguments.')


def mistake(program: str, words: List[str]) -> str:
    """Describe what is wrong with words that name no command, with the nearest one."""
    if not words:
        return f'which command? {program} --help lists them'
    if members(words[0]):
        names = [command.name.split()[1] for command in members(words[0])]
        near = did_you_mean(words[1], names)
        return f'there is no {words[0]} {words[1]!r}; {near or "there are " + ", ".join(names)}'
    names = [
        name for command in COMMANDS for name in (command.name.split()[0], command.script_name)
    ]
    near = did_you_mean(words[0].replace('-', '_'), names)
    return f'there is no command {words[0]!r}; {near or f"{program} --help lists them"}'
