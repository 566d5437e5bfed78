"""The batch size that `optimizer.lr` of a config is set for: `auto_scale_lr`."""
from typing import NamedTuple, Optional

from mmdet_ft.config.config import Config
from mmdet_ft.config.layers import Setting

SCALE_FLAG = '--auto-scale-lr'  # of tools/train.py
AT_HAND = 'the images of a step of this run'
# Their step hardly grows with the gradient: the linear scaling rule is for SGD and does not hold for these.
ADAPTIVE = ('ada', 'nadam', 'radam', 'sparseadam', 'rmsprop', 'rprop', 'lamb', 'lion')


class Rate(NamedTuple):
    """The batch size of `optimizer.lr`, from the files that set it and `auto_scale_lr`."""
    lr: float
    where: str  # ' (configs/my/x.py:7)', or '' where no file sets it
    base: Optional[int]  # images per step of the rate; None: those of this run
    optimizer: str
    is_adaptive: bool
    is_enabled: bool  # auto_scale_lr.enable
    is_forced: bool  # by --auto-scale-lr


def read_rate(cfg: Config) -> Optional[Rate]:
    """Return the batch size that `optimizer.lr` is set for; None if the config does not give it.

    `auto_scale_lr.base_batch_size` applies to rates of its own file, of that file's bases and of
    their siblings. A rate that is set later, by a child, on the command line or by a program, is
    for the current batch size. The exception is a child that also sets `enable=True`.
    """
    settings = cfg.get('auto_scale_lr') or {}
    optimizer = cfg.get('optimizer') or {}
    base, lr = settings.get('base_batch_size'), optimizer.get('lr')
    if not base or not lr:
        return None
    is_enabled = bool(settings.get('enable'))
    rate = _Origin.of(cfg, 'optimizer.lr', lr)
    is_own = cfg.where('auto_scale_lr.base_batch_size') == AT_HAND or rate.is_later_than(
        _Origin.of(cfg, 'auto_scale_lr.base_batch_size', base),
        cfg) and not (is_enabled and not rate.is_later_than(
            _Origin.of(cfg, 'auto_scale_lr.enable', is_enabled), cfg))
    kind = optimizer.get('type')
    name = str(getattr(kind, '__name__', kind))
    enabled_by = cfg.where('auto_scale_lr.enable')
    return Rate(lr, f' ({rate.where})' if rate.where else '', None if is_own else base, name,
                name.lower().startswith(ADAPTIVE), is_enabled, enabled_by == SCALE_FLAG)


class _Origin(NamedTuple):
    """The last source that set a value."""
    setting: Optional[Setting]  # None for a config without files
    by_program: bool  # neither files nor options set this value

    @classmethod
    def of(cls, cfg: Config, path: str, value: object) -> '_Origin':
        history = cfg.history(path)
        last = history[-1] if history else None
        is_reference = last is not None and '${' in str(last.value)
        return cls(last, last is None or not is_reference and last.value != value)

    @property
    def where(self) -> str:
        return 'set by the program' if self.by_program and self.setting else (
            self.setting.where if self.setting else '')

    def is_later_than(self, other: '_Origin', cfg: Config) -> bool:
        """Return whether this source overrides the other one."""
        if self.by_program or other.by_program:
            return self.by_program and not other.by_program
        ours, theirs = self.setting.file, other.setting.file
        if ours is None or theirs is None:  # the command line overrides all files
            return ours is None and theirs is not None
        return ours != theirs and theirs in _bases_of(ours, cfg)


def _bases_of(path: str, cfg: Config) -> set:
    """Return the base files of a file, at any depth."""
    bases = {layer.path: layer.bases for layer in cfg.layers if layer.path is not None}
    found, left = set(), [path]
    while left:
        for base in bases.get(left.pop(), ()):
            if base not in found:
                found.add(base)
                left.append(base)
    return found


def settle_rate(cfg: Config, images_per_step: int) -> None:
    """Write into the config that a rate set later than `base_batch_size` is for this run's batch size.

    A dumped config is a single file without the origin of its values: a new training from it would
    scale the rate.
    """
    rate = read_rate(cfg)
    if rate is not None and rate.base is None:
        settings = dict(cfg.auto_scale_lr, base_batch_size=images_per_step)
        cfg.override('auto_scale_lr', settings, AT_HAND)
