"""Losses, detections and metrics equal those of MMDetection 2.28.2 and MMClassification 0.25.0 themselves.

The records are of runs of these, with mmcv-full 1.7.2 and PyTorch 2.0.1 on a CPU, over the world of small_world.py.
To add one, run a config there over that world, and put what `Record` lists into records/NAME.json.gz.

Nothing is random in a record's config: no flip, one scale, no dropout, and samplers that keep every box. All records
are compared by `pytest -m acceptance tests/recorded`, and GFL's, the fastest (7 s), with the other tests.
"""
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from mmdet_ft.config import load_config
from mmdet_ft.engine.build import train
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.evaluate import run_over
from mmdet_ft.engine.loaders import build_test_loader
from mmdet_ft.engine.models.trained import build_trained
from mmdet_ft.engine.settings.read import read_test_settings
from tests.recorded.small_world import (Record, weight_of, weights_of, write_class_folders,
                                        write_detection_data, write_world)

RECORDS = Path(__file__).parent / 'records'
EVERY_DAY = 'gfl'
ROUNDING = 1.1e-5  # both logs are rounded to five digits
WEIGHTS = {  # one of each kind
    'backbone.conv1.weight': (64, 3, 7, 7),
    'backbone.bn1.weight': (64, ),
    'backbone.bn1.running_mean': (64, ),
    'backbone.bn1.running_var': (64, ),
    'backbone.layer1.0.bn3.weight': (256, ),
    'neck.fpn_convs.0.conv.bias': (256, ),
    'rpn_head.rpn_cls.weight': (3, 256, 1, 1),
    'rpn_head.rpn_reg.weight': (12, 256, 1, 1),
    'bbox_head.scales.0.scale': (),
    'bbox_head.vfnet_reg.weight': (4, 256, 3, 3),
}


class Limits(NamedTuple):
    """The largest relative differences."""
    first: float = 1e-4  # of a loss or grad_norm in the first step
    later: float = .03  # in later ones: rounding changes which boxes NMS keeps
    change: float = .05  # of the norm of a weight's change over all steps
    steps: Optional[
        int] = None  # compared at most; the weights after all steps are not compared then


# GHM weighs by how many gradients fall into each of 30 bins: one that crosses an edge changes a loss at once. With one
# weight moved by 2e-7 our own run differs from itself by 1 % at step 3, 4 % at step 4, 24 % at step 5.
LIMITS = dict(coco_retinanet_ghm_r50=Limits(steps=3))


class Found(NamedTuple):
    """Detections of an image."""
    labels: np.ndarray  # [n]
    boxes: np.ndarray  # [n, 4] x0, y0, x1, y1 in pixels of the image
    scores: np.ndarray  # [n]
    areas: np.ndarray  # [n] pixels of each mask, 0 without masks
    centers: np.ndarray  # [n, 2] x, y of each mask, nan without masks
    mask_scores: np.ndarray  # [n], nan without


def cases() -> List[Any]:
    """Return the names of all records, marked."""
    names = sorted(path.name[:-len('.json.gz')] for path in RECORDS.glob('*.json.gz'))
    return [
        pytest.param(name, marks=() if name == EVERY_DAY else pytest.mark.acceptance)
        for name in names
    ]


def read_record(name: str) -> Record:
    with gzip.open(RECORDS / f'{name}.json.gz', 'rt') as file:
        return json.load(file)


def test_the_small_world_is_that_of_the_records(tmp_path):
    write_detection_data(tmp_path / 'objects', ('disc', 'plate', 'coin'), 2, seed=1)
    write_class_folders(tmp_path / 'folders', ('c0', 'c1'), 1, seed=1)
    digest = hashlib.sha256()
    for path in sorted(tmp_path.rglob('*.png')):
        digest.update(Image.open(path).tobytes())
    annotations = json.loads((tmp_path / 'objects' / 'ann.json').read_text())['annotations']
    digest.update(
        json.dumps([[item['category_id'], item['bbox']] for item in annotations]).encode())
    for name, shape in WEIGHTS.items():
        digest.update(weight_of(name, shape, 'torch.float32').tobytes())
    assert digest.hexdigest()[:16] == '48f86eb1426a8eba'


