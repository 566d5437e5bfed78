"""All hooks of a run, from its settings."""
import inspect
from typing import List, Tuple, Union

from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.evaluate import check_evaluation_options, count_all_detections
from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.hooks.early_stop import EarlyStopHook
from mmdet_ft.engine.hooks.evaluation import DistEvalHook, EvalHook, split_evaluation
from mmdet_ft.engine.hooks.monitoring import ProgressBarHook, SkippedImagesHook
from mmdet_ft.engine.loaders import build_test_loader
from mmdet_ft.engine.reporting.log import on_terminal
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.settings.records import RunSettings
from mmdet_ft.registry import HOOKS, note_building

Priority = Union[int, str]


def build_hooks(settings: RunSettings, validate: bool) -> List[Tuple[Hook, Priority]]:
    """Build all hooks of a run with their priorities, in the order in which they act."""
    hooks: List[Tuple[Hook, Priority]] = []
    by_epoch, own = settings.by_epoch, settings.hooks
    # Custom hooks first: hooks of one priority act in this order, and a checkpoint should include
    # their work.
    for entry in own.custom:
        arguments = dict(entry)
        priority = arguments.pop('priority', 'NORMAL')
        hooks.append((HOOKS.build(arguments), priority))
    # It closes before an evaluation opens a progress bar of its own.
    if dist.get_dist_info()[0] == 0 and on_terminal():
        hooks.append((ProgressBarHook(by_epoch), 'ABOVE_NORMAL'))
    if settings.data.skips_bad_images:
        hooks.append((SkippedImagesHook(), 'NORMAL'))
    # Before the evaluation: if that fails, the epoch is not lost.
    if own.checkpoint is not None:
        hooks.append((CheckpointHook(**{'by_epoch': by_epoch, **own.checkpoint}), 'NORMAL'))
    # Before the loggers, which write its metrics.
    if validate and settings.data.val:
        hooks.append((build_evaluation_hook(settings), 'LOW'))
    if own.early_stop is not None:  # After the evaluation, whose metrics it reads.
        hooks.append((EarlyStopHook(**own.early_stop), 'LOW'))
    # Last: they write what all others left in the buffer.
    for entry in own.loggers:
        hooks.append((HOOKS.build(dict(entry), interval=own.log_interval,
                                  by_epoch=by_epoch), 'VERY_LOW'))
    return hooks


def build_evaluation_hook(settings: RunSettings) -> EvalHook:
    """Build the hook of `evaluation`; options that the hook does not know are passed to `dataset.evaluate`."""
    loader = build_test_loader(settings.data, 'val')
    hook_class = DistEvalHook if dist.is_distributed() else EvalHook
    own, options = split_evaluation(settings.hooks.evaluation)
    own = {
        key: value
        for key, value in own.items() if key in inspect.signature(hook_class).parameters
    }
    check_evaluation_options(loader.dataset, options)
    count_all_detections(settings.model, loader.dataset, options)
    try:
        return hook_class(loader, eval_options=options, **{'by_epoch': settings.by_epoch, **own})
    except (TypeError, ValueError) as error:
        note_building(error, 'evaluation')
        raise
