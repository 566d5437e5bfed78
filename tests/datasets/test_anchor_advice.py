"""What check_data says of objects that no anchor meets: the number to write."""
import numpy as np
import pytest

from mmdet_ft.datasets.checks.anchors import check_anchors
from mmdet_ft.datasets.checks.split import Split
from mmdet_ft.engine.run_check.data import anchors_of


def split_of(boxes):
    boxes = np.array(boxes, dtype=np.float64)
    number = len(boxes)
    return Split('train', 'a.json', 'CocoDataset', ['a'], ['a.png'], np.array([[1000, 600]]),
                 np.zeros(number, np.int64), boxes, np.zeros(number, np.int64),
                 np.zeros(number, bool), lambda index: f'annotation {index}', None, ['1'], {}, 1,
                 {})


def squares(side, number=200, tall=1.):
    rng = np.random.default_rng(0)
    sizes = side * rng.uniform(.8, 1.25, (number, 1)) * [[1, tall]]
    corner = rng.uniform(0, [1000, 600] - sizes)
    return np.concatenate([corner, corner + sizes], 1)


def advice(boxes, **generator):
    generator = {
        **dict(type='AnchorGenerator', ratios=[.5, 1., 2.], strides=[4, 8, 16, 32, 64]),
        **(generator or dict(scales=[8]))
    }
    head = dict(type='RPNHead', anchor_generator=generator)
    train_cfg = dict(
        rpn=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=.7, neg_iou_thr=.3, min_pos_iou=.3)))
    anchors = anchors_of(dict(type='FasterRCNN', rpn_head=head, train_cfg=train_cfg))
    return check_anchors(split_of(boxes), anchors, (1000, 600), True)


@pytest.mark.parametrize('side, scale', [(8, 2), (12, 3)])
def test_small_objects_get_the_scale_of_their_size(side, scale):
    reach, (problem, ) = advice(squares(side))
    assert reach.never > .9
    assert f'write model.rpn_head.anchor_generator=dict(scales=[{scale}]): then 0% are matched by none' in problem.fix
    assert 'img_scale (with (' in problem.fix


def test_large_and_small_objects_get_a_second_scale():
    _, (problem, ) = advice(np.concatenate([squares(8), squares(400)]))
    assert 'scales=[2, 8]' in problem.fix


def test_objects_larger_than_all_anchors_get_a_larger_scale():
    reach, (problem, ) = advice(squares(400), scales=[2])
    assert reach.never > .9 and 'anchor_generator=dict(scales=[' in problem.fix and 'img_scale' not in problem.fix
    assert any(f'scales=[{scale}]' in problem.fix for scale in (4, 6, 8))


def test_octaves_and_shapes_are_told_by_their_own_keys():
    _, (problem, ) = advice(squares(6), octave_base_scale=4, scales_per_octave=3)
    assert 'dict(octave_base_scale=1)' in problem.fix
    _, (problem, ) = advice(squares(20, tall=12.))
    assert 'dict(ratios=[0.08, 0.5, 1.0, 2.0, 12.0])' in problem.fix


def test_objects_that_are_met_get_no_advice():
    assert advice(squares(40))[1] == []