@pytest.mark.parametrize('name', cases())
def test_losses_and_results_equal_the_recorded_ones(name, tmp_path):
    record = read_record(name)
    path = write_world(tmp_path, record)
    try:
        rows, state = train_case(path)
        results, metrics = evaluate_case(path)
    finally:
        remove_checkpoints(tmp_path)
    compare = compare_detections if 'detections' in record else compare_scores
    limits = LIMITS.get(name, Limits())
    assert not [
        *compare_steps(rows, record, limits),
        *compare_names(state, record),
        *compare_changes(state, record, limits),
        *compare(results, record),
        *compare_metrics(metrics, record),
    ]


def train_case(path: Path) -> Tuple[List[Dict[str, Any]], Dict[str, torch.Tensor]]:
    """Train a config; return the rows of its log and the weights after the last step."""
    config = load_config(path)
    config.work_dir = str(path.parent / 'run')
    config.checkpoint_config.save_last = False
    runner = train(config, validate=False, seed=0)
    log, = (path.parent / 'run').glob('*.log.json')
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return [row for row in rows if row.get('mode') == 'train'], runner.model.state_dict()


def evaluate_case(path: Path) -> Tuple[List[Any], Dict[str, float]]:
    """Return the results of `data.test` with the weights before training, and their metrics."""
    config, _ = prepare(load_config(path), for_training=False)
    settings = read_test_settings(config)
    loader = build_test_loader(settings.data, 'test')
    model = build_trained(settings.model, loader.dataset, config.load_from)
    results = run_over(model.eval(), loader)
    return results, loader.dataset.evaluate(results, metric=config.evaluation['metric'])


def remove_checkpoints(folder: Path) -> None:
    """Remove the weights of a case, 150 MB, which pytest would keep."""
    for path in folder.rglob('*.pth'):
        path.unlink()


def compare_steps(rows: Sequence[Dict[str, Any]], record: Record, limits: Limits) -> List[str]:
    """Return what of the logged losses, rates and norms differs from the record by more than its limit."""
    steps = record['steps'][:limits.steps]
    found = [] if len(rows) >= len(steps) else [f'{len(rows)} steps, {len(steps)} recorded']
    print('steps differ by', *(f'{difference_of(*pair):.1e}' for pair in zip(rows, steps)))
    for index, (ours, theirs) in enumerate(zip(rows, steps)):
        limit = limits.later if index else limits.first
        for key, value in theirs.items():
            if 'acc' in key and index:
                continue  # it moves by whole boxes
            if key not in ours:
                found.append(f'step {index + 1}: no {key}')
            elif not abs(ours[key] - value) <= limit * abs(value) + ROUNDING:
                found.append(f'step {index + 1}: {key}={ours[key]}, {value} recorded')
    return found


def difference_of(ours: Dict[str, Any], theirs: Dict[str, Any]) -> float:
    """Return the largest relative difference of a loss or of grad_norm in a step; 1e-3 and less count as 1e-3."""
    return max(
        abs(ours.get(key, np.inf) - value) / max(abs(value), 1e-3) for key, value in theirs.items()
        if 'loss' in key or key == 'grad_norm')


def compare_names(state: Dict[str, torch.Tensor], record: Record) -> List[str]:
    """Return the names, or shapes, of a state_dict that only one side has."""
    ours = {(name, tuple(value.shape)) for name, value in state.items()}
    theirs = {(name, tuple(shape)) for name, shape, _ in record['table']}
    return [f'{name} {shape}' for name, shape in sorted(ours ^ theirs)]


def compare_changes(state: Dict[str, torch.Tensor], record: Record, limits: Limits) -> List[str]:
    """Return the weights whose norm, or norm of the change in training, is not the recorded one.

    A frozen weight has not changed at all.
    """
    found = []
    starts = dict(weights_of(record))
    for name, (norm, change) in record['after'].items() if limits.steps is None else ():
        value = state[name].double().numpy()
        start = starts[name].astype(np.float64)
        ours = (float(np.linalg.norm(value)), float(np.linalg.norm(value - start)))
        is_other = abs(ours[0] - norm) > 1e-4 * max(norm, change)
        if is_other or abs(ours[1] - change) > limits.change * change:
            found.append(f'{name}: norm and change {ours}, {norm, change} recorded')
    return found


def compare_detections(results: Sequence[Any], record: Record) -> List[str]:
    """Return a line if fewer than 99 % of the detections of both sides match one to one."""
    number, expected, matched = 0, 0, 0
    for index, result in enumerate(results):
        ours, theirs = found_in(result), recorded(record, index)
        number, expected = number + len(ours.labels), expected + len(theirs.labels)
        matched += count_matches(ours, theirs)
    print(f'{matched} of {expected} detections match, {number} found')
    return [] if matched >= .99 * max(number, expected) else [
        f'{matched} of {expected} detections match, {number} found'
    ]


