"""Notebook API: load a trained detector, run it on images, look at the result.

    from mmdet_ft.apis import inference_detector, init_detector, show_result_pyplot

    model = init_detector(None, 'work_dirs/mask_rcnn_ft/latest.pth')  # the checkpoint carries its config
    result = inference_detector(model, 'street.png')
    show_result_pyplot(model, 'street.png', result)
"""
import logging
import os
from typing import Any, Dict, Optional, Sequence, Union

import numpy as np
from torch import nn

from mmdet_ft import old_functions, visualization
from mmdet_ft.checkpoints import reading
from mmdet_ft.config.config import Config
from mmdet_ft.engine.build import train
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.evaluate import (check_evaluation_options, count_all_detections, require_masks,
                                      run_over)
from mmdet_ft.engine.hooks.evaluation import split_evaluation
from mmdet_ft.engine.loaders import build_test_loader
from mmdet_ft.engine.models.trained import build_trained
from mmdet_ft.engine.settings.read import read_test_settings
from mmdet_ft.engine.speed.devices import Device, read_device
from mmdet_ft.engine.speed.precision import build_precision
from mmdet_ft.inference import pictures
from mmdet_ft.inference.build import config_of, init_detector, source_of
from mmdet_ft.inference.inputs import Image
from mmdet_ft.inference.records import class_of
from mmdet_ft.inference.run import detect
from mmdet_ft.old_functions import (init_random_seed, multi_gpu_test, replace_ImageToTensor,
                                    set_random_seed, single_gpu_test, train_detector, train_model)
from mmdet_ft.old_names import resolve_old_names

__all__ = [
    'build_detector', 'inference_detector', 'inference_model', 'init_detector', 'init_model',
    'init_random_seed', 'multi_gpu_test', 'replace_ImageToTensor', 'set_random_seed',
    'show_result_pyplot', 'single_gpu_test', 'test', 'train', 'train_detector', 'train_model'
]

logger = logging.getLogger('mmdet_ft')


def build_detector(cfg: Dict[str, Any],
                   train_cfg: Optional[Dict[str, Any]] = None,
                   test_cfg: Optional[Dict[str, Any]] = None) -> nn.Module:
    """Build the model of a config's `model`, with V2's `show_result`; see old_functions.py."""
    return pictures.with_show_result(old_functions.build_detector(cfg, train_cfg, test_cfg))


def inference_detector(model: nn.Module, imgs: Union[Image, Sequence[Image]]) -> Any:
    """Detect objects in one image or several.

    Args:
        model: returned by `init_detector`.
        imgs: a path, an array [H, W, 3] in BGR of 0..255 (gray [H, W] is converted) or a Pillow image; or a
            list of these, which is run in batches of one size.

    Returns V2's result of the image, or a list of them: boxes [n, 5] of each class in image pixels, with masks
    a pair of boxes and bool arrays [H, W]; for a classifier scores [K]. Raises UserError for an invalid image.
    """
    alone = not isinstance(imgs, (list, tuple))
    results = [_with_bitmaps(result) for result in detect(model, [imgs] if alone else imgs)]
    return results[0] if alone else results


def _with_bitmaps(result: Any) -> Any:
    if not isinstance(result, tuple):
        return result
    _, masks = visualization.split_result(result)
    bitmaps = [[visualization.decode_mask(mask) for mask in of_class] for of_class in masks]
    scored = isinstance(result[1], tuple)  # Mask Scoring R-CNN
    return result[0], (bitmaps, *result[1][1:]) if scored else bitmaps


