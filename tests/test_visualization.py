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
    indices = []
    put = visualization.cv2.putText
    monkeypatch.setattr(
        visualization.cv2, 'putText', lambda c, t, at, f, scale, *rest: (indices.append(
            (t, at, f, scale)), put(c, t, at, f, scale, *rest)))
    visualization.draw_detections(
        np.zeros((60, 80, 3), np.uint8), result_of(box, .9),
        ('a', 'a very very long name of a class'))
    (text, (x, y), font, scale), = indices
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


def nuclei(count=60, side=256):
    """Boxes of small objects that lie close together."""
    random = np.random.default_rng(0)
    corner = random.integers(0, side - 14, (count, 2))
    return np.concatenate([corner, corner + 12], 1).astype(float)


def texts_drawn(monkeypatch, boxes, labels, names=('nucleus', 'b', 'c'), side=256):
    """The texts and plates (x0 y0 x1 y1) of the captions on a picture of many objects."""
    texts, plates = [], []
    put = visualization.put_plate

    def record(canvas, plate, corner, color):
        texts.append(plate.text)
        plates.append([*corner, corner[0] + plate.width, corner[1] + plate.height])
        put(canvas, plate, corner, color)

    monkeypatch.setattr(visualization, 'put_plate', record)
    rows = np.concatenate([boxes, np.linspace(.4, .9, len(boxes))[:, None]], 1)
    visualization.draw_detections(
        np.zeros((side, side, 3), np.uint8), [rows, rows[:0], rows[:0]],
        names,
        look=visualization.DrawingStyle(labels=labels))
    return texts, np.array(plates).reshape(-1, 4)


def test_captions_of_many_small_objects_are_left_off(monkeypatch):
    assert texts_drawn(monkeypatch, nuclei(), 'auto')[0] == []
    assert texts_drawn(monkeypatch, nuclei(), 'none')[0] == []
    assert len(texts_drawn(monkeypatch, nuclei(), 'full')[0]) == 60
    assert set(map(len, texts_drawn(monkeypatch, nuclei(), 'score')[0])) == {4}


def test_captions_cover_no_other_one_and_little_of_any_object(monkeypatch):
    boxes = nuclei(12, 640)
    texts, plates = texts_drawn(monkeypatch, boxes, 'auto', side=640)
    assert len(texts) > 6 and texts[0] == 'nucleus 0.90'  # the surest first
    for number, plate in enumerate(plates):
        assert plate.min() >= 0 and plate.max() <= 640
        others = np.delete(plates, number, 0).astype(float)
        assert not visualization._shares(plate, others).any()
        assert (visualization._shares(plate, boxes) <= visualization.MOST_OF_A_BOX).all()


def test_objects_of_few_classes_have_colors_of_their_own_and_others_that_of_their_class():
    colors = visualization.colors_of([0] * 20, 1)
    assert len(set(colors)) == 20
    two = visualization.colors_of([0, 1] * 10, 2)
    assert len(set(two)) == 20 and not set(two[::2]) & set(two[1::2])
    assert len(set(visualization.colors_of([0, 1, 2] * 10, 3))) == 3
    assert len(set(visualization.colors_of([0] * 5, 1, color_by='class'))) == 1
    assert visualization.colors_of([0], 1, [(255, 10, 0)], 'class') == [(0, 10, 255)]


def test_colors_of_a_type_are_for_its_classes_only():

    class Set:
        CLASSES, PALETTE = ('a', 'b'), [(1, 2, 3), (4, 5, 6)]

    assert visualization.palette_of(Set, ('a', 'b')) == Set.PALETTE
    assert visualization.palette_of(Set, ('b', 'a')) is None
    assert visualization.palette_of(Set, ('a', )) is None


def test_small_images_are_enlarged_with_what_is_drawn_on_them():
    image = np.zeros((60, 80, 3), np.uint8)
    assert [visualization.enlargement(np.zeros((side, side, 3)))
            for side in (28, 256, 320, 800)] == [3, 2, 2, 1]
    mask = np.zeros((60, 80), bool)
    mask[20:50, 10:40] = True
    drawn = visualization.draw_detections(
        image,
        result_of((10, 20, 40, 50), .9, mask), ('a', 'b'),
        look=visualization.DrawingStyle(labels='none', scale=3))
    assert drawn.shape == (180, 240, 3)
    where = np.argwhere(drawn.any(2))
    assert (where.min(0) >= (58, 28)).all() and (where.max(0) <= (152, 122)).all()
    assert drawn[105, 75].any()


def test_pictures_are_written_or_it_is_said_why_not(tmp_path):
    picture = np.zeros((4, 6, 3), np.uint8)
    visualization.write_picture(str(tmp_path / 'deep' / 'ü.png'), picture)
    assert (tmp_path / 'deep' / 'ü.png').stat().st_size > 50
    for name in ('a.xyz', 'a'):
        with pytest.raises(ValueError, match='cannot write a picture of 4x6 as'):
            visualization.write_picture(str(tmp_path / name), picture)
