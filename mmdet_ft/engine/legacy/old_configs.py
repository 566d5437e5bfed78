"""Older spellings of sections and top-level keys of configs.

A part reads older names of its own arguments itself, and `config/options.py` those of command lines.

Older spellings are rewritten, with one sentence for each. Those of MMDetection 3 are refused with
the current spelling but not translated: the rest of such a config would have to be guessed.
"""
import copy
import inspect
from typing import Any, Dict, Iterator, List, Optional, Tuple

from mmdet_ft.command_names import how_to_run
from mmdet_ft.config.config import Config
from mmdet_ft.config.config_dict import ConfigDict
from mmdet_ft.config.errors import CheckError, ConfigError
from mmdet_ft.models.classification_defaults import OF_CLASSIFICATION
from mmdet_ft.registry import MODELS
from mmdet_ft.v2_types import without_scope

# Top-level names that `modernize` rewrites.
OLDER_NAMES = ('total_epochs', 'train_cfg', 'test_cfg')

# MMDetection 3's top-level names -> replacement.
NEWER_NAMES = {
    'train_dataloader': 'data = dict(samples_per_gpu=..., workers_per_gpu=..., train=dict(...)): batch_size is '
                        'samples_per_gpu, num_workers is workers_per_gpu, its dataset is data.train; other arguments '
                        'of the loader go into data.train_dataloader',
    'val_dataloader': 'data = dict(val=dict(...)); arguments of the loader go into data.val_dataloader',
    'test_dataloader': 'data = dict(test=dict(...)); arguments of the loader go into data.test_dataloader',
    'val_evaluator': "evaluation = dict(interval=1, metric=['bbox', 'segm']); annotations are those of data.val",
    'test_evaluator': f"evaluation = dict(metric=['bbox', 'segm']), or --eval bbox segm of `{how_to_run('test')}`; "
                      'annotations are those of data.test',
    'optim_wrapper': "optimizer = dict(type='SGD', lr=...), with paramwise_cfg inside it; clip_grad is "
                     'optimizer_config = dict(grad_clip=dict(max_norm=35)); AmpOptimWrapper is '
                     "fp16 = dict(loss_scale='dynamic')",
    'param_scheduler': "lr_config = dict(policy='step', step=[8, 11], warmup='linear', warmup_iters=500, "
                       'warmup_ratio=0.001)',
    'default_hooks': 'checkpoint_config = dict(interval=1) and log_config = dict(interval=50, '
                     "hooks=[dict(type='TextLoggerHook')])",
    'train_cfg': "runner = dict(type='EpochBasedRunner', max_epochs=12), or IterBasedRunner with max_iters; "
                 'val_interval is evaluation = dict(interval=1). (train_cfg of a model goes into model)',
    'val_cfg': 'nothing: evaluation = dict(interval=1) says when data.val is evaluated',
    'test_cfg': f'nothing: `{how_to_run("test")}` tests. (test_cfg of a model goes into model)',
    'env_cfg': "cudnn_benchmark = False, mp_start_method = 'fork', opencv_num_threads = 0, dist_params = "
               "dict(backend='nccl')",
    'randomness': '--seed and --deterministic on the command line',
    'resume': 'resume_from = path of a checkpoint, or --auto-resume on the command line',
    'log_processor': 'log_config = dict(interval=50)',
    'visualizer': "log_config = dict(hooks=[dict(type='TextLoggerHook'), dict(type='TensorboardLoggerHook')]); "
                  f'--show-dir of `{how_to_run("test")}` paints results',
    'vis_backends': "log_config = dict(hooks=[dict(type='TextLoggerHook'), dict(type='TensorboardLoggerHook')])",
    'default_scope': 'nothing: there are no scopes',
    'launcher': '--launcher on the command line',
    'backend_args': 'nothing; file_client_args of LoadImageFromFile and LoadAnnotations names a storage',
    'tta_model': 'nothing: MultiScaleFlipAug in the pipeline of data.test makes the views',
    'tta_pipeline': 'MultiScaleFlipAug in the pipeline of data.test',
}  # yapf: disable
_OF_A_LOOP = {
    'by_epoch', 'max_epochs', 'max_iters', 'val_interval', 'val_begin', 'dynamic_intervals'
}

