"""List what a Python script takes from V2's packages, and what to write instead."""
import sys
from argparse import Namespace

from mmdet_ft.engine.legacy.user_code import old_names
from mmdet_ft.errors import UserError


def changes(path: str) -> int:
    """Print the changes that a script needs, and return their number. Raises UserError if it is not Python."""
    try:
        with open(path, encoding='utf-8') as file:
            names = old_names(file.read())
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror or error}') from error
    except (SyntaxError, ValueError) as error:
        raise UserError(f'{path} is not a Python script: {error}') from error
    for name in names:
        print(f'{path}:{name.line}: {name}')
    return len(names)


def main(args: Namespace) -> None:
    found = sum(changes(path) for path in args.scripts)
    if not found:
        print(f'nothing of V2 that is not here in {", ".join(args.scripts)}')
    sys.exit(1 if found else 0)
