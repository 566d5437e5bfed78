"""Time and memory of COCO's evaluation with each package found, and of pasting masks.

A drawn set: 5,000 images of 640 x 480, 37,000 truths of 80 classes, 500,000 detections, about a tenth of them near a
truth, all with masks; seed 0. Packages are compared in processes of their own, by the same call that training makes.
"""
import argparse
import json
import os
import subprocess
import sys
import time
from typing import Any, Dict, List, Tuple

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

import numpy as np  # noqa: E402
import pycocotools.mask as mask_api  # noqa: E402

from mmdet_ft.evaluation import coco_match  # noqa: E402
from mmdet_ft.evaluation.coco import CocoGroundTruth, evaluate_det_segm  # noqa: E402
from mmdet_ft.ops.paste import paste_to_rle  # noqa: E402
from mmdet_ft.processes import peak_memory  # noqa: E402

WIDTH, HEIGHT, CLASSES = 640, 480, 80
ANGLES = np.linspace(0, 2 * np.pi, 20, endpoint=False)


def random_boxes(rng: np.random.Generator, number: int) -> np.ndarray:
    """Sample boxes x1 y1 x2 y2 of 8 to 300 pixels inside the image."""
    center = rng.uniform([0, 0], [WIDTH, HEIGHT], (number, 2))
    half = np.exp(rng.uniform(np.log(8), np.log(300), (number, 2))) / 2
    low = np.clip(center - half, 0, [WIDTH - 4, HEIGHT - 4])
    return np.concatenate([low, np.clip(center + half, low + 4, [WIDTH, HEIGHT])], 1)


def ellipse(box: np.ndarray) -> np.ndarray:
    """Return a polygon of twenty points, an ellipse in a box."""
    center, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    return (center + half * np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)).ravel()


def make_set(num_images: int, num_truths: int,
             num_detections: int) -> Tuple[CocoGroundTruth, List[Any]]:
    rng = np.random.default_rng(0)
    image = np.sort(rng.integers(0, num_images, num_truths))
    boxes = random_boxes(rng, num_truths)
    labels = rng.integers(0, CLASSES, num_truths)
    size = boxes[:, 2:] - boxes[:, :2]
    truth = CocoGroundTruth(
        image_ids=list(range(1, num_images + 1)),
        sizes=np.tile([WIDTH, HEIGHT], (num_images, 1)),
        category_ids=list(range(1, CLASSES + 1)),
        image_of_annotation=image,
        boxes=np.concatenate([boxes[:, :2], size], 1),
        areas=size.prod(1) * np.pi / 4,
        categories=labels + 1,
        crowd=rng.random(num_truths) < .01,
        ignore=np.zeros(num_truths, dtype=bool),
        segmentation=lambda position: [ellipse(boxes[position])])
    results = []
    for index in range(num_images):
        own = np.flatnonzero(image == index)[:num_detections // num_images // 3].repeat(2)
        found = random_boxes(rng, num_detections // num_images)
        classes = rng.integers(0, CLASSES, len(found))
        scores = rng.random(len(found)) * .6
        side = np.tile(boxes[own, 2:] - boxes[own, :2], 2)
        found[:len(own)] = boxes[own] + rng.normal(0, .08, (len(own), 4)) * side
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        classes[:len(own)] = np.where(rng.random(len(own)) < .9, labels[own], classes[:len(own)])
        scores[:len(own)] = .3 + .7 * rng.random(len(own))
        rows = np.concatenate([found, scores[:, None].round(3)], 1)
        runs = mask_api.frPyObjects([ellipse(box) for box in found], HEIGHT, WIDTH)
        results.append(
            ([rows[classes == label] for label in range(CLASSES)],
             [[runs[i] for i in np.flatnonzero(classes == label)] for label in range(CLASSES)]))
    return truth, results


def measure(package: str, sizes: Tuple[int, int, int]) -> Dict[str, Any]:
    """Measure time and memory of one package in this process."""
    if package == 'pycocotools':
        coco_match.hotcoco = lambda: None
    truth, results = make_set(*sizes)
    before = _peak()
    start, cpu = time.perf_counter(), time.process_time()
    values = evaluate_det_segm(truth, results, ['bbox', 'segm'], [str(i) for i in range(CLASSES)],
                               'silent')
    return dict(
        seconds=time.perf_counter() - start,
        cpu=time.process_time() - cpu,
        megabytes=_peak() - before,
        AP=[
            values[f'{kind}_{item}'] for kind in ('bbox', 'segm')
            for item in ('mAP', 'mAP_50', 'mAP_s', 'mAP_l')
        ])


def _peak() -> float:
    return (peak_memory() or 0) / 2**20


def measure_pasting() -> None:
    rng = np.random.default_rng(0)
    mask = np.clip(rng.normal(.5, .2, (28, 28)), 0, 1).astype(np.float32)
    smooth = np.exp(-((np.indices((28, 28)) - 13.5)**2).sum(0) / 150).astype(np.float32)
    for title, values in (('smooth', smooth), ('noise', mask)):
        boxes = random_boxes(rng, 100)
        times = []
        for _ in range(20):
            start = time.process_time()
            for box in boxes:
                paste_to_rle(values, box, (HEIGHT, WIDTH), .5)
            times.append(time.process_time() - start)
        print(
            f'pasting 100 masks ({title}) at 640 x 480: {1000 * np.median(times):.1f} ms of a core')
    boxes = random_boxes(rng, 100) * np.array([8000 / WIDTH, 4000 / HEIGHT] * 2)
    before, start = _peak(), time.process_time()
    runs = [paste_to_rle(smooth, box, (4000, 8000), .5) for box in boxes]
    print(
        f'pasting 100 masks at 8000 x 4000: {_peak() - before:.0f} MB more, '
        f'{time.process_time() - start:.1f} s; {sum(len(run["counts"]) for run in runs) / 1e6:.1f} MB of run lengths'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--images', type=int, default=5000)
    parser.add_argument('--truths', type=int, default=37000)
    parser.add_argument('--detections', type=int, default=500000)
    parser.add_argument('--packages', nargs='+', default=['hotcoco', 'pycocotools'])
    parser.add_argument('--only', help=argparse.SUPPRESS)  # in a process of its own
    args = parser.parse_args()
    sizes = args.images, args.truths, args.detections
    if args.only:
        print(json.dumps(measure(args.only, sizes)))
        return
    measure_pasting()
    text = {}
    for package in args.packages:
        if package == 'hotcoco' and coco_match.hotcoco() is None:
            print("hotcoco is not installed: pip install -e '.[fast_eval]'")
            continue
        words = [
            str(word) for pair in zip(('--images', '--truths', '--detections'), sizes)
            for word in pair
        ]
        out = subprocess.run([sys.executable, __file__, '--only', package, *words],
                             capture_output=True,
                             text=True,
                             check=True).stdout
        text[package] = json.loads(out.splitlines()[-1])
        print(
            '{0}: bbox and segm {seconds:.1f} s (CPU {cpu:.1f} s), {megabytes:.0f} MB more, AP {AP}'
            .format(package, **text[package]))
    if len(text) == 2:
        same = np.allclose(*(values['AP'] for values in text.values()), rtol=0, atol=1e-5)
        print('the same AP' if same else 'different AP')


if __name__ == '__main__':
    main()
