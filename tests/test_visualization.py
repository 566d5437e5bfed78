"""Drawing: every mark stays inside the picture, and a threshold leaves out what it says."""
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mmdet_ft import visualization


def result_of(box, score, mask=None, num_classes=2, label=1):
    boxes = [np.zeros((0, 5), np.float32) for _ in range(num_classes)]
    boxes[label] = np.array([[*box, score]], np.float32)
    if mask is None:
        return boxes
    masks = [[] for _ in range(num_classes)]
    masks[label] = [mask]
    return boxes, masks


def test_image_is_not_changed_and_result_is_drawn():
    image = np.zeros((60, 80, 3), np.uint8)
    drawn = visualization.draw_detections(image, result_of((10, 20, 40, 50), .9), ('a', 'b'))
    assert not image.any()
    assert drawn[35, 10].any() and drawn[50, 25].any()
    assert drawn.shape == image.shape and drawn.dtype == np.uint8


def test_low_scores_are_left_out():
    image = np.zeros((60, 80, 3), np.uint8)
    assert not visualization.draw_detections(
        image, result_of((10, 20, 40, 50), .29), ('a', 'b'), score_thr=.3).any()


def test_run_lengths_and_arrays_draw_the_same_mask():
    mask = np.zeros((60, 80), bool)
    mask[25:45, 15:35] = True
    run_length = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    image = np.full((60, 80, 3), 100, np.uint8)
    drawn = [
        visualization.draw_detections(image, result_of((10, 20, 40, 50), .9, m), ('a', 'b'))
        for m in (mask, run_length)
    ]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0][35, 25] != 100).any() and (drawn[0][55, 70] == 100).all()


@pytest.mark.parametrize('box', [(-50, -50, 5, 5), (70, 55, 200, 90), (0, 0, 79, 59),
                                 (300, 300, 400, 400)])
def test_label_stays_inside_the_image(box, monkeypatch):
    places = []
    put = visualization.cv2.putText
    monkeypatch.setattr(
        visualization.cv2, 'putText', lambda c, t, at, f, scale, *rest: (places.append(
            (t, at, f, scale)), put(c, t, at, f, scale, *rest)))
    visualization.draw_detections(
        np.zeros((60, 80, 3), np.uint8), result_of(box, .9),
        ('a', 'a very very long name of a class'))
    (text, (x, y), font, scale), = places
    (wide, tall), _ = visualization.cv2.getTextSize(text, font, scale, 1)
    assert 0 <= x and x + wide <= 80 and tall <= y <= 60


def test_wrong_number_of_class_names_is_named():
    with pytest.raises(ValueError, match='2 classes and class_names of 3'):
        visualization.draw_detections(
            np.zeros((9, 9, 3), np.uint8), result_of((1, 1, 2, 2), .9), ('a', 'b', 'c'))


def test_palette_of_v2_is_rgb():
    assert visualization.class_colors(1, [(255, 10, 0)]) == [(0, 10, 255)]
    assert len(set(visualization.class_colors(80))) == 80


def test_ground_truth_beside_prediction_has_both_widths():
    image = np.zeros((60, 80), np.uint8)  # grey is drawn in colour
    truth = visualization.draw_ground_truth(
        image,
        np.array([[1, 2, 30, 40]]),
        np.array([0]), ('a', ),
        ignored_boxes=np.array([[40, 5, 60, 30]]))
    assert visualization.side_by_side(truth, image, ('truth', 'prediction')).shape[1] == 80 + 4 + 80
