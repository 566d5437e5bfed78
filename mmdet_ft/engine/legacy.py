"""The only file that knows older spellings: it rewrites them to V2.28's, with one sentence for
each."""
import copy
from typing import Any, Dict, Iterator, List, Tuple

from mmdet_ft.config import Config, ConfigDict, ConfigError


def modernise(config: Config) -> Tuple[Config, List[str]]:
    """A config in V2.28's spellings, and what was changed: one sentence each, for the log.

    Raises ConfigError where an old and a new spelling contradict each other.
    """
    config = copy.deepcopy(config)
    notes: List[str] = []
    for rewrite in (_runner, _samples_per_gpu, _model_settings, _box_targets):
        notes += rewrite(config)
    return config, notes


def _runner(config: Config) -> Iterator[str]:
    """`total_epochs`, and a runner without type or without length."""
    if 'total_epochs' in config:
        epochs = config.total_epochs
        runner = config.get('runner') or {}
        if runner.get('max_epochs', epochs) != epochs:
            raise ConfigError(
                f'total_epochs={epochs} and runner.max_epochs={runner["max_epochs"]} contradict each '
                'other; keep runner = dict(max_epochs=...) only')
        if 'max_iters' not in runner:
            config.runner = {'type': 'EpochBasedRunner', **runner, 'max_epochs': epochs}
        config.pop('total_epochs')
        yield f"total_epochs = {epochs} is now runner = dict(type='EpochBasedRunner', max_epochs={epochs})"
    if config.get('runner') is not None and 'type' not in config.runner:
        config.runner.type = 'IterBasedRunner' if 'max_iters' in config.runner else 'EpochBasedRunner'
        yield f'runner has no type: {config.runner.type} is taken'


def _samples_per_gpu(config: Config) -> Iterator[str]:
    data = config.get('data') or {}
    if 'imgs_per_gpu' in data:
        data['samples_per_gpu'] = data.pop('imgs_per_gpu')
        yield f'data.imgs_per_gpu is now data.samples_per_gpu = {data["samples_per_gpu"]}'


def _model_settings(config: Config) -> Iterator[str]:
    """`train_cfg` and `test_cfg` beside the model."""
    for name in ('train_cfg', 'test_cfg'):
        settings = config.get(name)
        if settings is None:
            continue
        if config.model.get(name) is not None:
            raise ConfigError(
                f'{name} stands both at the top level and in model; keep model.{name}')
        config.model[name] = settings
        config.pop(name)
        yield f'{name} at the top level is now model.{name}'


def _box_targets(config: Config) -> Iterator[str]:
    """`target_means` and `target_stds` of a head, which belong to its bbox_coder."""
    for path, head in _dicts(config.get('model') or {}, 'model'):
        if path.endswith('.bbox_coder') or not {'target_means', 'target_stds'} & set(head):
            continue
        if not str(head.get('type', '')).endswith('Head'):
            continue
        targets = {name: head.pop(name) for name in ('target_means', 'target_stds') if name in head}
        head['bbox_coder'] = ConfigDict({
            'type': 'DeltaXYWHBBoxCoder',
            **(head.get('bbox_coder') or {}),
            **targets
        })
        yield f'{", ".join(targets)} in {path} now belong to its bbox_coder = {dict(head["bbox_coder"])!r}'


def _dicts(value: Any, path: str) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Every dict below, with its dotted path; children first, so that a caller may change what it
    is given."""
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _dicts(item, f'{path}.{index}')
    elif isinstance(value, dict):
        for key, item in list(value.items()):
            yield from _dicts(item, f'{path}.{key}')
        yield path, value
