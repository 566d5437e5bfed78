"""Notebook API: load a trained detector, run it on images, look at the result.

    from mmdet_ft.apis import inference_detector, init_detector, show_result_pyplot

    model = init_detector(None, 'work_dirs/mask_rcnn_ft/latest.pth')  # the checkpoint carries its config
    result = inference_detector(model, 'street.png')
    show_result_pyplot(model, 'street.png', result)
"""
import copy
import functools
import logging
import numbers
import os
from types import SimpleNamespace
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
import torch
from PIL import ImageColor
from pycocotools import mask as coco_mask
from torch import nn

from mmdet_ft import file_kinds, old_functions, visualization
from mmdet_ft.checkpoints import fitting, reading
from mmdet_ft.config.config import Config
from mmdet_ft.config.load import load_config
from mmdet_ft.datasets.loading.collate import collate, group_by_size
from mmdet_ft.datasets.pipelines.shared.compose import Compose
from mmdet_ft.datasets.pipelines.shared.loading import read_image
from mmdet_ft.engine.build import as_config, train
from mmdet_ft.engine.config_check.check import prepare, prepare_model
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.evaluate import (check_evaluation_options, count_all_detections, require_masks,
                                      run_over)
from mmdet_ft.engine.hooks.evaluation import split_evaluation
from mmdet_ft.engine.loaders import build_test_loader
from mmdet_ft.engine.models.build import build_model
from mmdet_ft.engine.models.trained import build_trained
from mmdet_ft.engine.settings.read import read_test_settings
from mmdet_ft.engine.speed.devices import Device, read_device
from mmdet_ft.engine.speed.precision import build_precision
from mmdet_ft.models.classifiers.image import ImageClassifier
from mmdet_ft.old_functions import (init_random_seed, multi_gpu_test, replace_ImageToTensor,
                                    set_random_seed, single_gpu_test, train_detector, train_model)
from mmdet_ft.old_names import resolve_old_names
from mmdet_ft.outputs import Inputs
from mmdet_ft.registry import DATASETS
from mmdet_ft.structures import to_device
from mmdet_ft.untrusted import require_plain_config

__all__ = [
    'build_detector', 'inference_detector', 'inference_model', 'init_detector', 'init_model',
    'init_random_seed', 'multi_gpu_test', 'replace_ImageToTensor', 'set_random_seed',
    'show_result_pyplot', 'single_gpu_test', 'test', 'train', 'train_detector', 'train_model'
]

Image = Union[str, os.PathLike, np.ndarray]
logger = logging.getLogger('mmdet_ft')


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
    checkpoint = _source_of(config, checkpoint)
    loaded = reading.read(checkpoint) if checkpoint is not None else None
    cfg = _config_of(config, loaded)
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
    return _with_show_result(model).to(read_device(device)).eval()


def build_detector(cfg: Dict[str, Any],
                   train_cfg: Optional[Dict[str, Any]] = None,
                   test_cfg: Optional[Dict[str, Any]] = None) -> nn.Module:
    """Build the model of a config's `model`, with V2's `show_result`; see old_functions.py."""
    return _with_show_result(old_functions.build_detector(cfg, train_cfg, test_cfg))


def _with_show_result(model: nn.Module) -> nn.Module:
    show = _show_class if isinstance(model, ImageClassifier) else _show_result
    model.show_result = functools.partial(show, model)
    return model


def _source_of(config: Any, checkpoint: Any) -> Optional[str]:
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


def _config_of(config: Any, loaded: Optional[reading.Checkpoint]) -> Config:
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
    data = _test_data(cfg)
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


def _test_data(cfg: Config) -> Dict[str, Any]:
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


