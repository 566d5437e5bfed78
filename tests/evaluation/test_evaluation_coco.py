"""COCO's metrics: the truth as prediction, V2's keys and rounding, and the cases that break evaluators."""
import json
import logging

import numpy as np
import pycocotools.mask as mask_api
import pytest

from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.detection.cityscapes import CityscapesDataset
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.errors import DataError
from mmdet_ft.evaluation import coco_match
from mmdet_ft.evaluation.coco import results_to_records
from mmdet_ft.evaluation.recall import pairwise_iou, recalls
from tests.datasets.conftest import tiny_coco

ORDERS = [('person', 'stop sign', 'zebra'), ('zebra', 'stop sign', 'person'),
          ('stop sign', 'zebra')]


@pytest.fixture
def make_dataset(tmp_path):

    def make(classes=ORDERS[0], change=None, **arguments):
        content = tiny_coco()
        # pycocotools looks for instances to ignore like for any other, though training drops them
        content['annotations'] = [item for item in content['annotations'] if not item.get('ignore')]
        if change:
            change(content)
        (tmp_path / 'annotations.json').write_text(json.dumps(content))
        return CocoDataset(
            ann_file=str(tmp_path / 'annotations.json'),
            pipeline=[],
            classes=classes,
            test_mode=True,
            **arguments)

    return make


def truth_as_results(dataset, score=0.9, masks=True):
    """V2's results that repeat what the dataset says, the form of the masks changing from one to the next."""
    results = []
    for index in range(len(dataset)):
        info = dataset.get_ann_info(index)
        size = dataset.data_infos[index]['height'], dataset.data_infos[index]['width']
        boxes = [np.zeros((0, 5), dtype=np.float32) for _ in dataset.CLASSES]
        segments = [[] for _ in dataset.CLASSES]
        for number, (box, label,
                     mask) in enumerate(zip(info['bboxes'], info['labels'], info['masks'])):
            boxes[label] = np.vstack([boxes[label], [[*box, score]]]).astype(np.float32)
            if isinstance(mask, list):
                mask = mask_api.merge(mask_api.frPyObjects(mask, *size))
            segments[label].append([mask, mask_api.decode(mask).astype(bool)][number % 2])
        results.append((boxes, segments) if masks else boxes)
    return results


@pytest.mark.parametrize('classes', ORDERS)
@pytest.mark.parametrize('reverse', [False, True])
def test_the_truth_as_prediction_scores_one(make_dataset, classes, reverse):

    def change(content):
        if reverse:
            content['categories'].reverse()
            content['annotations'].reverse()

    dataset = make_dataset(classes, change)
    values = dataset.evaluate(truth_as_results(dataset), metric=['bbox', 'segm'], logger='silent')
    for kind in ('bbox', 'segm'):
        assert values[f'{kind}_mAP'] == values[f'{kind}_mAP_50'] == values[f'{kind}_mAP_75'] == 1.0
        assert list(values)[0 if kind == 'bbox' else 7:][:7] == [
            f'{kind}_{item}'
            for item in ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l', 'mAP_copypaste')
        ]
    # there is no large object: COCO says -1
    assert values['bbox_mAP_copypaste'] == '1.0000 1.0000 1.0000 1.0000 1.0000 -1.0000'


def test_an_annotation_with_id_zero_counts(make_dataset):
    """V2's Cityscapes converter numbers from 0, which pycocotools takes for no match."""

    def change(content):
        for number, annotation in enumerate(content['annotations']):
            annotation['id'] = number

    dataset = make_dataset(change=change)
    assert dataset.evaluate(truth_as_results(dataset), 'bbox', 'silent')['bbox_mAP'] == 1.0


def test_swapped_labels_score_nothing(make_dataset):
    dataset = make_dataset()
    results = [boxes[1:] + boxes[:1] for boxes in truth_as_results(dataset, masks=False)]
    assert dataset.evaluate(results, logger='silent')['bbox_mAP'] < 0.1


