"""List what a Python script or module takes from mmdet, mmcls or mmcv of V2's time, and what to write instead.

The script is read, not run. Exit code 0 where there is nothing to change, else 1.
"""
import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import UserError, command  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('scripts', nargs='+', help='.py files')
    return parser.parse_args()


# Parse the arguments before importing torch, so that --help responds at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

import mmdet_ft.datasets  # noqa: E402, F401: their types are looked up
import mmdet_ft.engine.hooks  # noqa: E402, F401
import mmdet_ft.models  # noqa: E402, F401
from mmdet_ft.engine.legacy.user_code import old_names  # noqa: E402


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


@command
def main() -> None:
    args = ARGS or parse_args()
    found = sum(changes(path) for path in args.scripts)
    if not found:
        print(f'nothing of V2 that is not here in {", ".join(args.scripts)}')
    sys.exit(1 if found else 0)


if __name__ == '__main__':
    main()