def detect(model: nn.Module, imgs: Sequence[Image]) -> List[Any]:
    """Run `inference_detector` on a list, with masks as run lengths: a thousandth of the memory."""
    images = [read_input(img, f'image {index}') for index, img in enumerate(imgs)]
    if not images:
        return []
    model = getattr(model, 'module', model)  # of DataParallel, as V2's scripts wrap it
    if getattr(model, 'cfg', None) is None:
        raise UserError(
            'the model has no cfg, which says how images are prepared: model.cfg = cfg, as after '
            'build_detector, or take a model of init_detector')
    data = _test_data(model.cfg)
    if 'pipeline' not in data:
        raise UserError('the config has no data.test.pipeline, which says how images are prepared')
    parameter = next(model.parameters())
    if parameter.dtype != torch.float32:
        raise UserError(
            f"the model's weights are {parameter.dtype}: call model.float(). On a GPU fp16 = dict(dtype='float16') in "
            f'the config runs it in half precision')
    of_files = getattr(DATASETS.get(str(data.get('type')), data), 'image_files', {})
    from_file, from_array = (
        _pipeline(data['pipeline'], in_memory, of_files) for in_memory in (False, True))
    samples = []
    for index, img in enumerate(images):
        try:
            if isinstance(img, np.ndarray):
                if img.shape[2:] != (3, ) and of_files.get('color_type') != 'grayscale':
                    img = visualization.as_bgr(img)
                about = dict(
                    filename=None, ori_filename=None, img_shape=img.shape, ori_shape=img.shape)
                samples.append(from_array(dict(img=img, img_info={}, img_prefix=None, **about)))
            else:
                samples.append(from_file(dict(img_info=dict(filename=img), img_prefix=None)))
        except cv2.error as error:
            name = f'image {index}' if isinstance(img, np.ndarray) else img
            raise UserError(
                f'{name} cannot be prepared as data.test.pipeline says: {error}') from error
    was_training = model.training
    model.eval()
    results: List[Any] = [None] * len(samples)
    try:
        # Images padded to another size than their own give other detections, also at their padding.
        for indices in group_by_size(samples):
            part = _run(model, [samples[index] for index in indices], parameter.device)
            for index, result in zip(indices, part):
                results[index] = without_slivers(result, samples[index])
    finally:
        model.train(was_training)
    return results


def _run(model: nn.Module, samples: List[Dict[str, Any]], device: torch.device) -> List[Any]:
    views = collate(samples)
    # As in tools/test.py, half precision is used on a GPU only.
    precision = build_precision(model.cfg.get('fp16') if device.type == 'cuda' else None, device)
    with torch.no_grad(), precision.autocast():
        detections = model(to_device(views, device))
    return model.results(detections, views[0].metas)


def without_slivers(result: Any, sample: Dict[str, Any]) -> Any:
    """Remove detections in the padding of an image, of which less than a pixel is inside.

    They are clipped to strips along the right or the lower edge, under a pixel wide and often without a mask
    pixel.
    """
    if isinstance(result, np.ndarray):
        return result
    metas = sample['img_metas']
    height, width = (metas[0] if isinstance(metas, (list, tuple)) else metas)['ori_shape'][:2]
    boxes, masks = visualization.split_result(result)
    kept = []
    for label, rows in enumerate(boxes):
        x0, y0, x1, y1 = rows[:, :4].T
        is_sliver = (x1 >= width - 1) & (x1 - x0 < 1) | (y1 >= height - 1) & (y1 - y0 < 1)
        if masks is not None:
            is_sliver |= np.array([not coco_mask.area(mask) for mask in masks[label]], bool)
        kept.append(np.flatnonzero(~is_sliver))
    boxes = [rows[indices] for rows, indices in zip(boxes, kept)]
    if not isinstance(result, tuple):
        return boxes

    def of_masks(lists: Any) -> List[List[Any]]:
        return [[of_class[index] for index in indices] for of_class, indices in zip(lists, kept)]

    if isinstance(result[1], tuple):  # Mask Scoring R-CNN: masks and their scores
        return boxes, tuple(of_masks(lists) for lists in result[1])
    return boxes, of_masks(masks)


FILMS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.wmv', '.mpg', '.mpeg', '.flv')
TEXTS = ('.txt', '.csv', '.json', '.xml', '.yaml', '.yml', '.lst')


