"""Checks of the config sections that the engine reads.

The function of the same name checks each section, given the walk, the section's value and its name.
"""
from typing import Any, Callable, Dict, Mapping

import torch

from mmdet_ft.checkpoints.fitting import LoadFrom
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.datasets.loading.loader import LoaderSettings
from mmdet_ft.engine.config_check.classes import dataset_classes
from mmdet_ft.engine.config_check.mistakes import as_dict, nearest, short
from mmdet_ft.engine.config_check.schema import allowed_keys, names_of
from mmdet_ft.engine.config_check.traverse import Walk
from mmdet_ft.engine.distributed.dist import init_dist
from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.hooks.early_stop import EarlyStopHook
from mmdet_ft.engine.hooks.evaluation import DistEvalHook
from mmdet_ft.engine.optimizers.optimizer import DefaultOptimizerConstructor
from mmdet_ft.engine.optimizers.optimizer_step import INERT_OF_UPDATE, Update
from mmdet_ft.engine.runner.base import BaseRunner
from mmdet_ft.engine.schedules.momenta import MOMENTUM_POLICIES
from mmdet_ft.engine.schedules.rates import POLICIES
from mmdet_ft.engine.schedules.schedule import LearningRate, Momentum
from mmdet_ft.errors import DataError
from mmdet_ft.registry import (DATASETS, HOOKS, MODELS, OPTIMIZER_BUILDERS, OPTIMIZERS, RUNNERS,
                               SAMPLERS)
from mmdet_ft.v2_types import SCOPES, is_not_supported, packages_of


def model(walk: Walk, value: object, path: str) -> None:
    if walk.is_dict(value, path):
        walk.typed(MODELS, value, path, given=('train_cfg', 'test_cfg'))
        cls = MODELS.class_of(value)
        for key in allowed_keys(cls).required if cls is not None else ():
            if key in value and value[key] is None:
                walk.report(f'{path}.{key}',
                            f'{value["type"]} needs it: write a dict with a type, not None')
        # The keys of train_cfg and test_cfg depend on the type of the part that reads them.
        settings = (f'{path}.train_cfg.', f'{path}.test_cfg.')
        if any(('unknown model type' in mistake.message or is_not_supported(mistake.message))
               and not mistake.path.startswith(settings) for mistake in walk.mistakes):
            walk.mistakes = [
                mistake for mistake in walk.mistakes if not mistake.path.startswith(settings)
            ]


def check_training_settings(walk: Walk) -> None:
    """Note the entries of train_cfg that a model needs for training but lacks."""
    model = walk.config.model
    cls = MODELS.class_of(model)
    for name in getattr(cls, 'settings_of_training', ()):
        if not as_dict(model.get('train_cfg')).get(name):
            walk.report(
                f'model.train_cfg.{name}',
                f'{model["type"]} is trained by it, and it is missing; take it over from a base, such as '
                f'configs/_base_/models/mask_rcnn_r50_fpn.py')


def check_metrics(walk: Walk) -> None:
    """Note metrics of `evaluation` that the dataset of data.val does not know."""
    metric = as_dict(walk.config.get('evaluation')).get('metric')
    for cls in dict.fromkeys(dataset_classes(walk.config.data.get('val'))):
        check = getattr(cls, 'check_names_of_metrics', None)
        try:
            if check is not None:
                check(metric)
        except DataError as error:
            walk.report('evaluation.metric', str(error), is_sentence=True)


def data(walk: Walk, value: object, path: str) -> None:
    if not walk.is_dict(value, path):
        return
    splits = ('train', 'val', 'test')
    loaders = [f'{split}_dataloader' for split in splits]
    known = allowed_keys(LoaderSettings)
    walk.keys(
        names_of('samples_per_gpu', 'workers_per_gpu', 'persistent_workers', *splits, *loaders),
        value, path)
    if 'train' in value and not value['train']:
        walk.report(
            f'{path}.train',
            f'must be a dict(type=...) of a dataset, or a list of them, not {short(value["train"])}'
        )
        value = {key: item for key, item in value.items() if key != 'train'}
    for split in splits[1:]:
        if value.get(split) in ([], ()):
            walk.report(f'{path}.{split}', f'is an empty list; write {split}=None for no dataset')
    walk.values(known, value, path)
    for split in splits:
        walk.dataset(
            value.get(split), f'{path}.{split}', () if split == 'train' else ('samples_per_gpu', ))
    for name in loaders:
        if walk.is_dict(value.get(name), f'{path}.{name}'):
            walk.keys(known, value[name], f'{path}.{name}')
            walk.values(known, value[name], f'{path}.{name}')
            _loader_of_split(walk, value[name], f'{path}.{name}')
            sampler = value[name].get('sampler')
            walk.typed(SAMPLERS, sampler, f'{path}.{name}.sampler', given=('dataset', ))