# Its keys inside the sections, for messages only.
_NEWER_KEYS = {
    'data_preprocessor': "the pipeline does that: dict(type='Normalize', mean=..., std=..., to_rgb=True) and "
                         "dict(type='Pad', size_divisor=32)",
    'backend_args': 'leave it out, or write file_client_args=dict(backend=...)',
    'scale': 'write img_scale=(width, height)',
    'scales': 'write img_scale=[(width, height), ...]',
    'prob': 'write flip_ratio',
    'data_prefix': 'write img_prefix',
    'metainfo': 'write classes=(...)',
    'filter_cfg': 'write filter_empty_gt=True',
    'batch_size': 'write data.samples_per_gpu',
    'num_workers': 'write data.workers_per_gpu',
}  # yapf: disable
_NEWER_TYPES = {
    'PackDetInputs':
    "write dict(type='DefaultFormatBundle') and dict(type='Collect', keys=[...])",
    'RandomChoiceResize':
    "write dict(type='Resize', img_scale=[...], multiscale_mode='value', keep_ratio=True)",
    'LoggerHook':
    "write log_config = dict(interval=50, hooks=[dict(type='TextLoggerHook')])",
    'EpochBasedTrainLoop':
    "write runner = dict(type='EpochBasedRunner', max_epochs=...)",
    'IterBasedTrainLoop':
    "write runner = dict(type='IterBasedRunner', max_iters=...)",
    'DetDataPreprocessor':
    "write dict(type='Normalize', ...) and dict(type='Pad', size_divisor=32) in the pipeline",
}


def newer_key(key: object) -> Optional[str]:
    """Return the replacement for a key of MMDetection 3, or None."""
    return _NEWER_KEYS.get(key) if isinstance(key, str) else None


def newer_type(kind: object) -> Optional[str]:
    """Return the replacement for a type of MMDetection 3, or None."""
    return _NEWER_TYPES.get(kind.rpartition('.')[2]) if isinstance(kind, str) else None


def modernize(config: Config) -> Tuple[Config, List[str]]:
    """Return the config in V2.28's spellings, and its changes, one sentence each for the log.

    Raises ConfigError if an old and a new spelling contradict each other, CheckError for
    MMDetection 3's names.
    """
    _refuse_newer(config)
    config = copy.deepcopy(config)
    notes: List[str] = []
    _scopes(config)
    for rewrite in (_runner, _samples_per_gpu, _model_settings, _box_targets):
        notes += rewrite(config)
    return config, notes


def _scopes(config: Config) -> None:
    """Remove scopes such as 'mmdet.' of 'mmdet.ResNet', keep their packages' defaults, and rename a
    hook of mmcls."""
    for section in config:
        for path, value in _dicts(config[section], section):
            kind = value.get('type')
            if not isinstance(kind, str):
                continue
            if kind in ('ClassNumCheckHook', 'mmcls.ClassNumCheckHook'):
                value['type'] = 'NumClassCheckHook'
            elif without_scope(kind) != kind and kind not in MODELS.module_dict:
                value['type'] = without_scope(kind)
                if path.startswith('model.'):
                    is_classifier = config.model.get('type') == 'ImageClassifier'
                    _keep_defaults(value, kind.partition('.')[0], is_classifier)


def _keep_defaults(part: Dict[str, Any], scope: str, is_classifier: bool) -> None:
    """Write the defaults of its scope's package into a part of a model if the surrounding model uses others."""
    others = OF_CLASSIFICATION.get(part['type'], {})
    cls = MODELS.get(part['type'], part)
    if cls is None or (scope == 'mmcls') == is_classifier or scope == 'mmcv':
        return
    parameters = inspect.signature(cls).parameters
    for key, value in others.items():
        if key not in part and key in parameters:
            part[key] = value if scope == 'mmcls' else parameters[key].default


def _refuse_newer(config: Config) -> None:
    found = [name for name in config if name in NEWER_NAMES and _is_newer(name, config[name])]
    if found:
        lines = [
            f'{name}: a name of MMDetection 3; write {NEWER_NAMES[name]}{_location(config, name)}'
            for name in found
        ]
        raise CheckError('\n'.join(lines))


