"""Check that a run does not overwrite a file it has read: `load_from`, or weights that a model names."""
import math
import os
import re
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple

from mmdet_ft.checkpoints.writing import INTERRUPTED
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.settings.keys import leaves
from mmdet_ft.engine.settings.records import RunSettings, WeightSettings

LATEST = 'latest.pth'


class _Series(NamedTuple):
    """Checkpoints of a run, numbered in their names by multiples of `interval` up to `end`.

    pattern: of the name, with the number as its only group. is_any: other numbers up to `end` too.
    """
    folder: str
    pattern: str
    interval: int
    end: float
    is_any: bool = False

    def writes(self, folder: str, name: str) -> bool:
        """Return whether the run may write a file of this name; it deletes old ones by the same names."""
        match = re.fullmatch(self.pattern, name)
        if folder != self.folder or match is None or not 0 < int(match[1]) <= self.end:
            return False
        return self.is_any or int(
            match[1]) == self.end or self.interval > 0 and int(match[1]) % self.interval == 0


def refuse_overwriting(settings: RunSettings, work_dir: str) -> None:
    """Raise UserError if a run in `work_dir` could overwrite, or delete, weights that it starts from.

    A resumed run reads none of them.
    """
    weights = settings.weights
    if weights.resume_from:
        return
    for key, path in _sources(weights):
        real = os.path.realpath(os.path.expanduser(path))
        reason = _reason(settings, os.path.realpath(work_dir),
                         real) if os.path.isfile(real) else None
        if reason:
            where = weights.keys.where(key)
            raise UserError(
                f'{key} = {path!r}{f" ({where})" if where else ""}: {reason}, which would destroy the weights that the '
                f'run begins from; to fix: name another folder with --work-dir, or copy the file out of this one'
            )


def _sources(weights: WeightSettings) -> Iterator[Tuple[str, str]]:
    """Yield (key, path) of the weights that a run reads."""
    source = weights.load_from
    source = source.get('checkpoint') if isinstance(source, dict) else source
    for path in source if isinstance(source, (list, tuple)) else [source]:
        if isinstance(path, (str, os.PathLike)):
            yield 'load_from', os.fspath(path)
    for path, value in leaves(weights.model, 'model'):
        if isinstance(value, str) and path.split('.')[-1] in ('checkpoint', 'pretrained'):
            yield path, value


def _reason(settings: RunSettings, work_dir: str, path: str) -> Optional[str]:
    """Say what the run does to a file, given without links; None if it does not touch it."""
    folder, name = os.path.split(path)
    regular = None if settings.hooks.checkpoint is None else _regular(
        settings, settings.hooks.checkpoint, work_dir)
    if regular is not None and regular.writes(folder, name):
        return f'the run writes a checkpoint of its own as {name} there'
    if name == LATEST and folder in (work_dir, regular
                                     and regular.folder):  # a file, and no link to another
        return f'the run puts a {LATEST} of its own there'
    if name == INTERRUPTED and folder == work_dir:
        return f'a run that is stopped writes its {INTERRUPTED} there'
    best = _best(settings, work_dir)
    if best is not None and best.writes(folder, name):
        return f'the run can write its best checkpoint as {name} there'
    return None


def _regular(settings: RunSettings, own: Dict[str, Any], work_dir: str) -> _Series:
    """Return the checkpoints that `checkpoint_config`, here `own`, writes."""
    by_epoch, end = _unit(settings, own)
    folder = os.path.realpath(own.get('out_dir') or work_dir)
    if folder != work_dir:
        folder = os.path.join(folder, os.path.basename(work_dir))
    start, _, rest = (own.get('filename_tmpl')
                      or ('epoch_{}.pth' if by_epoch else 'iter_{}.pth')).partition('{}')
    return _Series(folder, rf'{re.escape(start)}(\d+){re.escape(rest)}', own.get('interval', -1),
                   end, settings.hooks.early_stop is not None)


def _best(settings: RunSettings, work_dir: str) -> Optional[_Series]:
    """Return the checkpoints that `evaluation.save_best` writes."""
    own = settings.hooks.evaluation
    if not own.get('save_best') or not settings.data.val:
        return None
    by_epoch, end = _unit(settings, own)
    metric = '.+' if own['save_best'] == 'auto' else re.escape(own['save_best'])
    return _Series(work_dir, rf'best_{metric}_{"epoch" if by_epoch else "iter"}_(\d+)\.pth',
                   own.get('interval', 1), end, bool({'start', 'dynamic_intervals'} & set(own)))


def _unit(settings: RunSettings, own: Mapping[str, Any]) -> Tuple[bool, float]:
    """Return (whether a hook's own settings count epochs, the run's length in that unit; infinite if
    the config gives none)."""
    by_epoch = own.get('by_epoch', settings.by_epoch)
    end = settings.runner.get('max_epochs' if by_epoch else 'max_iters')
    return by_epoch, math.inf if end is None else end
