"""Show the samples of data.train as the network sees them, after their pipeline."""
import os
import sys
from argparse import Namespace
from typing import Any, Dict, Sequence

import cv2
import numpy as np
import torch

from mmdet_ft import visualization
from mmdet_ft.config.load import load_config
from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.checks.split import innermost
from mmdet_ft.datasets.loading.seeded import SeededDataset
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.errors import first_line
from mmdet_ft.engine.reporting.data_outputs import inputs_of
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.engine.runner.seeds import require_seed
from mmdet_ft.engine.settings.read import read_test_settings
from mmdet_ft.errors import UserError
from mmdet_ft.outputs import PictureNames

WINDOW = 'dataset: a key for the next, q or Esc to end'
NO_WINDOW = ('there is no window here (headless OpenCV or no display); write pictures with '
             '--output-dir FOLDER --not-show')


def without(settings: Any, skip_type: Sequence[str]) -> Any:
    """Remove transform types from the pipelines of a dataset config; under a mix, inner datasets keep theirs."""
    if isinstance(settings, (list, tuple)):
        return [without(part, skip_type) for part in settings]
    settings = dict(settings)
    if 'pipeline' in settings:
        settings['pipeline'] = [
            transform for transform in settings['pipeline'] if transform['type'] not in skip_type
        ]
    elif 'dataset' in settings or 'datasets' in settings:
        key = 'dataset' if 'dataset' in settings else 'datasets'
        settings[key] = without(settings[key], skip_type)
    return settings


def picture_of(sample: Dict[str, Any],
               class_names: Sequence[str],
               palette: Any = None,
               captions: str = 'auto',
               color_by: str = 'auto') -> np.ndarray:
    """Draw a sample: uint8 [H, W, 3], BGR; padding is black, as in the network's input."""
    metas = sample.get('img_metas', sample)
    image = np.asarray(sample['img'])
    if isinstance(sample['img'], torch.Tensor):
        image = image.transpose(1, 2, 0)
    norm = metas.get('img_norm_cfg') or {}
    normalized = image.dtype != np.uint8 and norm
    if normalized:
        height, width = metas['img_shape'][:2]
        image = image.astype(np.float32) * norm['std'] + norm['mean']
        image[height:], image[:, width:] = 0, 0  # padding comes after normalization
    # a tensor that the device will normalize has its channels reversed already
    if norm.get('to_rgb') and (normalized or 'img_mean' in sample):
        image = image[..., ::-1]
    masks = sample.get('gt_masks')
    boxes, labels = (np.asarray(sample.get(key, np.zeros(shape)))
                     for key, shape in (('gt_bboxes', (0, 4)), ('gt_labels', 0)))
    if len(labels) != len(boxes):  # a pipeline without labels: one class
        labels, class_names = np.zeros(len(boxes)), ['object']
    ignored = sample.get('gt_bboxes_ignore')
    if 'gt_label' in sample:  # of the whole image
        names = ', '.join(class_names[label] for label in np.atleast_1d(sample['gt_label']))
        picture = visualization.enlarge(image)
        if captions != 'none':
            visualization.draw_label(picture, names, (0, 0, 0, 0), visualization.WHITE)
        return picture
    return visualization.draw_ground_truth(
        image,
        boxes,
        labels,
        class_names,
        None if masks is None else list(masks.to_ndarray()),
        None if ignored is None else np.asarray(ignored),
        palette=palette,
        look=visualization.DrawingStyle(captions, color_by, visualization.enlargement(image)))


def name_of(sample: Dict[str, Any], index: int) -> str:
    """Return the name of the image's file, or the index if there is none."""
    path = sample.get('img_metas', sample).get('filename')
    path = path[0] if isinstance(path, (list, tuple)) else path
    return os.path.basename(path or f'{index}.png')


def show(picture: np.ndarray, seconds: float) -> bool:
    """Show a picture in a window, and return False if the user pressed q or Esc."""
    try:
        cv2.imshow(WINDOW, picture)
        key = cv2.waitKey(int(1000 * seconds)) & 255
    except cv2.error as error:
        raise UserError(NO_WINDOW) from error
    return key not in (ord('q'), 27)


def main(args: Namespace) -> None:
    if args.not_show and not args.output_dir:
        raise UserError(
            '--not-show without --output-dir does nothing; name a folder for the pictures')
    if not args.not_show and not visualization.has_display():
        raise UserError(NO_WINDOW)
    require_seed(args.seed)
    config, _ = prepare(load_config(args.config, args.cfg_options))
    dataset = SeededDataset(build_dataset(without(config.data.train, args.skip_type)), args.seed)
    classes = list(dataset.CLASSES)
    parts = innermost(dataset)
    palette = visualization.palette_of(type(parts[0]), classes)
    number = len(dataset) if args.number is None else min(args.number, len(dataset))
    names = None
    if args.output_dir:
        inputs = inputs_of(read_test_settings(config), dataset, args.config)
        names = PictureNames(args.output_dir, inputs, '--output-dir')
        names.require_apart()
        os.makedirs(args.output_dir, exist_ok=True)
    skipped = 0
    for index in track(range(number), 'samples', number):
        try:
            sample = dataset[index]
            picture = picture_of(sample, classes, palette, args.labels, args.color_by)
            if names is not None:
                visualization.write_picture(names.take(name_of(sample, index)), picture)
        except (OSError, ValueError, cv2.error) as error:
            skipped += 1
            print(f'skipped: sample {index}: {first_line(error)}', file=sys.stderr)
            continue
        if not args.not_show and not show(picture, args.show_interval):
            break
    if skipped:
        raise UserError(f'{skipped} of {number} samples could not be shown (named above)')
