"""FilterAnnotations against what MMDetection 2.28 does, box by box."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdet_ft.datasets.annotations.masks import BitmapMasks
from mmdet_ft.datasets.pipelines import FilterAnnotations


def sample(sizes):
    """One object of each (width, height), whole pixels; its mask fills its box but for one pixel."""
    boxes = np.array([[1, 2, 1 + w, 2 + h] for w, h in sizes], np.float32).reshape(-1, 4)
    bitmaps = np.zeros((len(sizes), 12, 12), np.uint8)
    for bitmap, (w, h) in zip(bitmaps, sizes):
        bitmap[2:2 + h, 1:1 + w] = 1
        bitmap[2, 1] = 0
    return dict(
        gt_bboxes=boxes,
        gt_labels=np.arange(len(sizes)),
        gt_masks=BitmapMasks(bitmaps, 12, 12),
        gt_bboxes_ignore=np.zeros((1, 4), np.float32),
        bbox_fields=['gt_bboxes', 'gt_bboxes_ignore'])


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=5),
    st.tuples(st.integers(0, 6), st.integers(0, 6)), st.integers(0, 30), st.booleans(),
    st.booleans(), st.booleans())
def test_what_is_too_small_is_dropped_with_its_label_and_mask(sizes, min_wh, area, by_box, by_mask,
                                                              keep_empty):
    if not (by_box or by_mask):
        return
    kept = [
        index for index, (w, h) in enumerate(sizes)
        if (not by_box or (w > min_wh[0] and h > min_wh[1])) and (not by_mask or max(w * h -
                                                                                     1, 0) >= area)
    ]
    transform = FilterAnnotations(min_wh, area, by_box, by_mask, keep_empty)
    results = transform(sample(sizes))
    if sizes and not kept and keep_empty:
        assert results is None
        return
    assert results['gt_labels'].tolist() == kept
    assert np.array_equal(results['gt_bboxes'], sample(sizes)['gt_bboxes'][kept])
    assert results['gt_masks'].areas.tolist() == [
        max(w * h - 1, 0) for w, h in (sizes[index] for index in kept)
    ]
    assert len(results['gt_bboxes_ignore']) == 1


def test_refusals():
    with pytest.raises(ValueError, match='by_box and by_mask are both False'):
        FilterAnnotations(by_box=False)
    with pytest.raises(ValueError, match='no gt_bboxes in the sample'):
        FilterAnnotations()({})
    with pytest.raises(ValueError, match=r'LoadAnnotations\(with_mask=True\)'):
        FilterAnnotations(by_mask=True)(dict(gt_bboxes=np.zeros((0, 4), np.float32)))
    assert 'min_gt_bbox_wh=(1.0, 1.0)' in repr(FilterAnnotations())
