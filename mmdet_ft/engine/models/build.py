"""The model of a run: built, initialized, loaded and wrapped; `model` and `load_from` of a config."""
import copy
import inspect
import json
import logging
import os
from typing import Any, Callable, Dict, Optional, Sequence

from torch import nn

from mmdet_ft.checkpoints import fitting, reading
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.sources import Source
from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.models import frozen
from mmdet_ft.engine.models.labels import check_labels
from mmdet_ft.engine.reporting.log import get_root_logger
from mmdet_ft.engine.settings.records import PartSettings, WeightSettings
from mmdet_ft.models.layers import unsynchronize
from mmdet_ft.registry import MODELS


def build_model(settings: PartSettings, dataset: Any) -> nn.Module:
    """Build the model with random weights and the dataset's classes; `num_classes='auto'` becomes their number.

    settings: `model` of a config, which stays as it is.
    """
    settings = copy.deepcopy(settings)
    count_classes(settings, getattr(dataset, 'CLASSES', None))
    if cancel_pretrained(settings):
        get_root_logger().info(
            'model.pretrained=None: backbone.init_cfg is not used, nothing is downloaded for it')
    model = MODELS.build(settings)
    model.CLASSES = getattr(dataset, 'CLASSES', None)
    model.PALETTE = getattr(dataset, 'PALETTE', None)
    check_labels(dataset, model)
    return model


def count_classes(settings: Any, classes: Optional[Sequence[str]], path: str = 'model') -> int:
    """Replace num_classes='auto' in a model's settings by the number of classes; returns how often.

    Raises UserError if the classes are not known.
    """
    counted = 0
    if isinstance(settings, dict):
        if settings.get('num_classes') == 'auto':
            if not classes:
                raise UserError(
                    f"{path}.num_classes='auto' needs to know the classes: write classes=(...) in "
                    f'data.train, data.val and data.test')
            settings['num_classes'] = len(classes)
            counted = 1
        for key, value in settings.items():
            counted += count_classes(value, classes, f'{path}.{key}')
    elif isinstance(settings, (list, tuple)):
        for index, value in enumerate(settings):
            counted += count_classes(value, classes, f'{path}.{index}')
    return counted


def cancel_pretrained(model: PartSettings) -> bool:
    """Remove `Pretrained` from the init_cfg of the backbone and a shared head if the config sets
    `pretrained=None`.

    V2's tutorials write that to train without ImageNet weights. The bases since 2.11 name the
    weights in init_cfg, and V2 then downloads them anyway.
    """
    if 'pretrained' not in model or model['pretrained'] is not None:
        return False
    paths = getattr(MODELS.class_of(model), 'pretrained_parts', ('backbone', ))
    parts = [frozen.settings_at(model, path) for path in paths]
    found = [
        part for part in parts if any(
            rule.get('type') == 'Pretrained' for rule in _rules(part.get('init_cfg')))
    ]
    for part in found:
        rules = [rule for rule in _rules(part['init_cfg']) if rule.get('type') != 'Pretrained']
        part['init_cfg'] = rules or None
    return bool(found)


def _rules(init_cfg: Any) -> Sequence[Dict[str, Any]]:
    """Return `init_cfg` as a sequence: it is one rule, several, or none."""
    return init_cfg if isinstance(init_cfg, (list, tuple)) else [init_cfg] if init_cfg else []


