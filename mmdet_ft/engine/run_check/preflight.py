"""Early tests, before the first iteration, of steps that would otherwise fail only after an epoch.

`before_run` is the short form, part of every run: room for checkpoints, the learning rate, and two
validation images through the model and the evaluator. `engine.dry_run` has the long form.
"""
import copy
import os
import shutil
import time
from typing import Any, Dict, List, NamedTuple, Optional

import numpy as np
import torch
from pycocotools import mask as mask_api

from mmdet_ft.checkpoints import writing
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.datasets.loading.collate import collate
from mmdet_ft.datasets.loading.sample_images import leaf_of
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.engine.errors import UserError, is_user_mistake
from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.hooks.early_stop import EarlyStopHook
from mmdet_ft.engine.hooks.evaluation import EvalHook, evaluation_failure
from mmdet_ft.engine.reporting.figures import check_metric, has_detections
from mmdet_ft.engine.runner import resume_state
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.engine.schedules.groups import momenta_of
from mmdet_ft.engine.schedules.schedule import Progress, find_fault
from mmdet_ft.spelling import counted
from mmdet_ft.structures import to_device

MOST_KEPT = 4  # checkpoints that max_keep_ckpts=3 keeps, including the best one
NUM_IMAGES = 2  # of the validation set
HIGHEST_RATE = dict(adaptive=1., other=100.)  # higher learning rates are typing errors


def before_run(runner: Runner) -> None:
    """Raise UserError, or the error of the evaluation, for a run that would fail later."""
    check_learning_rate(runner)
    if runner.rank != 0:
        return
    room = measure_checkpoint_space(runner)
    if room is not None and room.free < room.all_kept:
        runner.logger.warning('%s', room)
    for hook in runner.hooks:
        if isinstance(hook, EvalHook):
            check_evaluation(runner, hook)


def check_learning_rate(runner: Runner) -> None:
    """Raise UserError for a learning rate that cannot be intended."""
    for group in runner.optimizer.param_groups:
        rate = group.get('initial_lr', group['lr'])
        highest = HIGHEST_RATE['adaptive' if 'betas' in group else 'other']
        if not 0 <= rate <= highest:  # 0 for frozen groups
            raise UserError(
                f'optimizer.lr={rate:g} is out of range: {type(runner.optimizer).__name__} is trained with '
                f'more than 0 and at most {highest:g}')
    if not any(group['lr'] for group in runner.optimizer.param_groups):
        rate = runner.optimizer.defaults.get('lr')
        raise UserError(
            f'optimizer.lr={rate:g}, but paramwise_cfg multiplies it by 0 for each parameter: '
            'nothing is trained; correct lr_mult' if rate else 'optimizer.lr=0 trains nothing')


def check_schedules(runner: Runner, epoch_length: int) -> None:
    """Raise UserError for a schedule that fails, or leaves its range, anywhere in the run."""
    max_iters = (runner.max_epochs or 0) * epoch_length or runner.max_iters
    end = Progress(0, 0, epoch_length, runner.max_epochs, max_iters)
    groups = runner.optimizer.param_groups
    rates = [group.get('initial_lr', group['lr']) for group in groups]
    schedules = runner.schedules
    for schedule, initial in ((schedules.learning_rate, rates), (schedules.momentum,
                                                                 momenta_of(runner.optimizer))):
        fault = schedule and find_fault(schedule, initial, end)
        if fault:
            raise UserError(f'{schedule.where}: {fault}')


class CheckpointSpace(NamedTuple):
    """Disk space for checkpoints, in bytes."""
    one: int  # size of a checkpoint
    all_kept: int
    num_kept: int
    free: int

    def __str__(self) -> str:
        return (
            f'{counted(self.num_kept, "checkpoint")} of {self.one / 1e6:.0f} MB: {self.all_kept / 1e6:.0f} MB; '
            f'{self.free / 1e6:.0f} MB are free there' +
            ('' if self.all_kept < self.free else f': the disk will be full. {self._fix()}'))

    def _fix(self) -> str:
        if self.num_kept > MOST_KEPT:
            return 'checkpoint_config=dict(interval=1, max_keep_ckpts=3) keeps the last three'
        return 'Make room, or name a folder on another disk with --work-dir'


