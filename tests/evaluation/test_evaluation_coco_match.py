"""hotcoco in the place of pycocotools: the same numbers, whatever the data."""
import numpy as np
import pycocotools.mask as mask_api
import pytest

from mmdet_ft.evaluation import coco_match
from mmdet_ft.evaluation.coco import CocoGroundTruth, evaluate_det_segm

HEIGHT, WIDTH = 50, 60


def random_case(seed):
    """(truth, results) of a few images: gapped ids in no order, crowds, equal scores, other categories."""
    rng = np.random.default_rng(seed)
    image_ids = rng.choice(1000, rng.integers(1, 5), replace=False).tolist()
    if seed % 3 == 0:
        image_ids = [f'image {number}' for number in image_ids]
    category_ids = rng.choice(200, rng.integers(1, 4), replace=False).tolist()
    number = int(rng.integers(1, 30))
    boxes = np.concatenate([rng.integers(0, 30, (number, 2)),
                            rng.integers(1, 25, (number, 2))], 1) * 1.0
    categories = rng.choice([*category_ids, 999], number)
    runs = [box_runs(box) for box in boxes]
    truth = CocoGroundTruth(
        image_ids=image_ids,
        sizes=np.array([(WIDTH, HEIGHT)] * len(image_ids)),
        category_ids=category_ids,
        image_of_annotation=np.sort(rng.integers(0, len(image_ids), number)),
        boxes=boxes,
        areas=boxes[:, 2] * boxes[:, 3],
        categories=categories,
        crowd=rng.random(number) < .15,
        ignore=np.zeros(number, dtype=bool),
        segmentation=lambda position: runs[position])
    results = []
    for index in range(len(image_ids)):
        found, masks = [], []
        for category_id in category_ids:
            near = boxes[(truth.image_of_annotation == index) & (categories == category_id)]
            near = np.concatenate([near, near, rng.integers(1, 25, (rng.integers(0, 4), 4))])
            near = np.clip(near + rng.integers(-2, 3, near.shape), 0, None) + [0, 0, 1, 1]
            scores = rng.integers(0, 5, (len(near), 1)) / 4
            found.append(np.concatenate([near[:, :2], near[:, :2] + near[:, 2:], scores], 1))
            masks.append([box_runs(box) for box in near])
        results.append((found, masks))
    return truth, results


def box_runs(box):
    x, y, width, height = (int(value) for value in box)
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order='F')
    mask[y:y + height, x:x + width] = 1
    return mask_api.encode(mask)


def evaluate(truth, results, metrics, logger='silent', **options):
    return evaluate_det_segm(truth, results, metrics,
                             [f'class {id_}' for id_ in truth.category_ids], logger, **options)


@pytest.fixture
def without_hotcoco(monkeypatch):
    """Evaluation by pycocotools, from the call on."""
    return lambda: monkeypatch.setattr(coco_match, 'hotcoco', lambda: None)


OPTIONS = (dict(), dict(proposal_nums=(1, 3, 10)), dict(iou_thrs=[.3, .62]), dict(max_dets=300),
           dict(metric_items=['mAP', 'AR@100', 'AR_s@1000']))


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_hotcoco_and_pycocotools_give_the_same_numbers(options, without_hotcoco, capsys):
    pytest.importorskip('hotcoco')
    assert coco_match.hotcoco() is not None

    def run():
        found = []
        for seed in range(12):
            for metric in ('bbox', 'segm', 'proposal'):
                values = evaluate(*random_case(seed), [metric], None, classwise=True, **options)
                found.append({
                    key: value
                    for key, value in values.items() if 'copypaste' not in key
                })
        return found, capsys.readouterr().out  # the tables, too, of every class

    fast = run()
    without_hotcoco()
    slow = run()
    assert len(fast[0]) == len(slow[0]) == 36 and any(value > 0 for values in fast[0]
                                                      for value in values.values())
    for one, other in zip(fast[0], slow[0]):
        assert one == pytest.approx(other, abs=1e-5, nan_ok=True)
    assert fast[1] == slow[1]


def test_precision_and_recall_are_equal_to_the_last_digits(without_hotcoco):
    pytest.importorskip('hotcoco')
    rng = np.random.default_rng(0)
    images = [dict(id=id_, width=WIDTH, height=HEIGHT) for id_ in (7, 3, 12)]
    truth = [
        dict(
            id=index + 1,
            image_id=int(rng.choice([3, 7, 12])),
            category_id=int(rng.choice([5, 2])),
            bbox=rng.integers(1, 30, 4).tolist(),
            area=100.,
            iscrowd=int(index % 9 == 0)) for index in range(60)
    ]
    detections = coco_match.Detected(
        image_ids=np.array([item['image_id'] for item in truth]),
        category_ids=np.array([item['category_id'] for item in truth]),
        boxes=np.array([item['bbox'] for item in truth]) + rng.integers(0, 3, (len(truth), 4)) * 1.,
        scores=rng.integers(0, 4, len(truth)) / 4,
        runs=None)
    settings = (images, truth, detections, [5, 2], [1, 10, 100], np.linspace(.5, .95, 10))
    fast = coco_match.match(*settings)
    without_hotcoco()
    slow = coco_match.match(*settings)
    for key in ('precision', 'recall', 'scores'):
        np.testing.assert_allclose(fast.eval[key], slow.eval[key], rtol=0, atol=1e-12)


def test_an_old_hotcoco_is_not_used(monkeypatch):
    """Before 1.0.1 it took run lengths written as bytes for empty masks."""
    package = pytest.importorskip('hotcoco')
    monkeypatch.setattr(package, '__version__', '1.0.0')
    assert coco_match.hotcoco() is None


def test_areas_of_many_masks_are_those_of_each():
    rng = np.random.default_rng(0)
    runs = [box_runs(box) for box in rng.integers(1, 25, (600, 4))]
    detections = coco_match.Detected(None, None, None, None, runs)
    assert detections.areas().tolist() == [mask_api.area(item) for item in runs]
