"""A trained model from a config, a checkpoint or both."""
import copy
import logging
import os
from types import SimpleNamespace
from typing import Any, Dict, Optional, Tuple, Union

from torch import nn

from mmdet_ft import file_kinds, visualization
from mmdet_ft.checkpoints import fitting, reading
from mmdet_ft.config.config import Config
from mmdet_ft.config.load import load_config
from mmdet_ft.engine.build import as_config
from mmdet_ft.engine.config_check.check import prepare_model
from mmdet_ft.engine.models.build import build_model
from mmdet_ft.engine.speed.devices import Device, read_device
from mmdet_ft.errors import UserError
from mmdet_ft.inference.pictures import with_show_result
from mmdet_ft.registry import DATASETS
from mmdet_ft.untrusted import require_plain_config

logger = logging.getLogger('mmdet_ft')


def source_of(config: Any, checkpoint: Any) -> Optional[str]:
    """Return the path or URL of a checkpoint as text.

    Raises UserError for anything else, and if config and checkpoint are swapped.
    """
    of_config, of_checkpoint = (file_kinds.CHECKPOINT, file_kinds.PICKLE), (file_kinds.CONFIG, )
    for name, value, wrong in (('config', config, of_config), ('checkpoint', checkpoint,
                                                               of_checkpoint)):
        kind = file_kinds.kind_of_file(value) if isinstance(value, (str, os.PathLike)) else None
        if kind in wrong:
            raise UserError(
                f'the {name} {os.fspath(value)!r} is {kind}, expected a {name}; the arguments are (config, '
                'checkpoint), and None for the config of the checkpoint')
    if checkpoint is None or isinstance(checkpoint, (str, os.PathLike)):
        return None if checkpoint is None else os.fspath(checkpoint)
    raise UserError(f"a checkpoint is a path or a URL, not a {type(checkpoint).__name__}; write "
                    "'work_dirs/pets/latest.pth', for example")


def config_of(config: Any, loaded: Optional[reading.Checkpoint]) -> Config:
    if isinstance(config, (str, os.PathLike)):
        return load_config(config)
    if isinstance(config, (Config, dict)):
        return copy.deepcopy(as_config(config, 'init_detector'))
    if config is not None:
        raise UserError(
            f'config must be the path of a file, a Config or a dict of its values, not a '
            f'{type(config).__name__}')
    if loaded is None:
        raise UserError('give a config, or a checkpoint that carries one')
    text = loaded.meta.get('config')
    if not isinstance(text, str) or 'model' not in text:
        raise UserError(
            f'{loaded.source} carries no config (meta.config); give the file that it was trained with'
        )
    require_plain_config(text, loaded.source)
    return Config.fromstring(text, '.py')


def classes_of(cfg: Config,
               loaded: Optional[reading.Checkpoint]) -> Tuple[Optional[Tuple[str, ...]], Any]:
    """Return class names and colors from the checkpoint, else the config, else the dataset type."""
    data = test_data(cfg)
    kind = DATASETS.class_of(data)
    named = data.get('classes')
    if isinstance(named, str):  # a file with one name per line
        with open(named, encoding='utf-8') as file:
            named = [line.strip() for line in file if line.strip()]
    classes = (loaded.meta.get('CLASSES') if loaded is not None else None) or named or getattr(
        kind, 'CLASSES', None)
    if isinstance(classes, str):
        classes = (classes, )
    palette = visualization.palette_of(kind, classes) if classes else None
    return (tuple(classes) if classes else None), palette


def test_data(cfg: Config) -> Dict[str, Any]:
    """Return `data.test`, else `data.val`, unwrapped from lists and dataset wrappers."""
    data = cfg.get('data') or {}
    split = data.get('test') or data.get('val') or {}
    while True:
        if isinstance(split, (list, tuple)):
            split = split[0]
        elif 'pipeline' not in split and 'dataset' in split:
            split = split['dataset']
        elif 'pipeline' not in split and split.get('datasets'):
            split = split['datasets']
        else:
            return split


def init_detector(config: Union[str, os.PathLike, Config, Dict[str, Any], None] = None,
                  checkpoint: Union[str, os.PathLike, None] = None,
                  device: Device = 'cuda:0',
                  cfg_options: Optional[Dict[str, Any]] = None) -> nn.Module:
    """Build a detector, load its weights and return it in evaluation mode, for `inference_detector`.

    Args:
        config: file, Config or a dict of its values; None takes the one stored in the checkpoint.
        checkpoint: path or URL; None keeps random weights.
        device: as in torch, or the number of a GPU. Without CUDA a CUDA device becomes the CPU, with a log
            message.
        cfg_options: dotted keys that override the config.

    Returns the model with `cfg`, `CLASSES`, `PALETTE` and V2's `show_result`. Raises UserError if neither
    argument defines a model, ConfigError or CheckpointError if one of them is faulty.
    """
    checkpoint = source_of(config, checkpoint)
    loaded = reading.read(checkpoint) if checkpoint is not None else None
    cfg = config_of(config, loaded)
    if cfg_options:
        cfg.merge_from_dict(cfg_options)
    cfg, notes = prepare_model(cfg)
    for note in notes:
        logger.warning(note)
    cfg.model.train_cfg = None
    classes, palette = classes_of(cfg, loaded)
    model = build_model(cfg.model, SimpleNamespace(CLASSES=classes, PALETTE=palette))
    if checkpoint is not None:
        fitting.load_trained(model, checkpoint)
    if model.CLASSES is None:
        raise UserError(f'neither {checkpoint or "a checkpoint"} nor the config names the classes; '
                        f"write cfg_options={{'data.test.classes': [...]}}")
    model.cfg = cfg
    return with_show_result(model).to(read_device(device)).eval()