def _loader_of_split(walk: Walk, value: Mapping[str, Any], path: str) -> None:
    """Check for arguments of a loader that the run sets, and for those of training in an evaluation."""
    for key in LoaderSettings.of_run:
        if key in value:
            walk.report(f'{path}.{key}',
                        f'is set by the run (here {short(value[key])}); leave {key} out')
    for key in () if path.endswith('train_dataloader') else LoaderSettings.of_training:
        if value.get(key):
            walk.report(
                f'{path}.{key}', f'must be False, not {short(value[key])}: an evaluation pairs '
                f'results with images by their order; leave {key} out')


def optimizer(walk: Walk, value: object, path: str) -> None:
    if not walk.is_dict(value, path):
        return
    constructor = value.get('constructor', 'DefaultOptimizerConstructor')
    if constructor not in OPTIMIZER_BUILDERS:
        walk.report_unknown_type(OPTIMIZER_BUILDERS.name, OPTIMIZER_BUILDERS, constructor,
                                 f'{path}.constructor')
    if OPTIMIZER_BUILDERS.get(constructor) is not DefaultOptimizerConstructor:
        return  # it reads its dict in its own way
    walk.typed(
        OPTIMIZERS, value, path, given=('params', 'lr'), extra=('constructor', 'paramwise_cfg'))
    paramwise = value.get('paramwise_cfg')
    if walk.is_dict(paramwise, f'{path}.paramwise_cfg'):
        inside = f'{path}.paramwise_cfg'
        walk.keys(names_of(*DefaultOptimizerConstructor.known), paramwise, inside)
        customs = paramwise.get('custom_keys')
        if walk.is_dict(customs, f'{inside}.custom_keys'):
            known = names_of('lr_mult', 'decay_mult')
            for name, settings in customs.items():
                walk.keys(known, settings, f'{inside}.custom_keys.{name}', 'custom_keys')


def optimizer_config(walk: Walk, value: object, path: str) -> None:
    if walk.is_dict(value, path):
        known = names_of('type', *Update._fields, *INERT_OF_UPDATE)
        if 'Fp16' in str(value.get('type')):
            known = known.plus('loss_scale')
        walk.keys(known, value, path)
        walk.values(allowed_keys(Update), value, path)
        clip = allowed_keys(torch.nn.utils.clip_grad_norm_, 1)
        if walk.is_dict(value.get('grad_clip'), f'{path}.grad_clip'):
            walk.keys(clip, value['grad_clip'], f'{path}.grad_clip')


def lr_config(walk: Walk, value: object, path: str) -> None:
    _schedule(walk, value, path, LearningRate, POLICIES)


def momentum_config(walk: Walk, value: object, path: str) -> None:
    _schedule(walk, value, path, Momentum, MOMENTUM_POLICIES)


def _schedule(walk: Walk, value: object, path: str, schedule: type, policies: Mapping[str,
                                                                                      Any]) -> None:
    if not walk.is_dict(value, path):
        return
    if 'policy' not in value:
        near = next((key for key in value if nearest(key, ['policy'])), None)
        if near is not None:
            return walk.report_unknown_key(schedule.where, ['policy'], value, near, path)
        return walk.report(path, "needs a policy: add policy='step' or another")
    policy = policies.get(str(value['policy']).lower())
    if policy is None:
        near = nearest(value['policy'],
                       [cls.__name__.replace('Momentum', '') for cls in policies.values()])
        owner = packages_of(f'{value["policy"]}{schedule.where.split("_")[0].title()}UpdaterHook')
        if owner:
            return walk.report(
                f'{path}.policy',
                f'{value["policy"]!r} is a policy of {SCOPES[owner[0]]} that is not supported here; '
                f'nearest: {near or "CosineAnnealing"!r}; to fix: write policy={near or "CosineAnnealing"!r}'
            )
        return walk.report(
            f'{path}.policy', f'unknown policy {value["policy"]!r}; ' +
            (f'did you mean {near!r}?' if near else f'there are {", ".join(policies)}'))
    known = allowed_keys(schedule).without('policy').plus('policy',
                                                          *allowed_keys(policy).parameters)
    walk.keys(known, value, path, f'{schedule.where} of policy {value["policy"]!r}')
    for owner in (allowed_keys(schedule).without('policy'), allowed_keys(policy)):
        walk.values(owner, value, path)


def runner(walk: Walk, value: object, path: str) -> None:
    if walk.is_dict(value, path):
        by_engine = set(allowed_keys(BaseRunner).parameters) - {'max_epochs', 'max_iters'}
        cls = RUNNERS.get(value.get('type')) if isinstance(value.get('type'), str) else None
        if cls is None:
            return walk.typed(RUNNERS, value, path)
        known = allowed_keys(cls).without(*by_engine).plus('type')
        walk.arguments(RUNNERS, known, value, path, value['type'], ())
        length = 'max_epochs' if cls.by_epoch else 'max_iters'
        if value.get(length) is None and getattr(cls, '__module__', '').startswith('mmdet_ft.'):
            walk.report(
                path,
                f'{value["type"]} needs {length}: add {length}={12 if cls.by_epoch else 90000}')


def _has_epochs(walk: Walk) -> bool:
    """Return whether the runner of the config counts epochs."""
    return getattr(RUNNERS.class_of(walk.config.get('runner')), 'by_epoch', True)


