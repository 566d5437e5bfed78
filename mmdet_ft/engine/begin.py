"""How a command begins: what can be refused without torch is refused before torch is imported, which takes seconds."""
import argparse
import os
from typing import Any, Callable, Dict, NamedTuple, Tuple

from mmdet_ft import file_kinds
from mmdet_ft.checkpoints import sources
from mmdet_ft.config.load import load_config
from mmdet_ft.engine.errors import command, is_user_mistake
from mmdet_ft.errors import UsageError

# Arguments of commands that name a file to read.
CHECKPOINTS = ('checkpoint', 'in_file')
RESULTS = ('pkl_results', 'prediction_path', 'results')
FILES = (*RESULTS, 'failure', 'source', 'root', 'img_path')


class _Wanted(NamedTuple):
    """What an argument names, in words, and the kinds of files that it cannot mean."""
    words: str
    wrong: Tuple[str, ...]


_DATA = (file_kinds.ANNOTATIONS, file_kinds.LOG, file_kinds.IMAGE)
_CONFIG = _Wanted('a config (.py, .json, .yaml)',
                  (*_DATA, file_kinds.EMPTY, file_kinds.FOLDER, file_kinds.CHECKPOINT,
                   file_kinds.PICKLE, file_kinds.ARCHIVE))
_CHECKPOINT = _Wanted('a checkpoint (.pth)', (*_DATA, file_kinds.CONFIG))
_RESULTS = _Wanted('results of tools/test.py --out (.pkl, of a classifier also .json)',
                   (*_DATA, file_kinds.EMPTY, file_kinds.FOLDER, file_kinds.CHECKPOINT,
                    file_kinds.CONFIG, file_kinds.ARCHIVE, file_kinds.TEXT))
WANTED: Dict[str, _Wanted] = {
    'config': _CONFIG,
    **dict.fromkeys(CHECKPOINTS, _CHECKPOINT),
    **dict.fromkeys(RESULTS, _RESULTS)
}


def begin(parse_args: Callable[[], argparse.Namespace]) -> argparse.Namespace:
    """Return a command's arguments, after the config that they name has been read and its files have been looked for.

    Ends the process with a message and exit code 2 where one of them cannot be had, or is of another kind.
    """
    found = []

    @command
    def read() -> None:
        args = parse_args()
        try:
            look_at_files(args)
        except Exception as error:
            if is_user_mistake(error):
                error.exit_code = 2  # of the command line
            raise
        found.append(args)

    read()
    return found[0]


def look_at_files(args: argparse.Namespace) -> None:
    """Read the config that the arguments of a command name, and look for its other files.

    Raises ConfigError, CheckpointError or UsageError where one is not there or of another kind.
    """
    for name in WANTED:
        _require_kind(args, name)
    if getattr(args, 'config', None):
        load_config(args.config, getattr(args, 'cfg_options', None))
    for name in CHECKPOINTS:
        path = getattr(args, name, None)
        if path and '://' not in path:  # a URL is fetched when the model has been built
            sources.resolve(path)
    for name in FILES:
        path = getattr(args, name, None)
        if path and not os.path.exists(path):
            raise UsageError(f'there is no file {path!r} (looked from {os.getcwd()})')


def _require_kind(args: argparse.Namespace, name: str) -> None:
    """Raise UsageError for a file of a kind that an argument cannot mean; it names both kinds, and what was swapped."""
    path: Any = getattr(args, name, None)
    if not isinstance(path, str) or '://' in path:
        return
    kind = file_kinds.kind_of_file(os.path.expanduser(path))
    if kind not in WANTED[name].wrong:
        return
    others = [
        other for other in WANTED if other != name and isinstance(getattr(args, other, None), str)
        and kind not in WANTED[other].wrong
        and file_kinds.kind_of_file(getattr(args, other)) not in WANTED[name].wrong
    ]
    swapped = f'; {name} and {others[0]} are swapped, most likely' if others else ''
    raise UsageError(f'{name} {path} is {kind}, expected {WANTED[name].words}{swapped}')