def why_no_image(path: Union[str, os.PathLike]) -> str:
    """Return advice for a path that is not an image by its name: a URL, folder, video or list; '' for others."""
    text = os.fspath(path)
    ending = os.path.splitext(text)[1].lower()
    if '://' in text:
        return f'{text} is a URL: download the image first and give its path'
    if os.path.isdir(text):
        return f'{text} is a folder: give its files, such as sorted(glob.glob({os.path.join(text, "*.jpg")!r}))'
    if ending in FILMS:
        return f'{text} is a film: take its pictures out first, as by ffmpeg -i {os.path.basename(text)} %05d.png'
    if ending in TEXTS:
        return f'{text} is not an image. Give the files that a list names; tools/test.py runs over annotation files'
    return ''


def read_input(img: Any, name: str) -> Union[str, np.ndarray]:
    """Read a path or an array as model input: uint8 or floats of 0..255, [H, W, 3] in BGR or gray [H, W].

    Raises UserError, with the correct form, for anything else; `name` is the image's name in the message.
    """
    if isinstance(img, (str, os.PathLike)):
        reason = why_no_image(img)
        if reason:
            raise UserError(reason)
        return os.fspath(img)
    if hasattr(img, 'getexif') and hasattr(img, 'convert'):  # a Pillow image
        from PIL import ImageOps
        return np.ascontiguousarray(
            np.asarray(ImageOps.exif_transpose(img).convert('RGB'))[..., ::-1])
    if isinstance(img, torch.Tensor):
        raise UserError(
            f'{name} is a tensor {list(img.shape)}; give an array [H, W, 3] in BGR of 0..255: of an RGB tensor '
            f'[3, H, W] in 0..1 (img.permute(1, 2, 0).cpu().numpy()[..., ::-1] * 255).astype(np.uint8)'
        )
    if not isinstance(img, np.ndarray):
        raise UserError(
            f'{name} is a {type(img).__name__}; it must be a path or an array (cv2.imread gives None for a file that '
            f'it cannot read)')
    if not img.size or img.ndim not in (2, 3) or img.ndim == 3 and img.shape[2] not in (1, 3):
        fix = ''
        if img.ndim == 3 and img.shape[2] == 4:
            fix = '; img[..., :3] is one without its alpha channel'
        elif img.ndim == 3 and img.shape[0] in (1, 3):
            fix = '; img.transpose(1, 2, 0) has its channels last'
        elif img.ndim == 4:
            fix = '; give a batch as a list of images: list(img)'
        raise UserError(
            f'{name} is an array {list(img.shape)}; it must be [H, W, 3] in BGR, or gray [H, W]{fix}'
        )
    return _of_bytes(img, name)


def _of_bytes(img: np.ndarray, name: str) -> np.ndarray:
    """Return an array with values in 0..255: uint8, or floats. Raises UserError for other ranges."""
    if img.dtype == np.uint8:
        return img
    if img.dtype == bool:
        raise UserError(f'{name} is bool: give 0..255 (img.astype(np.uint8) * 255)')
    if img.dtype.kind not in 'iuf':
        raise UserError(f'{name} is an array of {img.dtype}; give uint8 of 0..255')
    low, high = img.min(), img.max()
    if not np.isfinite([low, high]).all():
        raise UserError(f'{name} is {img.dtype} and holds nan or inf; give 0..255')
    if low < 0:
        raise UserError(f'{name} is {img.dtype} from {low:g}: give 0..255, as before normalizing')
    if img.dtype.kind == 'f':
        if 0 < high <= 1:
            raise UserError(f'{name} is {img.dtype} up to {high:g}: give 0..255 (img * 255)')
        if high > 255:
            raise UserError(
                f'{name} is {img.dtype} up to {high:g}: give 0..255 (img * (255 / img.max()))')
        return img.astype(np.float32)
    if high > 255:
        raise UserError(
            f'{name} is {img.dtype} up to {high}: give uint8 of 0..255 (of 16 bits (img // 257).astype(np.uint8))'
        )
    return img.astype(np.uint8)


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
    checkpoint = _source_of(config, checkpoint)
    cfg = _config_of(config, None if config is not None else reading.read(checkpoint))
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


