"""Remarks on settings made for a large dataset that do not work for a small one, logged at the start
of a run. Nothing is changed here; the block also lists the adjustments that the engine makes itself."""
import logging
from typing import List, Optional

from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.hooks.early_stop import EarlyStopHook
from mmdet_ft.engine.hooks.evaluation import EvalHook
from mmdet_ft.engine.hooks.logger import LoggerHook
from mmdet_ft.engine.runner.base import BaseRunner
from mmdet_ft.engine.schedules.rates import Step
from mmdet_ft.engine.schedules.schedule import LearningRate
from mmdet_ft.engine.settings.rate import SCALE_FLAG, Rate
from mmdet_ft.spelling import counted


def remarks(runner: BaseRunner, rate: Optional[Rate], epoch_length: int, images_per_step: int,
            num_images: int) -> List[str]:
    """Return a sentence for each setting that does not fit the length of the run, with its reason
    and what to write.

    Args:
        runner: with its hooks and schedules, before the run.
        rate: the batch size of `optimizer.lr`; None if the config does not give one.
        epoch_length: iterations of an epoch.
        images_per_step: of all processes.
        num_images: of the training set.
    """
    by_epoch = runner.by_epoch
    num_iters = runner.max_epochs * epoch_length if by_epoch else runner.max_iters
    num_epochs = runner.max_epochs if by_epoch else None
    schedule = runner.schedules.learning_rate
    found = [] if schedule is None else _schedule(schedule, epoch_length, num_iters, num_epochs)
    found += _batch(rate, images_per_step)
    if images_per_step > num_images:
        found.append(
            f'data.samples_per_gpu: a step takes {counted(images_per_step, "image")}, and the training set has '
            f'{num_images}: a detector takes some several times a step, a classifier\'s steps are smaller; '
            'write a smaller one')
    for hook in runner.hooks:
        if isinstance(hook, LoggerHook):
            found += _logger(hook, epoch_length, num_iters)
        elif isinstance(hook, CheckpointHook):
            found += _checkpoints(hook, num_iters, num_epochs)
        elif isinstance(hook, EvalHook):
            found += _evaluation(hook, num_iters, num_epochs)
        elif isinstance(hook, EarlyStopHook):
            found += _early_stop(hook, runner, num_iters, num_epochs)
    return list(dict.fromkeys(found))


def log_remarks(logger: logging.Logger, found: List[str]) -> None:
    if found:
        logger.warning('For a run of this size:\n%s', '\n'.join(f'  - {item}' for item in found))


def _schedule(schedule: LearningRate, epoch_length: int, num_iters: int,
              num_epochs: Optional[int]) -> List[str]:
    found = []
    if schedule.warmup:
        length = schedule.warmup_iters * (epoch_length if schedule.warmup_by_epoch else 1)
        if length >= num_iters:
            found.append(
                f'lr_config.warmup_iters: the warmup of {counted(length, "iteration")} is as long as the whole run of '
                f'{num_iters}, which never reaches optimizer.lr; a tenth is usual: '
                f'warmup_iters={max(num_iters // 10, 1)}')
    if isinstance(schedule.policy, Step) and schedule.policy.step:
        steps = schedule.policy.step
        first = min(steps) if isinstance(steps, (list, tuple)) else steps
        end, unit = (num_epochs, 'epoch') if schedule.by_epoch else (num_iters, 'iteration')
        if end is not None and first >= end:
            found.append(
                f'lr_config.step: the learning rate drops for the first time after {counted(first, unit)}, and the '
                f'run has {end}: it never does')
    return found


def _batch(rate: Optional[Rate], images_per_step: int) -> List[str]:
    if rate is None or rate.is_enabled or rate.is_adaptive or rate.base in (None, images_per_step):
        return []
    return [
        f'optimizer.lr={rate.lr:g}{rate.where} is meant for {counted(rate.base, "image")} a step '
        f'(auto_scale_lr.base_batch_size), and a step has {images_per_step}; in proportion that is '
        f'{rate.lr * images_per_step / rate.base:.3g}, which {SCALE_FLAG} sets'
    ]


def _logger(hook: LoggerHook, epoch_length: int, num_iters: int) -> List[str]:
    if hook.by_epoch and hook.interval > epoch_length:
        return [
            f'log_config.interval={hook.interval} is longer than an epoch of '
            f'{counted(epoch_length, "iteration")}: a line is written '
            'at the end of each epoch instead (V2 would write none)'
        ]
    if not hook.by_epoch and hook.interval > num_iters:
        return [
            f'log_config.interval={hook.interval} is longer than the run of '
            f'{counted(num_iters, "iteration")}: one line is written at its end'
        ]
    return []


def _checkpoints(hook: CheckpointHook, num_iters: int, num_epochs: Optional[int]) -> List[str]:
    end, unit = (num_epochs, 'epoch') if hook.by_epoch else (num_iters, 'iteration')
    if end is None or 0 < hook.interval <= end:
        return []
    saved = 'only its end is saved' if hook.save_last else 'nothing is saved'
    return [
        f'checkpoint_config.interval={hook.interval}, and the run has {counted(end, unit)}: {saved}, '
        'and a run killed before that starts from the beginning'
    ]


def _evaluation(hook: EvalHook, num_iters: int, num_epochs: Optional[int]) -> List[str]:
    end, unit = (num_epochs, 'epoch') if hook.by_epoch else (num_iters, 'iteration')
    first = min(hook.dynamic_intervals[-1][1], hook.interval) if hook.start is None else hook.start
    if end is None or first <= end:
        return []
    return [
        f'evaluation: the first one is after {counted(first, unit)}, and the run has {end}: there is none, and no best '
        f'checkpoint; write evaluation=dict(interval={max(end // 8, 1)})'
    ]


def _early_stop(hook: EarlyStopHook, runner: BaseRunner, num_iters: int,
                num_epochs: Optional[int]) -> List[str]:
    evaluation = next((other for other in runner.hooks if isinstance(other, EvalHook)), None)
    end = num_epochs if evaluation is not None and evaluation.by_epoch else num_iters
    if evaluation is None or end is None or hook.patience * evaluation.interval < end:
        return []
    return [
        f'early_stop.patience={hook.patience} evaluations, {evaluation.interval} apart, are as many as the run has: '
        'it never stops early'
    ]
