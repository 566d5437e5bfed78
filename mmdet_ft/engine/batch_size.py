"""Images per step, and the learning rate scaled for them: `auto_scale_lr` of a config."""
from typing import Any, NamedTuple, Optional

from mmdet_ft.config.config import Config
from mmdet_ft.config.layers import Setting
from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.loaders import train_loader_settings
from mmdet_ft.engine.optimizers.optimizer_step import read_update
from mmdet_ft.engine.runner.base import BaseRunner

SCALE_FLAG = '--auto-scale-lr'  # of tools/train.py
AT_HAND = 'the images of a step of this run'
# Their step hardly grows with the gradient: the linear scaling rule is for SGD and does not hold for these.
ADAPTIVE = ('ada', 'nadam', 'radam', 'sparseadam', 'rmsprop', 'rprop', 'lamb', 'lion')


def images_per_step(cfg: Config) -> int:
    """Return the number of images per optimizer step, over all processes."""
    return _images(cfg, dist.get_dist_info()[1])


def _images(cfg: Config, num_processes: int) -> int:
    per_process = train_loader_settings(cfg, 0)['samples_per_gpu']
    return per_process * num_processes * read_update(cfg.get('optimizer_config')).cumulative_iters


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
    def of(cls, cfg: Config, path: str, value: Any) -> '_Origin':
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


def settle_rate(cfg: Config, num_processes: int) -> None:
    """Write into the config that a rate set later than `base_batch_size` is for this run's batch size.

    A dumped config is a single file without the origin of its values: a new training from it would
    scale the rate.
    """
    rate = read_rate(cfg)
    if rate is not None and rate.base is None:
        settings = dict(cfg.auto_scale_lr, base_batch_size=_images(cfg, num_processes))
        cfg.override('auto_scale_lr', settings, AT_HAND)


def scale_learning_rate(cfg: Config, num_processes: int, logger: Any) -> None:
    """Scale `optimizer.lr` in proportion to the images per step (Goyal et al. 2017, sec. 2.1), if
    `auto_scale_lr` enables it for that rate."""
    rate = read_rate(cfg)
    if rate is None:
        logger.info('Automatic scaling of learning rate (LR) has been disabled.')
        return
    images = _images(cfg, num_processes)
    as_written = f'lr {rate.lr:g} as written{rate.where} for {images} images a step; not scaled'
    if rate.base is None:
        logger.info(as_written)
        return
    if not rate.is_enabled:
        logger.info('Automatic scaling of learning rate (LR) has been disabled.')
        return
    if rate.is_adaptive and not rate.is_forced:
        logger.info(f'{as_written}: linear scaling is a rule for SGD, not for {rate.optimizer}; '
                    f'{SCALE_FLAG} scales it all the same')
        return
    per_process = train_loader_settings(cfg, 0)['samples_per_gpu']
    batch = num_processes * per_process
    cfg.optimizer.lr = rate.lr * batch / rate.base
    logger.info(
        '%d process(es) with %d samples make a batch of %d; optimizer.lr = %g is meant for %d: it becomes %g',
        num_processes, per_process, batch, rate.lr, rate.base, cfg.optimizer.lr)
    if rate.is_adaptive:
        logger.warning(
            '%s: optimizer.lr of %s is scaled since it was asked for; linear scaling is a rule for SGD',
            SCALE_FLAG, rate.optimizer)


def follow_world_size(runner: BaseRunner, cfg: Config) -> None:
    """Report, or adapt, the learning rate when a run is resumed with another number of processes.

    With `auto_scale_lr` it follows the images per step; otherwise it stays, as in V2.
    """
    before, now = runner.resumed.world_size, runner.world_size
    if before in (None, now):
        return
    images = images_per_step(cfg)
    what = (
        f'resumed by {now} processes instead of {before}: a step has {images} images instead of '
        f'{images * before // now}')
    rate = runner.optimizer.param_groups[0].get('initial_lr', runner.current_lr()[0])
    if not (cfg.get('auto_scale_lr') or {}).get('enable'):
        runner.logger.warning(
            '%s. The learning rate stays %g; in proportion it would be %g, which auto_scale_lr=dict(enable=True, '
            'base_batch_size=...) does', what, rate, rate * now / before)
        return
    for group in runner.optimizer.param_groups:
        for key in ('lr', 'initial_lr'):
            if key in group:
                group[key] *= now / before
    runner.logger.warning('%s. auto_scale_lr: the learning rate changes from %g to %g', what, rate,
                          rate * now / before)