def class_of(scores: np.ndarray, class_names: Sequence[str]) -> Dict[str, Any]:
    """Return the best class of scores [K]."""
    label = int(scores.argmax())
    return dict(pred_label=label, pred_score=float(scores[label]), pred_class=class_names[label])


def _pipeline(steps: Sequence[Dict[str, Any]], in_memory: bool, of_files: Dict[str,
                                                                               Any]) -> Compose:
    """Build the test pipeline for arrays or files; `of_files` are the options of an added file loader."""
    steps = copy.deepcopy(list(steps))
    if not in_memory and not any(str(step.get('type')).startswith('Load') for step in steps):
        steps.insert(0, dict(type='LoadImageFromFile', **of_files))
    if in_memory and isinstance(steps[0], dict) and steps[0].get('type') == 'LoadImageFromFile':
        steps[0]['type'] = 'LoadImageFromWebcam'
    return Compose(steps)


def read_bgr(path: Union[str, os.PathLike]) -> np.ndarray:
    """Read an image file as uint8 [H, W, 3] in BGR, rotated by its EXIF data like the test pipeline."""
    return read_image(os.fspath(path), {}, dict(backend='disk'), 'color', 'bgr')


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
    picture = _draw(model, img, result, score_thr, palette)
    if out_file is not None:
        _write(picture, img, out_file)
        return picture
    _show(picture, title, wait_time)
    return None


def _draw(model: nn.Module,
          img: Image,
          result: Any,
          score_thr: float,
          palette: Any = None) -> np.ndarray:
    model = getattr(model, 'module', model)
    img = read_input(img, 'the image')
    image = visualization.as_bgr(img) if isinstance(img, np.ndarray) else read_bgr(img)
    if isinstance(result, (np.ndarray, dict)):  # of a classifier
        best = result if isinstance(result, dict) else class_of(result, model.CLASSES)
        picture = visualization.enlarge(image)
        visualization.draw_label(picture, f'{best["pred_class"]} {best["pred_score"]:.2f}',
                                 (0, 0, 0, 0), visualization.BLACK)
        return picture
    if model.CLASSES is None:
        raise UserError('the model does not know its classes: model.CLASSES = dataset.CLASSES')
    palette = _read_palette(palette, len(model.CLASSES))
    return visualization.draw_detections(image, result, model.CLASSES, score_thr,
                                         model.PALETTE if palette is None else palette)


# V2's palette names -> the dataset that has these colors.
PALETTES = dict(coco='CocoDataset', voc='VOCDataset', citys='CityscapesDataset')


def _read_palette(palette: Any, num_classes: int) -> Any:
    """Convert a V2 palette to RGB triplets; None for the model's own. Raises UserError."""
    if isinstance(palette, str) and palette in PALETTES:
        return DATASETS.get(PALETTES[palette]).PALETTE
    if palette is None or isinstance(palette, str) and palette == 'random':
        return None if palette is None else visualization.rgb_palette(num_classes)
    color = palette
    if isinstance(palette, str):
        try:
            color = ImageColor.getrgb(palette)[:3]
        except ValueError:
            raise UserError(
                f'palette {palette!r}: it is {", ".join(PALETTES)}, random, a color such as green, '
                'or an RGB triplet for each class') from None
    one_for_all = len(color) == 3 and all(isinstance(value, numbers.Real) for value in color)
    return [list(color)] * num_classes if one_for_all else palette


def _write(picture: np.ndarray, img: Image, out_file: str) -> None:
    Inputs([img] if isinstance(img, (str, os.PathLike)) else []).require_free(out_file, 'out_file')
    try:
        visualization.write_picture(out_file, picture)
    except (OSError, ValueError) as error:
        raise UserError(f'cannot write {out_file}: {error}') from error