def test(config: Union[str, os.PathLike, Config, Dict[str, Any], None],
         checkpoint: Union[str, os.PathLike],
         metrics: Union[str, Sequence[str], None] = None,
         device: Device = 'cuda:0',
         cfg_options: Optional[Dict[str, Any]] = None,
         **options: Any) -> Dict[str, float]:
    """Evaluate a checkpoint on `data.test`, as tools/test.py --eval does.

    Args:
        config: file, Config or a dict of its values; None takes the one stored in the checkpoint.
        checkpoint: path or URL.
        metrics: of the dataset: 'bbox', 'segm', 'mAP', 'accuracy' ...; None takes evaluation.metric of the
            config.
        device, cfg_options: as in `init_detector`.
        options: further arguments of `dataset.evaluate`.

    Returns the metrics. Raises UserError, ConfigError, CheckpointError and DataError as the command does.
    """
    checkpoint = source_of(config, checkpoint)
    cfg = config_of(config, None if config is not None else reading.read(checkpoint))
    if cfg_options:
        cfg.merge_from_dict(cfg_options)
    cfg, notes = prepare(cfg, for_training=False)
    for note in notes:
        logger.warning(note)
    settings = read_test_settings(cfg)
    loader = build_test_loader(settings.data, 'test')
    evaluation = {**split_evaluation(settings.hooks.evaluation)[1], **options}
    metrics = evaluation.get('metric') if metrics is None else metrics
    if not metrics:
        raise UserError(
            "neither metrics nor evaluation.metric of the config says what to measure; write metrics="
            "['bbox'], for example")
    evaluation['metric'] = [metrics] if isinstance(metrics, str) else list(metrics)
    check_evaluation_options(loader.dataset, evaluation)
    count_all_detections(settings.model, loader.dataset, evaluation)
    model = build_trained(settings.model, loader.dataset, checkpoint)
    require_masks(model, evaluation['metric'])
    torch_device = read_device(device)
    precision = build_precision(settings.fp16 if torch_device.type == 'cuda' else None,
                                torch_device)
    results = run_over(model.to(torch_device).eval(), loader, precision)
    return dict(loader.dataset.evaluate(results, **evaluation))


test.__test__ = False  # pytest


def init_model(config: Union[str, os.PathLike, Config, None] = None,
               checkpoint: Optional[str] = None,
               device: Device = 'cuda:0',
               options: Optional[Dict[str, Any]] = None) -> nn.Module:
    """Build a classifier for `inference_model`; MMClassification's name, see `init_detector`."""
    return init_detector(config, checkpoint, device, options)


def inference_model(model: nn.Module, img: Image) -> Dict[str, Any]:
    """Classify an image, a path or an array as in `inference_detector`.

    Returns MMClassification's dict: pred_label, pred_score (0..1) and pred_class, the name.
    """
    return class_of(inference_detector(model, img), model.CLASSES)


def show_result_pyplot(model: nn.Module,
                       img: Image,
                       result: Any,
                       score_thr: float = 0.3,
                       title: str = 'result',
                       wait_time: float = 0,
                       palette: Any = None,
                       out_file: Optional[str] = None,
                       fig_size: Any = None) -> Optional[np.ndarray]:
    """Show a result in a window or notebook (needs matplotlib), or write it to `out_file`.

    Args:
        model: returned by `init_detector`, for its classes.
        img: as in `inference_detector`.
        result: of `inference_detector` for that image, or the dict of `inference_model`.
        score_thr: minimum score of the results shown.
        title: of the figure.
        wait_time: seconds that a window stays open; 0 until it is closed.
        palette: RGB triplets, one per class; the dataset's by default. As in V2 also 'coco', 'voc', 'citys',
            'random', or one color for all, a name or RGB.
        out_file: where to write the picture instead of showing it.
        fig_size: of MMClassification; the picture is shown at its own size.

    Returns the written picture, uint8 [H, W, 3] in BGR, or None if it was shown, so that a notebook does not
    print the array. Raises UserError for an `out_file` that is the image itself.
    """
    picture = pictures.draw(model, img, result, score_thr, palette)
    if out_file is not None:
        pictures.write_picture(picture, img, out_file)
        return picture
    pictures.show_picture(picture, title, wait_time)
    return None


build_classifier = build_detector  # MMClassification's name
__getattr__ = resolve_old_names(__name__)  # V2's other names