def _is_newer(name: str, value: object) -> bool:
    if name in ('train_cfg', 'test_cfg'):  # older: settings of the model; newer: of the loop
        return isinstance(value, dict) and (bool(_OF_A_LOOP & set(value)) or str(
            value.get('type')).endswith('Loop') or name == 'test_cfg' and not value)
    return value is not None or name in ('val_cfg', )


def _location(config: Config, path: str) -> str:
    where = config.where(path)
    return f' ({where})' if where else ''


def _runner(config: Config) -> Iterator[str]:
    """Rewrite `total_epochs`, and a runner without type or length."""
    runner = config.get('runner') or {}
    if not isinstance(runner, dict):
        return
    if 'total_epochs' in config:
        epochs = config.total_epochs
        if runner.get('max_epochs', epochs) != epochs:
            raise ConfigError(
                f'total_epochs={epochs}{_location(config, "total_epochs")} and '
                f'runner.max_epochs={runner["max_epochs"]}{_location(config, "runner.max_epochs")} '
                'contradict each other; keep runner = dict(max_epochs=...) only')
        if 'max_iters' not in runner:
            config.runner = {'type': 'EpochBasedRunner', **runner, 'max_epochs': epochs}
            config.record_move('total_epochs', 'runner.max_epochs')
        yield (
            f"total_epochs{_location(config, 'total_epochs')} is now runner = dict(type='EpochBasedRunner', "
            f'max_epochs={epochs})')
        config.pop('total_epochs')
    if isinstance(config.get('runner'), dict) and 'type' not in config.runner:
        config.runner.type = 'IterBasedRunner' if 'max_iters' in config.runner else 'EpochBasedRunner'
        yield (
            f"runner has no type{_location(config, 'runner')}: {config.runner.type} is taken; write runner = "
            f'dict(type={config.runner.type!r}, ...)')


def _samples_per_gpu(config: Config) -> Iterator[str]:
    data = config.get('data') or {}
    if isinstance(data, dict) and 'imgs_per_gpu' in data:  # in V2 it overrides samples_per_gpu
        yield (
            f'data.imgs_per_gpu{_location(config, "data.imgs_per_gpu")} is now data.samples_per_gpu = '
            f'{data["imgs_per_gpu"]}')
        data['samples_per_gpu'] = data.pop('imgs_per_gpu')
        config.record_move('data.imgs_per_gpu', 'data.samples_per_gpu')


def _model_settings(config: Config) -> Iterator[str]:
    """Move top-level `train_cfg` and `test_cfg` into the model."""
    for name in ('train_cfg', 'test_cfg'):
        settings = config.get(name)
        if settings is None or not isinstance(config.get('model'), dict):
            continue
        if config.model.get(name) is not None:
            raise ConfigError(
                f'{name} is set both at the top level{_location(config, name)} and in model'
                f'{_location(config, f"model.{name}")}; keep model.{name}')
        yield f'{name} at the top level{_location(config, name)} is now model.{name}'
        config.model[name] = settings
        config.record_move(name, f'model.{name}')
        config.pop(name)


def _box_targets(config: Config) -> Iterator[str]:
    """Move `target_means` and `target_stds` of a head into its bbox_coder."""
    for path, head in _dicts(config.get('model') or {}, 'model'):
        if path.endswith('.bbox_coder') or not {'target_means', 'target_stds'} & set(head):
            continue
        if not str(head.get('type', '')).endswith('Head'):
            continue
        targets = [name for name in ('target_means', 'target_stds') if name in head]
        location = _location(config, f'{path}.{targets[0]}')
        coder = {'type': 'DeltaXYWHBBoxCoder', **(head.get('bbox_coder') or {})}
        for name in targets:
            coder[name] = head.pop(name)
            config.record_move(f'{path}.{name}', f'{path}.bbox_coder.{name}')
        head['bbox_coder'] = ConfigDict(coder)
        yield f'{path}.{" and ".join(targets)}{location} is now {path}.bbox_coder = {dict(head["bbox_coder"])!r}'


def _dicts(value: object, path: str) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Yield every nested dict with its dotted path; children first, so that a caller may modify it."""
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _dicts(item, f'{path}.{index}')
    elif isinstance(value, dict):
        for key, item in list(value.items()):
            yield from _dicts(item, f'{path}.{key}')
        yield path, value
