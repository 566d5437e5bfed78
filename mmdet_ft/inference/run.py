"""A trained model over images."""
import copy
from typing import Any, Dict, List, Sequence

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import nn

from mmdet_ft import visualization
from mmdet_ft.datasets.loading.collate import collate, group_by_size
from mmdet_ft.datasets.pipelines.shared.compose import Compose
from mmdet_ft.engine.speed.precision import build_precision
from mmdet_ft.errors import UserError
from mmdet_ft.inference.build import test_data
from mmdet_ft.inference.inputs import Image, read_input
from mmdet_ft.registry import DATASETS
from mmdet_ft.structures import to_device


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
    data = test_data(model.cfg)
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


def _pipeline(steps: Sequence[Dict[str, Any]], in_memory: bool, of_files: Dict[str,
                                                                               Any]) -> Compose:
    """Build the test pipeline for arrays or files; `of_files` are the options of an added file loader."""
    steps = copy.deepcopy(list(steps))
    if not in_memory and not any(str(step.get('type')).startswith('Load') for step in steps):
        steps.insert(0, dict(type='LoadImageFromFile', **of_files))
    if in_memory and isinstance(steps[0], dict) and steps[0].get('type') == 'LoadImageFromFile':
        steps[0]['type'] = 'LoadImageFromWebcam'
    return Compose(steps)
