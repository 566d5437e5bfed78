"""How many images a step has, and what the learning rate makes of it: `auto_scale_lr` of a config."""
from typing import Any

from mmdet_ft.config.config import Config
from mmdet_ft.engine import dist
from mmdet_ft.engine.loaders import train_loader_settings
from mmdet_ft.engine.runner.base import BaseRunner
from mmdet_ft.engine.update import read_update


def images_per_step(cfg: Config) -> int:
    """Of all processes."""
    per_process = train_loader_settings(cfg, 0)['samples_per_gpu']
    return per_process * dist.get_dist_info()[1] * read_update(
        cfg.get('optimizer_config')).cumulative_iters


def scale_learning_rate(cfg: Config, num_processes: int, logger: Any) -> None:
    """`auto_scale_lr`: the rate in proportion to the images of a step (Goyal et al. 2017, sec.
    2.1)."""
    settings = cfg.get('auto_scale_lr') or {}
    base = settings.get('base_batch_size')
    if not settings.get('enable') or base is None:
        logger.info('Automatic scaling of learning rate (LR) has been disabled.')
        return
    per_process = train_loader_settings(cfg, 0)['samples_per_gpu']
    batch = num_processes * per_process
    before = cfg.optimizer.lr
    cfg.optimizer.lr = before * batch / base
    logger.info(
        '%d process(es) with %d samples make a batch of %d; optimizer.lr = %g is meant for %d: it becomes %g',
        num_processes, per_process, batch, before, base, cfg.optimizer.lr)


def follow_world_size(runner: BaseRunner, cfg: Config) -> None:
    """Say what becomes of the learning rate when a run is resumed by another number of processes.

    With `auto_scale_lr` it follows the images of a step; otherwise it stays, as in V2.
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
