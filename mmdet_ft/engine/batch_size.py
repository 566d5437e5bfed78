"""Images per step, and the learning rate scaled for them: `auto_scale_lr` of a config."""
import logging
from typing import Optional

from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.runner.base import BaseRunner
from mmdet_ft.engine.settings.rate import SCALE_FLAG, Rate
from mmdet_ft.engine.settings.records import RunSettings


def images_per_step(settings: RunSettings) -> int:
    """Return the number of images per optimizer step, over all processes."""
    return images_per_process(settings) * dist.get_dist_info()[1]


def images_per_process(settings: RunSettings) -> int:
    """Return the number of images per optimizer step of one process, over its iterations."""
    return settings.data.train_loader().samples_per_gpu * settings.update.cumulative_iters


def scaled_rate(settings: RunSettings, logger: logging.Logger) -> Optional[float]:
    """Return `optimizer.lr` in proportion to the images per step (Goyal et al. 2017, sec. 2.1), if
    `auto_scale_lr` enables that; else as written. None if the config has no rate."""
    rate, written = settings.rate, settings.optimizer.get('lr')
    if rate is None:
        logger.info('Automatic scaling of learning rate (LR) has been disabled.')
        return written
    as_written = (
        f'lr {rate.lr:g} as written{rate.where} for {images_per_step(settings)} images a step; not scaled'
    )
    if rate.base is None:
        logger.info(as_written)
        return written
    if not rate.is_enabled:
        logger.info('Automatic scaling of learning rate (LR) has been disabled.')
        return written
    if rate.is_adaptive and not rate.is_forced:
        logger.info(f'{as_written}: linear scaling is a rule for SGD, not for {rate.optimizer}; '
                    f'{SCALE_FLAG} scales it all the same')
        return written
    return _scaled(rate, settings, logger)


def _scaled(rate: Rate, settings: RunSettings, logger: logging.Logger) -> float:
    assert rate.base is not None
    batch = images_per_step(settings)
    scaled = rate.lr * batch / rate.base
    logger.info(
        '%d process(es) with %d samples a step make a batch of %d; optimizer.lr = %g is meant for %d: it becomes %g',
        dist.get_dist_info()[1], images_per_process(settings), batch, rate.lr, rate.base, scaled)
    if rate.is_adaptive:
        logger.warning(
            '%s: optimizer.lr of %s is scaled since it was asked for; linear scaling is a rule for SGD',
            SCALE_FLAG, rate.optimizer)
    return scaled


def follow_world_size(runner: BaseRunner, images: int, is_scaled: bool) -> None:
    """Report, or adapt, the learning rate when a run is resumed with another number of processes.

    images: per step of this run. is_scaled: `auto_scale_lr` is enabled, and the rate follows the
    images per step; otherwise it stays, as in V2.
    """
    before, now = runner.resumed.world_size, runner.world_size
    if before in (None, now):
        return
    what = (
        f'resumed by {now} processes instead of {before}: a step has {images} images instead of '
        f'{images * before // now}')
    rate = runner.optimizer.param_groups[0].get('initial_lr', runner.current_lr()[0])
    if not is_scaled:
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
