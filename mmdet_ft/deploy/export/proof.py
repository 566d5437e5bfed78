"""Comparison of a file in ONNX Runtime with its model in PyTorch, on images."""
import dataclasses
import time
from typing import Any, List, Sequence, Tuple

import numpy as np
import torch
from torch import nn

from mmdet_ft.apis import inference_detector
from mmdet_ft.deploy.export.graphs import graph_of
from mmdet_ft.deploy.export.layers import first_difference
from mmdet_ft.deploy.preparation import Image, network_input, prepare, read_image
from mmdet_ft.deploy.runtime import Model, open_model
from mmdet_ft.errors import UserError


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """How much a file may differ."""
    boxes: float = 1e-3  # pixels
    scores: float = 1e-4
    masks: float = .999  # fraction of the pixels in either mask that are in both


@dataclasses.dataclass
class Agreement:
    """How far one image's results, or the worst of several, agree."""
    name: str
    found: int = 0  # detections of the model
    unmatched: int = 0  # detections of one side alone; for a classifier 1 if the best class differs
    boxes: float = 0.
    scores: float = 0.
    masks: float = 1.

    def add(self, difference: np.ndarray) -> None:
        """Take the differences [5] of one detection into account."""
        self.boxes = max(self.boxes, float(difference[:4].max()))
        self.scores = max(self.scores, float(difference[4]))

    def is_within(self, tolerance: Tolerance) -> bool:
        """Return whether nothing differs by more than the tolerance."""
        return (not self.unmatched and self.boxes <= tolerance.boxes
                and self.scores <= tolerance.scores and self.masks >= tolerance.masks)


@dataclasses.dataclass(frozen=True)
class Proof:
    """The comparison on each image, and the milliseconds that each side took for one."""
    images: List[Agreement]
    model_ms: float
    file_ms: float

    @property
    def total(self) -> Agreement:
        """Return the sums and the worst values of all images."""
        return Agreement('all', sum(image.found for image in self.images),
                         sum(image.unmatched for image in self.images),
                         max(image.boxes for image in self.images),
                         max(image.scores for image in self.images),
                         min(image.masks for image in self.images))


def compare(model: nn.Module,
            path: str,
            images: Sequence[Image],
            tolerance: Tolerance = Tolerance(),
            batch_size: int = 1) -> Proof:
    """Run a file and its model over images and compare their results.

    model: of `init_detector`, or with the attributes `cfg` and `CLASSES`. The first image is run twice on each side,
    as a first run includes preparations; medians are the milliseconds. Both use the same number of threads.
    """
    runner = open_model(path, torch.get_num_threads())
    agreements: List[Agreement] = []
    seconds: Tuple[List[float], List[float]] = ([], [])
    for start in range(0, len(images), batch_size):
        part = list(images[start:start + batch_size])
        sides = [lambda: inference_detector(model, part), lambda: runner(part, batch_size)]
        results = []
        for side, times in zip(sides, seconds):
            if not start:
                side()
            begin = time.perf_counter()
            results.append(side())
            times.append((time.perf_counter() - begin) / len(part))
        for place, (expected, found) in enumerate(zip(*results)):
            name = str(part[place]) if isinstance(part[place], str) else f'image {start + place}'
            agreements.append(agreement(expected, found, runner, tolerance, name))
    model_ms, file_ms = (float(np.median(times)) * 1000 for times in seconds)
    return Proof(agreements, model_ms, file_ms)


def agreement(expected: Any, found: Any, runner: Model, tolerance: Tolerance,
              name: str) -> Agreement:
    """Compare two results of an image."""
    if isinstance(expected, np.ndarray):
        differs = int(expected.argmax() != found.argmax()) if runner.facts.one_label else 0
        return Agreement(name, 1, differs, scores=float(np.abs(expected - found).max()))
    of_image = Agreement(name)
    boxes, masks = expected if isinstance(expected, tuple) else (expected, None)
    other_boxes, other_masks = found if isinstance(found, tuple) else (found, None)
    lowest = weakest_kept(boxes, runner) + tolerance.scores
    for label, (rows, others) in enumerate(zip(boxes, other_boxes)):
        pairs, alone = match(rows, others, tolerance)
        of_image.found += len(rows)
        of_image.unmatched += sum(score > lowest for score in alone)
        for place, other in pairs:
            of_image.add(np.abs(rows[place] - others[other]))
            if masks is not None and other_masks is not None:
                shared = overlap(masks[label][place], other_masks[label][other])
                of_image.masks = min(of_image.masks, shared)
    return of_image


def overlap(one: np.ndarray, two: np.ndarray) -> float:
    """Return the fraction of the pixels in either mask that are in both; 1 for two empty ones."""
    union = np.logical_or(one, two).sum()
    return float(np.logical_and(one, two).sum() / union) if union else 1.


def weakest_kept(boxes: Sequence[np.ndarray], runner: Model) -> float:
    """Return the score at which detections are cut: that of the threshold, or of the last that fits in."""
    thresholds = runner.facts.thresholds
    scores = np.concatenate([rows[:, 4] for rows in boxes])
    if len(scores) >= thresholds.get('max_per_img', np.inf) > 0:
        return float(scores.min())
    return thresholds.get('score_thr', 0.)


def match(rows: np.ndarray, others: np.ndarray,
          tolerance: Tolerance) -> Tuple[List[Tuple[int, int]], List[float]]:
    """Pair two sets of boxes [n, 5], the nearest first; return pairs, and scores of boxes without one.

    Boxes that are a pixel apart or more are none of the same.
    """
    if not len(rows) or not len(others):
        return [], [*rows[:, 4].tolist(), *others[:, 4].tolist()]
    far = np.abs(rows[:, None, :4] - others[None, :, :4]).max(-1)
    far = far + np.abs(rows[:, None, 4] - others[None, :, 4])
    pairs: List[Tuple[int, int]] = []
    free_rows, free_others = set(range(len(rows))), set(range(len(others)))
    for flat in far.ravel().argsort(kind='stable'):
        place, other = divmod(int(flat), len(others))
        if far[place, other] > max(1., tolerance.boxes):
            break
        if place in free_rows and other in free_others:
            pairs.append((place, other))
            free_rows.discard(place)
            free_others.discard(other)
    alone = [float(rows[place, 4])
             for place in free_rows] + [float(others[other, 4]) for other in free_others]
    return pairs, alone


def require_agreement(model: nn.Module, path: str, images: Sequence[Image], proof: Proof,
                      tolerance: Tolerance) -> None:
    """Raise UserError, with the first layer that differs, if an image is beyond the tolerance."""
    worst = [place for place, image in enumerate(proof.images) if not image.is_within(tolerance)]
    if not worst:
        return
    runner = open_model(path)
    image = read_image(images[worst[0]], proof.images[worst[0]].name, is_gray=runner.facts.is_gray)
    prepared = prepare(image, runner.facts)
    layer = first_difference(path,
                             graph_of(model, runner.facts).eval(),
                             network_input([prepared], runner.facts))
    where = (
        f'the first layer that differs is {layer}' if layer else
        'all layers agree, so what follows them differs: the choice of boxes, or the pasting of masks'
    )
    raise UserError(
        f'{path} does not give what the model gives on {len(worst)} of {len(proof.images)} images; on '
        f'{proof.images[worst[0]].name} {where}. Do not use the file')
