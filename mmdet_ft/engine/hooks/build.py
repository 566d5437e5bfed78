"""All hooks of a run, from its config."""
import inspect
import os
from typing import Any, Dict, List, Tuple

from mmdet_ft.config.config import Config
from mmdet_ft.datasets.checks.split import innermost
from mmdet_ft.datasets.detection.custom import CustomDataset
from mmdet_ft.datasets.wrappers import check_options
from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.hooks.early_stop import EarlyStopHook
from mmdet_ft.engine.hooks.evaluation import DistEvalHook, EvalHook
from mmdet_ft.engine.hooks.monitoring import ProgressBarHook, SkippedImagesHook, dataset_name
from mmdet_ft.engine.loaders import build_test_loader
from mmdet_ft.engine.reporting.log import on_terminal
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.registry import HOOKS, note_building


def hooks_of(cfg: Config, by_epoch: bool, validate: bool) -> List[Tuple[Hook, Any]]:
    """Build all hooks of a run with their priorities, in the order in which they act."""
    hooks: List[Tuple[Hook, Any]] = []
    # Custom hooks first: hooks of one priority act in this order, and a checkpoint should include
    # their work.
    for entry in cfg.get('custom_hooks') or ():
        arguments = dict(entry)
        priority = arguments.pop('priority', 'NORMAL')
        hooks.append((HOOKS.build(arguments), priority))
    # It closes before an evaluation opens a progress bar of its own.
    if dist.get_dist_info()[0] == 0 and on_terminal():
        hooks.append((ProgressBarHook(by_epoch), 'ABOVE_NORMAL'))
    if (cfg.data.get('train_dataloader') or {}).get('skip_bad_images'):
        hooks.append((SkippedImagesHook(), 'NORMAL'))
    # Before the evaluation: if that fails, the epoch is not lost.
    if cfg.get('checkpoint_config') is not None:
        hooks.append((CheckpointHook(**{'by_epoch': by_epoch, **cfg.checkpoint_config}), 'NORMAL'))
    # Before the loggers, which write its metrics.
    if validate and cfg.data.get('val'):
        hooks.append((evaluation_hook(cfg, by_epoch), 'LOW'))
    if cfg.get('early_stop') is not None:  # After the evaluation, whose metrics it reads.
        hooks.append((EarlyStopHook(**cfg.early_stop), 'LOW'))
    # Last: they write what all others left in the buffer.
    for entry in (cfg.get('log_config') or {}).get('hooks') or ():
        defaults = dict(interval=cfg.log_config.get('interval', 10), by_epoch=by_epoch)
        hooks.append((HOOKS.build(dict(entry), **defaults), 'VERY_LOW'))
    return hooks


def evaluation_hook(cfg: Config, by_epoch: bool) -> Hook:
    """Build the hook of `evaluation`; options that the hook does not know are passed to `dataset.evaluate`."""
    loader = build_test_loader(cfg, 'val')
    hook_class = DistEvalHook if dist.is_distributed() else EvalHook
    own, options = split_evaluation(cfg.get('evaluation') or {})
    own = {
        key: value
        for key, value in own.items() if key in inspect.signature(hook_class).parameters
    }
    check_evaluation_options(loader.dataset, options)
    count_all_detections(cfg, loader.dataset, options)
    try:
        return hook_class(loader, eval_options=options, **{'by_epoch': by_epoch, **own})
    except (TypeError, ValueError) as error:
        note_building(error, 'evaluation')
        raise


def split_evaluation(evaluation: Dict[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return (settings of the hook, options of `dataset.evaluate`)."""
    own = set(inspect.signature(DistEvalHook).parameters) - {'dataloader', 'eval_options'}
    return ({
        key: value
        for key, value in evaluation.items() if key in own
    }, {
        key: value
        for key, value in evaluation.items() if key not in own
    })


def count_all_detections(cfg: Config, dataset: Any, options: Dict[str, Any]) -> None:
    """Raise a metric's limit of `max_dets` detections per image, 100 in COCO, to the model's
    `max_per_img` if that is larger."""
    test_cfg = cfg.model.get('test_cfg') or {}
    most = (test_cfg.get('rcnn') or test_cfg).get('max_per_img') or 0
    if most > 100 and all('max_dets' in inspect.signature(part.evaluate).parameters
                          for part in innermost(dataset)):
        options.setdefault('max_dets', most)


def check_evaluation_options(dataset: Any, options: Dict[str, Any]) -> None:
    """Refuse at the start options that would fail after the first epoch."""
    parts = dataset.datasets if hasattr(dataset, 'datasets') else [dataset]
    for part in parts:  # a ConcatDataset passes the options on
        _check_names_of_options(part, options)
    check_options(dataset, options)


def _check_names_of_options(dataset: Any, options: Dict[str, Any]) -> None:
    """Raise UserError for options unknown to `dataset.evaluate`, and for a dataset without it."""
    if not hasattr(dataset, 'evaluate'):
        kind, fix = type(dataset).__name__, 'give it evaluate(results, logger=None, metric=...)'
        if hasattr(dataset, 'dataset'):
            fix = (
                f'it is for training: write in data.val and data.test the {dataset_name(dataset)} that it '
                'holds, without it')
        raise UserError(f'{kind} has no metrics; {fix}')
    parameters = inspect.signature(dataset.evaluate).parameters
    unknown = sorted(set(options) - set(parameters))
    if unknown and not any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
        known = [name for name in parameters if name not in ('results', 'logger')]
        raise UserError(
            f'evaluation has no {", ".join(unknown)}; {dataset_name(dataset)}.evaluate knows {", ".join(known)}'
        )


def format_settings(dataset: Any, options: Dict[str, Any], folder: str) -> Dict[str, Any]:
    """Return arguments of `dataset.format_results`: the options, and `folder` unless they set the output.

    Raises UserError, before anything is computed, for a dataset without its own format and for unknown options.
    """
    write = getattr(dataset, 'format_results', None)
    if write is None or getattr(write, '__func__', None) is CustomDataset.format_results:
        raise UserError(
            f'{dataset_name(dataset)} has no form of results for a test server; --out results.pkl writes '
            f'them as they are')
    known = [name for name in inspect.signature(write).parameters if name != 'results']
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise UserError(
            f'--eval-options {", ".join(unknown)}: {dataset_name(dataset)}.format_results knows '
            f'{", ".join(known)}')
    prefix = next((name for name in known if name.endswith('_prefix')), None)
    return {prefix: os.path.join(folder, 'results'), **options} if prefix else dict(options)
