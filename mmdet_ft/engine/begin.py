"""Start of a command: errors that can be found without torch are raised before its import, which takes seconds."""
import argparse
import os
import sys
from typing import Any, Callable, Dict, NamedTuple, Tuple

from mmdet_ft import file_kinds
from mmdet_ft.checkpoints import file_formats, sources
from mmdet_ft.command_names import how_to_run
from mmdet_ft.config.config import Config
from mmdet_ft.config.load import load_config
from mmdet_ft.config.shipped import find_config
from mmdet_ft.engine.errors import command, from_command_line
from mmdet_ft.engine.settings.keys import ConfigKeys
from mmdet_ft.errors import CheckpointError, UsageError

# Arguments of commands that name a file to read.
CHECKPOINTS = ('checkpoint', 'in_file')
RESULTS = ('pkl_results', 'prediction_path', 'results')
FILES = (*RESULTS, 'failure', 'source')
FOLDERS = ('root', 'img_path')


class _ExpectedFile(NamedTuple):
    """A description of an argument's file, and the kinds of files that it cannot be."""
    words: str
    wrong: Tuple[str, ...]


_DATA = (file_kinds.ANNOTATIONS, file_kinds.LOG, file_kinds.IMAGE)
_CONFIG = _ExpectedFile('a config (.py, .json, .yaml)',
                        (*_DATA, file_kinds.EMPTY, file_kinds.FOLDER, file_kinds.CHECKPOINT,
                         file_kinds.PICKLE, file_kinds.ARCHIVE))
_CHECKPOINT = _ExpectedFile('a checkpoint (.pth)', file_formats.NOT_WEIGHTS)
_RESULTS = _ExpectedFile(
    f'results of `{how_to_run("test")} --out` (.pkl, of a classifier also .json)',
    (*_DATA, file_kinds.EMPTY, file_kinds.FOLDER, file_kinds.CHECKPOINT, file_kinds.CONFIG,
     file_kinds.ARCHIVE, file_kinds.TEXT))
WANTED: Dict[str, _ExpectedFile] = {
    'config': _CONFIG,
    **dict.fromkeys(CHECKPOINTS, _CHECKPOINT),
    **dict.fromkeys(RESULTS, _RESULTS)
}


def read_arguments(parse_args: Callable[[], argparse.Namespace]) -> argparse.Namespace:
    """Return a command's arguments, after reading the config that they name and checking that its files exist.

    Ends the process with a message and exit code 2 if one of them is missing, or of another kind.
    """
    found = []

    @command
    def read() -> None:
        args = parse_args()
        with from_command_line():
            check_files(args)
        found.append(args)

    read()
    return found[0]


def check_files(args: argparse.Namespace) -> None:
    """Read the config that the arguments of a command name, and check that its other files exist.

    Raises ConfigError, CheckpointError or UsageError if one is missing or of another kind.
    """
    for name in WANTED:
        _require_kind(args, name)
    cfg = None
    if getattr(args, 'config', None):
        args.config = _find_config(args.config)
        cfg = load_config(args.config, getattr(args, 'cfg_options', None))
    for name in CHECKPOINTS:
        path = getattr(args, name, None)
        if path:
            require_weights(path)
    if cfg is not None and hasattr(args, 'auto_resume') and not args.dry_run:  # it lists what fails
        if args.resume_from:
            cfg.override('resume_from', args.resume_from, '--resume-from')
        check_named_weights(cfg, args.auto_resume)
    for name in (*FILES, *FOLDERS):
        path = getattr(args, name, None)
        if path and not os.path.exists(path):
            what = 'folder' if name in FOLDERS else 'file'
            raise UsageError(f'there is no {what} {path!r} (looked from {os.getcwd()})')


def _find_config(name: str) -> str:
    """Return the path of a config, and say so where a name without a scope is that of a shipped one."""
    path = find_config(name)
    if path != name and '::' not in name:
        print(f'{name} is the shipped config {path}', file=sys.stderr)
    return path


def require_weights(source: Any) -> None:
    """Refuse a checkpoint, or alternatives, of which the first one that is there holds no weights.

    Reads the first bytes only. A URL is not fetched, and passes. Raises CheckpointError.
    """
    failures = []
    for name in map(str, [source] if isinstance(source, (str, os.PathLike)) else source):
        if '://' in name:  # downloaded after the model has been built
            return
        try:
            path = sources.resolve(name)
        except CheckpointError as error:
            failures.append(str(error))
            continue
        problem = file_formats.describe_wrong_file(path)
        if problem:
            raise CheckpointError(f'checkpoint {path} {problem}')
        return
    raise CheckpointError('\n  '.join(failures) or 'no checkpoint is named')


def check_named_weights(cfg: Config, may_resume: bool = False) -> None:
    """Check the files of `resume_from` and `load_from` of a config that a run is going to read.

    Args:
        may_resume: the run may continue from a checkpoint of its own, and then reads no `load_from`.

    Raises CheckpointError with the key, its line and the fix.
    """
    key = 'resume_from' if cfg.get('resume_from') else 'load_from'
    source = cfg.get(key)
    if isinstance(source, dict):
        source = source.get('checkpoint')
    names = source if isinstance(source, (list, tuple)) else [source]
    if key == 'load_from' and (may_resume or cfg.get('auto_resume')) or not source or not all(
            isinstance(name, str) for name in names):
        return  # the config check refuses what is no name
    try:
        require_weights(source)
    except CheckpointError as error:
        index = ConfigKeys(cfg).find(key, lambda path, value: value in names)
        raise CheckpointError(
            f'{index} = {source!r}: {error}. To fix: correct the path, or put the file there'
        ) from None


def _require_kind(args: argparse.Namespace, name: str) -> None:
    """Raise UsageError for a file of the wrong kind for an argument; names both kinds, and swapped arguments."""
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
