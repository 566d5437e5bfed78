"""Check all configs of a folder: which run, and what the others name."""
import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Tuple

from mmdet_ft.config.errors import ConfigError
from mmdet_ft.config.load import load_config
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.errors import UserError
from mmdet_ft.evaluation.table_output import table_text
from mmdet_ft.spelling import counted
from mmdet_ft.v2_types import is_not_supported


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


def main(args: Namespace) -> None:
    folder = Path(args.folder)
    answers = check_folder(folder)
    if args.list:
        for path, answer in answers.items():
            print(f'{path}: {answer.kind}')
    print(describe(answers, folder))
    sys.exit(1 if any(answer.mistakes for answer in answers.values()) else 0)