def measure_checkpoint_space(runner: Runner) -> Optional[CheckpointSpace]:
    """Return the disk space that the checkpoints of this run take; raises CheckpointError if not
    even two fit. The older one stays until the newer is written (a resumed run has it already).
    """
    hook = next((hook for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
    if hook is None:
        return None
    weights = getattr(runner.model, 'module', runner.model).state_dict()
    one = writing.count_bytes(weights)
    if hook.save_optimizer:
        trained = [
            parameter for group in runner.optimizer.param_groups for parameter in group['params']
            if parameter.requires_grad
        ]
        group = runner.optimizer.param_groups[0]
        one += writing.count_bytes(trained) * (2 if 'betas' in group else bool(
            group.get('momentum')))
    total = (runner.max_epochs if hook.by_epoch else runner.max_iters) or 1
    num = total // hook.interval if hook.interval > 0 else 0
    num = max(min(num, hook.max_keep_ckpts if hook.max_keep_ckpts > 0 else num), 1)
    num += any(
        isinstance(other, EvalHook) and other.save_best and other.interval <= (
            runner.max_epochs if other.by_epoch else runner.max_iters) for other in runner.hooks)
    folder = os.path.abspath(hook.out_dir or runner.work_dir)
    while not os.path.exists(folder):  # it is created when the run starts
        folder = os.path.dirname(folder)
    room = CheckpointSpace(one, num * one, num, shutil.disk_usage(folder).free)
    if room.free < (one if runner.iter else min(2, num) * one):
        raise CheckpointError(f'no room for checkpoints: {room}')
    return room


class FirstEvaluation(NamedTuple):
    """The outcome of the first validation images."""
    figures: Dict[str, Any]
    seconds: Optional[float]  # seconds for the last image: loading, the model and its results


def check_evaluation(runner: Runner, hook: EvalHook) -> FirstEvaluation:
    """Send the first validation images through the model and `dataset.evaluate`.

    Restores random states, the model's mode and the log. Raises UserError for an evaluation that cannot work.
    """
    loader = hook.dataloader.dataset  # seeds each sample; the dataset itself is inside
    dataset = first_images(getattr(loader, 'dataset', loader), NUM_IMAGES)
    if dataset is None:
        return FirstEvaluation({}, None)
    model = getattr(runner.model, 'module', runner.model)
    random_state, was_training, seconds = resume_state.random_state(), model.training, None
    model.eval()
    try:
        results: List[Any] = []
        for index in range(len(dataset)):
            began = time.perf_counter()
            views = collate([dataset[index]])
            with torch.no_grad(), runner.precision.autocast():
                predictions = model(to_device(views, runner.device))
            results += model.results(predictions, views[0].metas)
            seconds = time.perf_counter() - began
        figures = _evaluate(dataset, results, hook.eval_options)
    finally:
        model.train(was_training)
        resume_state.set_random_state(random_state)
    known = figures or _figures_of_some_detection(dataset, results, hook.eval_options)
    for key, name in map_watched_metrics(runner, hook).items():
        if known:
            check_metric(key, name, known)
    return FirstEvaluation(figures, seconds)


def map_watched_metrics(runner: Runner, hook: EvalHook) -> Dict[str, str]:
    """Map each key of the config that names a metric to the name of the metric."""
    wanted = {} if hook.save_best in (None, 'auto') else {'evaluation.save_best': hook.save_best}
    for other in runner.hooks:
        if isinstance(other, EarlyStopHook):
            wanted['early_stop.monitor'] = other.monitor
    return wanted


def _figures_of_some_detection(dataset: Dataset, results: List[Any],
                               options: Dict[str, Any]) -> Dict[str, Any]:
    """Return the metrics that the evaluation would give for at least one detection.

    COCO's evaluation names no metric without one, so a misspelt name would only be noticed after
    the first epoch. Empty if the dataset does not support it or the results are of another kind.
    """
    if has_detections(results):
        return {}
    try:
        infos = [
            leaf.data_infos[position]
            for leaf, position in (leaf_of(dataset, index) for index in range(len(results)))
        ]
        return _evaluate(dataset, [_with_a_detection(*item) for item in zip(results, infos)],
                         options)
    except Exception:
        return {}


def _with_a_detection(result: object, info: Dict[str, Any]) -> Any:
    """Return V2's result of an image with a box, and its mask, of the first class."""
    box = np.array([[0, 0, 8, 8, .5]], np.float32)
    if isinstance(result, tuple):
        boxes, masks = result
        size = (int(info['height']), int(info['width']))
        mask = mask_api.encode(np.ones(size, np.uint8, order='F'))
        boxes = _with_a_detection(boxes, info)
        if isinstance(masks, tuple):  # Mask Scoring R-CNN: masks and their scores
            segments, scores = masks
            return boxes, ([[mask], *segments[1:]], [np.full(1, .5, np.float32), *scores[1:]])
        return boxes, [[mask], *masks[1:]]
    return [box, *result[1:]] if isinstance(result, list) else box


def _evaluate(dataset: Dataset, results: List[Any], options: Dict[str, Any]) -> Dict[str, Any]:
    options = {  # do not replace the files of all images by files of two
        key: value
        for key, value in options.items() if not key.endswith('file_prefix')
    }
    try:
        return dict(dataset.evaluate(results, logger='silent', **options) or {})
    except Exception as error:
        if is_user_mistake(error):
            raise
        raise evaluation_failure(dataset, options, error,
                                 f' on the first {len(results)} images of data.val') from error


def first_images(dataset: Any, number: int) -> Any:
    """Return a dataset with the first images of another, which stays unchanged; None for unsupported datasets."""
    few = copy.copy(dataset)
    if hasattr(dataset, 'datasets'):
        few.datasets = [first_images(part, number) for part in dataset.datasets]
        few.cumulative_sizes = np.cumsum([len(part) for part in few.datasets]).tolist()
        return few
    if not hasattr(dataset, 'data_infos'):
        return None
    for name in ('data_infos', 'img_ids', 'proposals', 'flag'):
        value = getattr(dataset, name, None)
        if value is not None:
            indices = list(range(min(number, len(value))))
            setattr(
                few, name,
                value.take(indices)
                if hasattr(value, 'take') else [value[index] for index in indices])
    return few