def test_a_subset_of_images_is_judged_by_its_own_truth(make_dataset, tmp_path):
    dataset = make_dataset()
    train = CocoDataset(ann_file=dataset.ann_file, pipeline=[], classes=dataset.CLASSES)
    assert len(train) == 3  # filtered
    assert train.evaluate(truth_as_results(train), 'segm', 'silent')['segm_mAP'] == 1.0


def test_numbers_are_rounded_as_in_v2_and_equal_pycocotools(make_dataset, tmp_path):
    from pycocotools.cocoeval import COCOeval

    # pycocotools alone wants iscrowd everywhere
    dataset = make_dataset(
        change=lambda content: [item.setdefault('iscrowd', 0) for item in content['annotations']])
    rng = np.random.default_rng(0)
    results = truth_as_results(dataset)
    for (boxes, segments), info in zip(results, dataset.data_infos):
        for label, found in enumerate(boxes):
            found[:, :4] += rng.normal(0, 2, (len(found), 4))
            boxes[label] = np.vstack([found, [[1, 2, 30, 40, rng.random()]]]).astype(np.float32)
            segments[label].append(np.ones((info['height'], info['width']), dtype=bool))
    prefix = str(tmp_path / 'out')
    values = dataset.evaluate(results, ['bbox', 'segm'], 'silent', jsonfile_prefix=prefix)
    for kind in ('bbox', 'segm'):
        records = json.loads((tmp_path / f'out.{kind}.json').read_text())
        if kind == 'segm':
            for record in records:
                record.pop('bbox')
        official = COCOeval(dataset.coco, dataset.coco.loadRes(records), kind)
        official.params.catIds = dataset.cat_ids
        official.params.maxDets = [100, 300, 1000]
        official.evaluate(), official.accumulate(), official.summarize()
        for item, number in zip(('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l'),
                                official.stats):
            assert values[f'{kind}_{item}'] == float(f'{number:.4f}')
        assert 0 < values[f'{kind}_mAP'] < 1


def test_no_detections_leave_a_line_and_no_numbers(make_dataset, caplog):
    dataset = make_dataset()
    empty = [[np.zeros((0, 5), np.float32)] * 3 for _ in range(len(dataset))]
    logger = logging.getLogger('test_no_detections')
    with caplog.at_level(logging.INFO):
        assert dataset.evaluate(empty, 'bbox', logger) == {}
    assert 'The testing results of the whole dataset is empty.' in caplog.text
    assert dataset.evaluate([(boxes, [[], [], []]) for boxes in empty], ['bbox', 'segm'],
                            'silent') == {}


def test_an_image_without_detections_among_others(make_dataset):
    dataset = make_dataset()
    results = truth_as_results(dataset)
    results[0] = ([np.zeros((0, 5), np.float32)] * 3, [[], [], []])
    assert 0 < dataset.evaluate(results, 'bbox', 'silent')['bbox_mAP'] < 1


def test_detections_in_a_crowd_are_no_mistakes(make_dataset):
    dataset = make_dataset()
    results = truth_as_results(dataset, score=0.5, masks=False)
    results[0][0] = np.vstack([results[0][0],
                               [[12, 4, 48, 40,
                                 0.9]]]).astype(np.float32)  # in the crowd of persons
    assert dataset.evaluate(results, 'bbox', 'silent')['bbox_mAP'] == 1.0
    results[0][1] = np.float32([[12, 4, 48, 40, 0.9]])  # a stop sign there is one
    assert dataset.evaluate(results, 'bbox', 'silent')['bbox_mAP'] < 1.0


def test_other_numbers_on_request(make_dataset):
    dataset = make_dataset()
    results = truth_as_results(dataset)
    values = dataset.evaluate(
        results,
        'bbox',
        'silent',
        metric_items=['mAP_50', 'AR@1000'],
        proposal_nums=(100, 300, 1000))
    assert list(values) == ['bbox_mAP_50', 'bbox_AR@1000', 'bbox_mAP_copypaste']
    assert dataset.evaluate(
        results, 'bbox', 'silent', metric_items='mAP_75', iou_thrs=[.75])['bbox_mAP_75'] == 1.0
    assert list(dataset.evaluate(results, 'proposal', 'silent')) == [
        'AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000'
    ]
    with pytest.raises(DataError, match='mAP_90.*mAP_75'):
        dataset.evaluate(results, 'bbox', 'silent', metric_items='mAP_90')
    with pytest.raises(KeyError, match="'mAP'.*bbox, segm"):
        dataset.evaluate(results, 'mAP')


