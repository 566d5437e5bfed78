"""Check all configs of a folder, such as those of MMDetection V2: which run, and what the others name.

Nothing is trained and no data are read. Folders `_base_` and files without a model are left out: they are parts of
configs.
Exit code 0 if every config is right or only names types that are not supported, else 1.
"""
import argparse
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Tuple

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import UserError, command  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', help='folder of .py configs, such as configs/ of MMDetection')
    parser.add_argument('--list', action='store_true', help='print every config with its answer')
    return parser.parse_args()


# Parse the arguments before importing torch, so that --help responds at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

from mmdet_ft.config import ConfigError, load_config  # noqa: E402
from mmdet_ft.engine.config_check.check import prepare  # noqa: E402
from mmdet_ft.evaluation.table_output import table_text  # noqa: E402
from mmdet_ft.spelling import counted  # noqa: E402
from mmdet_ft.v2_types import is_not_supported  # noqa: E402


class Answer(NamedTuple):
    """What the check says about a config; a right one has neither."""
    missing: Tuple[str, ...]  # one message per type that is not supported
    mistakes: Tuple[str, ...]

    @property
    def kind(self) -> str:
        return 'mistake' if self.mistakes else 'not supported' if self.missing else 'right'


def check_file(path: Path) -> Optional[Answer]:
    """Check one config; None for a part of a config, which has no model."""
    try:
        config = load_config(str(path))
        if 'model' not in config:
            return None
        prepare(config)
    except ConfigError as error:
        messages = [str(mistake) for mistake in getattr(error, 'mistakes', [])] or [str(error)]
        missing = tuple(message for message in messages if is_not_supported(message))
        # a section that names an unsupported type is not checked further, so that only these count
        return Answer(missing, () if missing else tuple(messages))
    return Answer((), ())


def check_folder(folder: Path) -> Dict[Path, Answer]:
    """Check every config below a folder. Raises UserError if there is none."""
    paths = [path for path in sorted(folder.rglob('*.py')) if '_base_' not in path.parts]
    if not paths:
        raise UserError(f'there is no .py config in {folder}')
    answers = ((path, check_file(path)) for path in paths)
    return {path: answer for path, answer in answers if answer is not None}


def describe(answers: Dict[Path, Answer], folder: Path) -> str:
    """Return a table with a row per folder, the types that are missing, and the mistakes."""
    kinds = ('right', 'not supported', 'mistake')
    rows: Dict[str, 'Counter[str]'] = {}
    for path, answer in answers.items():
        name = str(path.parent.relative_to(folder))
        rows.setdefault(name, Counter())[answer.kind] += 1
    total = sum(rows.values(), Counter())
    table = [[name, *(str(row[kind] or '') for kind in kinds)] for name, row in rows.items()]
    table.append(['all', *(str(total[kind]) for kind in kinds)])
    lines = [table_text(['folder', *kinds], table)]
    waiting = Counter(
        message.split("'")[1] for answer in answers.values() for message in {*answer.missing}
        if "'" in message)
    lines += [
        f'{counted(count, "config")} name{"s" * (count == 1)} {name}, which is not supported'
        for name, count in waiting.most_common()
    ]
    lines += [
        f'{path}: {message}' for path, answer in answers.items() for message in answer.mistakes
    ]
    return '\n'.join(lines)


@command
def main() -> None:
    args = ARGS or parse_args()
    folder = Path(args.folder)
    answers = check_folder(folder)
    if args.list:
        for path, answer in answers.items():
            print(f'{path}: {answer.kind}')
    print(describe(answers, folder))
    sys.exit(1 if any(answer.mistakes for answer in answers.values()) else 0)


if __name__ == '__main__':
    main()