def initialize_weights(model: nn.Module,
                       settings: WeightSettings,
                       logger: logging.Logger,
                       work_dir: Optional[str] = None,
                       is_new: bool = True) -> None:
    """Initialize the weights, then load `load_from`.

    Weights that a checkpoint provides are not downloaded first.

    Args:
        work_dir: folder for `load_from.json`, which reports the result for each weight.
        is_new: the model has random weights; otherwise those of its owner, which are kept.
    """
    resumed = settings.resume_from
    source = resumed or settings.load_from
    begin = fitting.parse_load_from(source) if source else None
    checkpoint = begin and dist.first_on_main(lambda: load_named(
        settings, begin.checkpoint, lambda source: reading.read(source, begin.trust)))
    if checkpoint is not None and not resumed:
        checkpoint = fitting.select_weights(checkpoint, model)
    for part in getattr(model, 'pretrained_parts', ('backbone', )):
        if fitting.covers(checkpoint, model, part) and drop_pretrained(model.get_submodule(part)):
            logger.info(
                '%s has the whole %s: %s.init_cfg is not used, nothing is downloaded for it',
                checkpoint.source, part, part)
    with frozen.watch_loading(model) as loaded:
        if is_new:
            dist.first_on_main(lambda: _initialize(model, settings))
        if checkpoint is not None and not resumed:
            report = fitting.fit(model, checkpoint, begin.strict, begin.heads, begin.aliases,
                                 settings.input_format)
            logger.log(logging.WARNING if report.warnings else logging.INFO, str(report))
            if work_dir and dist.get_dist_info()[0] == 0:
                path = os.path.join(work_dir, 'load_from.json')
                with open(path, 'w', encoding='utf-8') as file:
                    json.dump(report.as_json(), file, indent=1)
    if not resumed and is_new:
        for remark in frozen.remarks(model, settings.model, loaded.names):
            logger.warning(remark)


def load_named(settings: WeightSettings, source: Source, load: Callable[[Source], Any]) -> Any:
    """Call `load(source)`; a CheckpointError names the file's config key, its line, and the fix."""
    try:
        return load(source)
    except CheckpointError as error:
        alternatives = source if isinstance(source, (list, tuple)) else [source]
        for section in ('load_from', 'resume_from', 'model'):
            key = settings.keys.find(section, lambda path, value: value in alternatives)
            if key:
                break
        else:
            raise
        is_there = any(os.path.isfile(str(name)) for name in alternatives)
        way = '' if is_there else '. To fix: correct the path, or put the file there'
        if section == 'model':
            put = '' if is_there else 'put the file at the path named, or '
            way = f'. To fix: {put}{_without_file(settings.model, key.partition(" (")[0])}'
        raise CheckpointError(f'{key} = {source!r}: {error}{way}') from error


def _without_file(model: PartSettings, path: str) -> str:
    """Explain how to train without the file that a model names at a path of its config."""
    owner, _, key = path.rpartition('.')
    part, init_cfg, _ = f'{owner}.'.partition('.init_cfg.')
    off = f'{part}.init_cfg=None' if init_cfg else f'{owner}.{key}=None'
    part = part.partition('.')[2] if init_cfg else ''
    changes = dict(init_cfg=None) if init_cfg else {key: None}
    text = f'write {off} where load_from gives the weights anyway'
    line = frozen.freeing_line(model, part.rstrip('.') or 'backbone', changes)
    return f'{text}; from random weights nothing may be frozen: {line}'


def _initialize(model: nn.Module, settings: WeightSettings) -> None:
    if hasattr(model, 'init_weights'):
        if 'load' in inspect.signature(model.init_weights).parameters:
            model.init_weights(
                load=fitting.pretrained_loader(
                    settings.input_format, lambda source, load: load_named(settings, source, load),
                    getattr(model, 'CLASSES', None)))
        else:
            model.init_weights()


def drop_pretrained(module: nn.Module) -> bool:
    """Remove `init_cfg=dict(type='Pretrained', ...)` from a module; returns whether it had one."""
    init_cfg = getattr(module, 'init_cfg', None)
    if not isinstance(init_cfg, dict) or init_cfg.get('type') != 'Pretrained':
        return False
    module.init_cfg = None
    return True


def wrap(model: nn.Module, find_unused_parameters: bool = False) -> nn.Module:
    """Wrap the model in DistributedDataParallel if there are several processes.

    Buffers are not broadcast at each step: norm statistics are, before an evaluation.
    """
    if next(model.parameters()).device.type == 'cpu' and unsynchronize(model):
        get_root_logger().warning('SyncBN needs GPUs: on the CPU it is BN')
    # V2 wraps the model in a single process too, and custom hooks read runner.model.module. Bypasses
    # nn.Module's registration, so that the model is not a submodule of itself.
    vars(model)['module'] = model
    if not dist.is_distributed():
        return model
    data_parallel = nn.parallel.DistributedDataParallel
    new_name = 'forward_sync_buffers' in inspect.signature(
        data_parallel).parameters  # torch 2.13; the old name warns
    return data_parallel(
        model,
        find_unused_parameters=find_unused_parameters,
        **{'forward_sync_buffers' if new_name else 'broadcast_buffers': False})