def test_classes_are_listed_with_their_own_ap(make_dataset, capsys):
    dataset = make_dataset(ORDERS[1])
    results = truth_as_results(dataset, masks=False)
    for boxes in results:
        boxes[2] = np.zeros((0, 5), np.float32)  # no person is found
    dataset.evaluate(results, classwise=True)
    text = capsys.readouterr().out
    cells = [
        cell.strip() for line in text.splitlines() if line.startswith('| ')
        for cell in line.strip('|').split('|')
    ]
    table = dict(zip(cells[6::2], cells[7::2]))
    assert table == {'zebra': '1.000', 'stop sign': '1.000', 'person': '0.000'}
    assert 'Average Precision' in text


def test_proposals_are_recalled(make_dataset):
    dataset = make_dataset()
    boxes = truth_as_results(dataset, masks=False)
    proposals = [np.vstack(image) for image in boxes]
    for results in (boxes, proposals):
        values = dataset.evaluate(results, 'proposal_fast', 'silent', proposal_nums=(1, 10))
        assert values['AR@10'] == pytest.approx(7 / 7) and values['AR@1'] == pytest.approx(4 / 7)
    with pytest.raises(
            DataError, match="proposal_fast' is of results without masks; write 'proposal'"):
        dataset.evaluate(truth_as_results(dataset), 'proposal_fast', 'silent')
    alone = dataset.evaluate(proposals, 'proposal', 'silent', proposal_nums=10)
    assert alone == dataset.evaluate(proposals, 'proposal', 'silent', proposal_nums=(10, ))
    assert dataset.evaluate(proposals, 'proposal', 'silent')['AR@100'] > 0


def test_recall_pairs_each_truth_with_one_proposal():
    truth = np.float32([[0, 0, 10, 10], [1, 0, 11, 10]])
    one = np.float32([[0, 0, 10, 10, .5]])
    np.testing.assert_allclose(recalls([truth], [one], [1], [.5, .9]), [[.5, .5]])
    np.testing.assert_allclose(pairwise_iou(truth, truth), [[1, 90 / 110], [90 / 110, 1]])
    assert recalls([truth[:0]], [one[:0]], [1], [.5]).tolist() == [[0]]


def test_result_files_are_those_of_v2(make_dataset, tmp_path):
    dataset = make_dataset()
    files, folder = dataset.format_results(truth_as_results(dataset), str(tmp_path / 'x'))
    assert files == {kind: str(tmp_path / f'x.{name}.json') for kind, name in
                     (('bbox', 'bbox'), ('proposal', 'bbox'), ('segm', 'segm'))} and folder is None  # yapf: disable
    record = json.loads((tmp_path / 'x.segm.json').read_text())[0]
    assert set(record) == {'image_id', 'bbox', 'score', 'category_id', 'segmentation'}
    assert (record['image_id'], record['category_id']) == (7, 1) and isinstance(
        record['segmentation']['counts'], str)
    assert record['bbox'] == [30, 10, 25, 20]
    files, folder = dataset.format_results(truth_as_results(dataset, masks=False))
    assert json.load(open(files['bbox'])) and folder is not None
    folder.cleanup()


def test_results_of_the_wrong_form_are_named(make_dataset):
    dataset = make_dataset()
    results = truth_as_results(dataset, masks=False)
    with pytest.raises(ValueError, match='4 results for the 5 images'):
        dataset.evaluate(results[:4])
    with pytest.raises(ValueError, match='2 classes for a dataset of 3'):
        dataset.evaluate([boxes[:2] for boxes in results])
    with pytest.raises(DataError, match="'segm' needs a detector with a mask head"):
        dataset.evaluate(results, 'segm', 'silent')
    with pytest.raises(DataError, match='dict'):
        results_to_records([{}], [1], [1])
    with pytest.raises(ValueError, match='1 boxes but 0 masks'):
        results_to_records([([np.zeros((1, 5))], [[]])], [1], [1])