def _show(picture: np.ndarray, title: str, wait_time: float) -> None:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise UserError(
            'showing a picture needs matplotlib: pip install matplotlib, or give out_file'
        ) from None
    height, width = picture.shape[:2]
    figure = plt.figure(title, figsize=(width / 100, height / 100))
    axes = figure.add_axes([0, 0, 1, 1])
    axes.axis('off')
    axes.imshow(picture[..., ::-1])
    if wait_time > 0:
        plt.show(block=False)
        plt.pause(wait_time)
    else:
        plt.show()


def _show_result(model: nn.Module,
                 img: Image,
                 result: Any,
                 score_thr: float = 0.3,
                 bbox_color: Any = None,
                 text_color: Any = None,
                 mask_color: Any = None,
                 thickness: int = 2,
                 font_size: int = 13,
                 win_name: str = 'result',
                 show: bool = False,
                 wait_time: float = 0,
                 out_file: Optional[str] = None) -> np.ndarray:
    """Return the picture of V2's `model.show_result`; show or write it if requested.

    bbox_color, or mask_color, is a palette as in `show_result_pyplot`. The style of captions and lines follows
    from the picture: text_color, thickness and font_size have no effect.
    """
    palette = mask_color if bbox_color is None else bbox_color
    return _shown(
        _draw(model, img, result, score_thr, palette), img, win_name, show, wait_time, out_file)


def _show_class(model: nn.Module,
                img: Image,
                result: Any,
                text_color: Any = None,
                font_scale: float = 0.5,
                row_width: int = 20,
                show: bool = False,
                fig_size: Any = None,
                win_name: str = 'result',
                wait_time: float = 0,
                out_file: Optional[str] = None,
                score_thr: float = 0.) -> np.ndarray:
    """Show a class as MMClassification's `model.show_result`, from scores or the dict of `inference_model`.

    The style of the caption follows from the picture: text_color, font_scale, row_width and fig_size have no
    effect.
    """
    return _shown(_draw(model, img, result, score_thr), img, win_name, show, wait_time, out_file)


def _shown(picture: np.ndarray, img: Image, title: str, show: bool, wait_time: float,
           out_file: Optional[str]) -> np.ndarray:
    if out_file is not None:
        _write(picture, img, out_file)
    elif show:
        _show(picture, title, wait_time)
    return picture


def detections_of(result: Any,
                  class_names: Sequence[str],
                  score_thr: float = 0.) -> List[Dict[str, Any]]:
    """Return a result as plain records that json can hold, best first.

    Each has `category_id` (class index from 1), `category_name`, `score`, `bbox` [x, y, width, height] in
    pixels and, with masks, `segmentation` (a COCO run length) and `area`.
    """
    boxes, masks = visualization.split_result(result)
    records = []
    for label, name in enumerate(class_names):
        for i, (x0, y0, x1, y1, score) in enumerate(np.asarray(boxes[label], np.float64)):
            if score < score_thr:
                continue
            record = dict(
                category_id=label + 1,
                category_name=name,
                score=round(float(score), 5),
                bbox=[round(float(value), 2) for value in (x0, y0, x1 - x0, y1 - y0)])
            if masks is not None:
                run_length = masks[label][i]
                if not isinstance(run_length, dict):
                    run_length = coco_mask.encode(np.asfortranarray(run_length, np.uint8))
                record['area'] = int(coco_mask.area(run_length))
                counts = run_length['counts']
                record['segmentation'] = dict(
                    size=[int(length) for length in run_length['size']],
                    counts=counts.decode('ascii') if isinstance(counts, bytes) else counts)
            else:
                record['area'] = round(float((x1 - x0) * (y1 - y0)), 2)
            records.append(record)
    return sorted(records, key=lambda record: -record['score'])


build_classifier = build_detector  # MMClassification's name
__getattr__ = resolve_old_names(__name__)  # V2's other names