def evaluation(walk: Walk, value: object, path: str) -> None:
    if not walk.is_dict(value, path):
        return
    known = allowed_keys(DistEvalHook).without('dataloader', 'eval_options')
    splits = walk.config.get('data')
    if value.get('by_epoch') and not _has_epochs(walk):
        walk.warnings.append(
            f'{path}.by_epoch ({walk.where(f"{path}.by_epoch")}) has no effect: the runner counts '
            'iterations, and so does evaluation.interval')
    kinds = list(dataset_classes(splits.get('val'))) if isinstance(splits, dict) else []
    for cls in kinds:
        own = allowed_keys(cls.evaluate, 1).without('results', 'logger') if hasattr(
            cls, 'evaluate') else known
        known = known._replace(is_open=known.is_open or own.is_open).plus(*own.parameters)
    of_coco = set(allowed_keys(CocoDataset.evaluate, 1).parameters) - set(known.parameters)
    of_coco = [] if known.is_open or not kinds else [key for key in value if key in of_coco]
    for key in of_coco:  # most likely from a base
        walk.report(
            f'{path}.{key}',
            f'is of CocoDataset and its like; data.val is of {DATASETS.name_of(kinds[0])}: write '
            "evaluation=dict(_delete_=True, interval=1, metric='mAP', save_best='mAP'), or its own metric"
        )
    if kinds:
        walk.keys(known.plus(*of_coco), value, path)
    for cls in (DistEvalHook, *(cls.evaluate for cls in kinds if hasattr(cls, 'evaluate'))):
        known = allowed_keys(cls, int(cls is not DistEvalHook))
        walk.values(known.without('dataloader', 'results', 'logger'), value, path)


def early_stop(walk: Walk, value: object, path: str) -> None:
    if walk.is_dict(value, path):
        walk.keys(allowed_keys(EarlyStopHook), value, path)
        walk.values(allowed_keys(EarlyStopHook), value, path)
        if 'monitor' not in value:
            walk.report(path, "needs a monitor: the metric to watch, such as monitor='bbox_mAP'")


def checkpoint_config(walk: Walk, value: object, path: str) -> None:
    if walk.is_dict(value, path):
        walk.keys(allowed_keys(CheckpointHook).plus('type'), value, path)
        walk.values(allowed_keys(CheckpointHook), value, path)
        if value.get('by_epoch') and not _has_epochs(walk):
            walk.report(
                f'{path}.by_epoch',
                'must be False, not True: to the hooks an iteration-based run is one epoch, whose '
                'end alone would be saved; write by_epoch=False')


def log_config(walk: Walk, value: object, path: str) -> None:
    if walk.is_dict(value, path):
        walk.keys(names_of('interval', 'hooks'), value, path)
        custom_hooks(walk, value.get('hooks'), f'{path}.hooks')


def custom_hooks(walk: Walk, value: object, path: str) -> None:
    if not walk.is_list(value, path):
        return
    seen: Dict[str, int] = {}
    for index, hook in enumerate(value):
        if isinstance(hook, dict):
            walk.typed(HOOKS, hook, f'{path}.{index}', extra=('priority', ))
            sole = getattr(HOOKS.class_of(hook), 'sole', None)
            if sole in seen:
                walk.report(
                    f'{path}.{index}',
                    f'is a second hook that keeps {sole}, after {path}.{seen[sole]}; '
                    'a run has one: leave one of them out')
            elif sole is not None:
                seen[sole] = index
        else:
            hint = f'; write dict(type={hook!r})' if isinstance(hook, str) and hook in HOOKS else ''
            walk.report(f'{path}.{index}', f'must be a dict, not {short(hook)}{hint}')


def fp16(walk: Walk, value: object, path: str) -> None:
    if walk.is_dict(value, path):
        walk.keys(names_of('loss_scale', 'dtype', 'distributed'), value, path)
        scaler = ('init_scale', 'growth_factor', 'backoff_factor', 'growth_interval', 'enabled',
                  'mode')
        walk.keys(names_of(*scaler), value.get('loss_scale'), f'{path}.loss_scale')


def auto_scale_lr(walk: Walk, value: object, path: str) -> None:
    if walk.is_dict(value, path):
        walk.keys(names_of('enable', 'base_batch_size'), value, path)


def load_from(walk: Walk, value: object, path: str) -> None:
    if isinstance(value, dict):
        walk.keys(names_of(*LoadFrom._fields), value, path)


def dist_params(walk: Walk, value: object, path: str) -> None:
    if walk.is_dict(value, path):
        process_group = allowed_keys(torch.distributed.init_process_group).parameters \
            if torch.distributed.is_available() else ()
        known = allowed_keys(init_dist).without('launcher')._replace(is_open=False).plus(
            *process_group)
        walk.keys(known, value, path)


SECTIONS: Dict[str, Callable[[Walk, Any, str], None]] = {
    section.__name__: section
    for section in (model, data, optimizer, optimizer_config, lr_config, momentum_config, runner,
                    evaluation, early_stop, checkpoint_config, log_config, custom_hooks, fp16,
                    auto_scale_lr, load_from, dist_params)
}