def test_masks_may_have_scores_of_their_own():
    runs = mask_api.encode(np.ones((2, 2), dtype=np.uint8, order='F'))
    records = results_to_records([([np.float32([[0, 0, 2, 2, .9]])], ([[runs]], [[.3]]))], [1], [5])
    assert records['bbox'][0]['score'] == pytest.approx(
        .9) and records['segm'][0]['score'] == pytest.approx(.3)


def test_joined_datasets_are_evaluated_one_by_one(make_dataset):
    dataset = make_dataset()
    cfg = dict(
        type='CocoDataset',
        ann_file=dataset.ann_file,
        pipeline=[],
        classes=dataset.CLASSES,
        test_mode=True)
    joined = build_dataset([cfg, cfg])
    empty = [[np.zeros((0, 5), np.float32)] * 3] * len(dataset)
    values = joined.evaluate(
        truth_as_results(dataset, masks=False) + empty, logger='silent', metric='bbox')
    assert values['0_bbox_mAP'] == 1.0 and '1_bbox_mAP' not in values
    with pytest.raises(ValueError, match='1 results for 10 images'):
        joined.evaluate(empty[:1])


def test_the_thresholds_of_cityscapes_hold_0_75_and_change_no_other_figure(make_dataset):
    usual = make_dataset()
    results = truth_as_results(usual, score=.9)
    for boxes, _ in results:  # a little off, so that the figures differ from each other
        for index, part in enumerate(boxes):
            boxes[index] = part + np.float32([3, 2, 1, 3, 0])
    cityscapes = CityscapesDataset(
        ann_file=usual.ann_file, pipeline=[], classes=usual.CLASSES, test_mode=True)
    values = [
        dataset.evaluate(results, ['bbox', 'segm'], 'silent') for dataset in (usual, cityscapes)
    ]
    assert values[0] == values[1] and 0 < values[1]['bbox_mAP_75'] < values[1]['bbox_mAP_50']
    none = usual.evaluate(results, 'bbox', 'silent', iou_thrs=[.5, .6])
    assert none['bbox_mAP_75'] == -1  # not asked for


@pytest.mark.parametrize('with_hotcoco', [True, False])
@pytest.mark.parametrize('change, message', [
    (lambda mask: dict(mask, counts=mask_api.encode(np.ones(
        (9, 9), np.uint8, 'F'))['counts']), r'run lengths of 81 pixels'),
    (lambda mask: dict(mask, counts='hello world'), 'no compressed run lengths'),
    (lambda mask: dict(mask, counts=[1, 2, 3]), 'run lengths of 6 pixels'),
    (lambda mask: dict(mask, counts=[-1, 2, 3]), 'neither a bitmap'),
    (lambda mask: dict(mask, size=mask['size'][::-1]), 'height and width are exchanged'),
    (lambda mask: np.ones((4, 5), dtype=bool), r'size \[4, 5\] in an image'),
    (lambda mask: None, 'neither a bitmap'),
])
def test_predicted_masks_that_are_none_of_their_image_are_refused(make_dataset, monkeypatch,
                                                                  with_hotcoco, change, message):
    if not with_hotcoco:
        monkeypatch.setattr(coco_match, 'hotcoco', lambda: None)
    dataset = make_dataset()
    results = truth_as_results(dataset)
    masks = next(part for part in results[1][1] if part)
    masks[0] = change(masks[0])
    with pytest.raises(DataError, match=f'results: the mask at index 0 of image 3 .*{message}'):
        dataset.evaluate(results, 'segm', 'silent')


def test_a_truth_without_objects_is_told(make_dataset, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger('mmdet_ft'), 'propagate', True)
    dataset = make_dataset(change=lambda content: content.update(annotations=[]))
    results = [[np.float32([[1, 1, 20, 20, .5]])] * 3 for _ in range(len(dataset))]
    values = dataset.evaluate(results, 'bbox', logging.getLogger('mmdet_ft'))
    assert values['bbox_mAP'] == -1 and 'AP is not defined' in caplog.text