def found_in(result: Any) -> Found:
    """Read the detections in V2's form: boxes of each class, with masks (boxes, masks) or (boxes, (masks, scores));
    of an RPN one array."""
    boxes, masks = result if isinstance(result, tuple) else (result, None)
    masks, mask_scores = masks if isinstance(masks, tuple) else (masks, None)
    boxes = [boxes] if isinstance(boxes, np.ndarray) else boxes
    rows = np.concatenate(boxes)
    number = len(rows)
    areas, centers = np.zeros(number), np.full((number, 2), np.nan)
    if masks is not None:
        for index, mask in enumerate(mask for of_class in masks for mask in of_class):
            inside = coco_mask.decode(mask) if isinstance(mask, dict) else np.asarray(mask)
            areas[index] = inside.sum()
            if areas[index]:
                centers[index] = [axis.mean() for axis in np.nonzero(inside)[::-1]]
    return Found(
        np.repeat(np.arange(len(boxes)), [len(of_class) for of_class in boxes]), rows[:, :4],
        rows[:, 4], areas, centers,
        np.full(number, np.nan) if mask_scores is None else np.concatenate(mask_scores))


def recorded(record: Record, index: int) -> Found:
    """Read the recorded detections of an image: rows of label, box, score and area of the mask."""
    rows = np.array(record['detections'][index], np.float64).reshape(-1, 7)
    number = len(rows)
    centers = record.get('mask_centers', [[None] * number] * (index + 1))[index]
    mask_scores = record.get('mask_scores', [[None] * number] * (index + 1))[index]
    return Found(
        rows[:, 0].astype(int), rows[:, 1:5], rows[:, 5], rows[:, 6],
        np.array([center or (np.nan, np.nan) for center in centers], np.float64).reshape(-1, 2),
        np.array([np.nan if score is None else score for score in mask_scores], np.float64))


def count_matches(ours: Found, theirs: Found) -> int:
    """Count the detections that pair up: one class, IoU above .98, scores within .001, masks within 1 % or 3 pixels.

    Corners within .02 pixels count as that IoU: YOLOv3 finds boxes 3000 pixels wide and 1e-3 high.
    """
    free = np.ones(len(ours.labels), bool)
    matched = 0
    for index, box in enumerate(theirs.boxes):
        overlap = overlaps(box, ours.boxes)
        is_same = (overlap > .98) | (abs(ours.boxes - box) < .02).all(1)
        fits = free & (ours.labels == theirs.labels[index]) & is_same & is_near(ours, theirs, index)
        if fits.any():
            free[np.where(fits, overlap, -1).argmax()] = False
            matched += 1
    return matched


def is_near(ours: Found, theirs: Found, index: int) -> np.ndarray:
    """Return [n], where scores and masks of ours are near those of one recorded detection; nan was not recorded."""
    area, center, mask_score = theirs.areas[index], theirs.centers[index], theirs.mask_scores[index]
    near = abs(ours.scores - theirs.scores[index]) <= 1e-3
    near &= abs(ours.areas - area) <= max(.01 * area, 3)
    near &= np.isnan(center).any() | (abs(ours.centers - center) <= 1).all(1)
    return near & (np.isnan(mask_score) | (abs(ours.mask_scores - mask_score) <= 1e-3))


def overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the IoU [n] of a box with each of boxes [n, 4]."""
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    inside = np.clip(high - low, 0, None).prod(1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(1) - inside
    return inside / np.maximum(union, 1e-9)


def compare_scores(results: Sequence[np.ndarray], record: Record) -> List[str]:
    """Return the largest difference of a classifier's scores if it is above 1e-5."""
    difference = abs(np.stack(results) - np.array(record['predictions'])).max()
    print(f'scores differ by {difference:.1e}')
    return [] if difference <= 1e-5 else [f'scores differ by {difference:.1e}']


def compare_metrics(metrics: Dict[str, float], record: Record) -> List[str]:
    """Return the metrics that are more than .002 off, in percent for a classifier.

    A -1 is V2's on Cityscapes: it evaluates at np.arange(.5, .96, .05), whose .75 is not exactly .75.
    """
    return [
        f'{key}: {metrics[key]}, {value} recorded' for key, value in record['metrics'].items()
        if value != -1 and abs(metrics[key] - value) > 2e-3
    ]
