"""Checks of the boxes, masks and classes of a split."""
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import pycocotools.mask as mask_api

from mmdet_ft.datasets.annotations.coco_records import only_ignored
from mmdet_ft.datasets.annotations.image_lists import plain
from mmdet_ft.datasets.annotations.packed import MASK_FAULTS
from mmdet_ft.datasets.checks.problem import Example, Problem, Row
from mmdet_ft.datasets.checks.split import Split

TOLERANCE = 1  # pixels that a box may exceed its image


def check_boxes(split: Split) -> List[Problem]:
    """Find boxes that training would drop, clip or fail on."""
    if not split.has_boxes:
        return []
    boxes, sizes = split.boxes, split.sizes[split.image]
    known = (sizes > 0).all(1)
    used = split.labels >= 0
    finite = np.isfinite(boxes).all(1)
    with np.errstate(invalid='ignore'):
        thin = finite & ~(boxes[:, 2:] - boxes[:, :2] >= 1).all(1)
        outside = finite & ~thin & known & ((boxes[:, :2] >= sizes) | (boxes[:, 2:] <= 0)).any(1)
        reaching = finite & ~thin & ~outside & known & ((boxes[:, :2] < -TOLERANCE) |
                                                        (boxes[:, 2:] > sizes + TOLERANCE)).any(1)
    problems = split.of_objects('box not a number', ~finite,
                                'boxes with NaN or infinite corners: left out',
                                'correct their bbox')
    wrong_form = _find_wrong_form(split, used & finite & known, thin | outside | reaching)
    if wrong_form:
        return problems + wrong_form
    problems += split.of_objects(
        'box without area', thin,
        'boxes under one pixel wide or high, or with the corners exchanged: left out of training',
        'correct their bbox (COCO: x y width height; elsewhere x1 y1 x2 y2), or take them out')
    problems += split.of_objects('box outside its image', outside,
                                 'boxes wholly outside their image: left out of training',
                                 'correct their bbox, or the width and height of the image')
    problems += split.of_objects(
        'box reaching out of its image', reaching,
        f'boxes that reach more than {TOLERANCE} pixel out of their image: cut at its border',
        'cut them in the file, or correct the width and height of the image')
    return problems


def _find_wrong_form(split: Split, usual: np.ndarray, bad: np.ndarray) -> List[Problem]:
    """Find boxes in another form than that of the file's type: fractions of the image, or corners for sizes."""
    if usual.sum() < 5:
        return []
    boxes, sizes = split.boxes, split.sizes[split.image]
    if (np.abs(boxes[usual]) <= 2).all():
        return split.of_objects(
            'boxes as shares of the image', usual,
            'boxes with no coordinate above 2: they seem to be shares of the image, not pixels',
            'multiply x by the width and y by the height of the image')
    corners = boxes.copy()
    with np.errstate(invalid='ignore'):  # infinite values are reported elsewhere
        corners[:, 2:] -= boxes[:, :2]  # COCO's width and height, read as x2 y2
    fits = ((corners[:, 2:] > corners[:, :2]) & (corners[:, 2:] <= sizes + TOLERANCE)).all(1)
    if 'coco' in split.kind.lower() and fits[usual].all() and bad[usual].mean() > .3:
        return split.of_objects(
            'boxes as corners', usual & bad, 'boxes that leave their image as x y width height and '
            'fit as x1 y1 x2 y2', 'write bbox=[x1, y1, x2 - x1, y2 - y1], as COCO has it')
    return []


def check_same(split: Split) -> List[Problem]:
    """Find objects annotated twice: the same image, class and box."""
    if not len(split.boxes) or not split.has_boxes:
        return []
    table = np.column_stack([split.image, split.labels, split.boxes])
    order = np.lexsort(table.T)
    same = np.zeros(len(table), dtype=bool)
    same[order[1:]] = (table[order[1:]] == table[order[:-1]]).all(1)
    return split.of_objects(
        'object twice', same & (split.labels >= 0) & ~split.ignored,
        'objects annotated twice, with the same box and '
        'class: one of them is a miss in every evaluation', 'take one of each pair out')


def check_masks(split: Split, wanted: bool) -> List[Problem]:
    """Find segmentations that are missing, empty, or do not match their box.

    wanted: the pipeline loads masks, or the metric compares them.
    """
    if split.segmentation is None:
        return []
    with np.errstate(invalid='ignore'):  # faults of boxes are already reported
        sound = (split.boxes[:, 2:] - split.boxes[:, :2] >= 1).all(1)
        sound &= (split.boxes[:, :2] < split.sizes[split.image]).all(1)
    limits = np.column_stack([np.zeros_like(split.sizes), split.sizes]) + [-1, -1, 1, 1]
    missing, short, elsewhere = [], [], []
    for index in np.flatnonzero((split.labels >= 0) & ~split.ignored):
        segmentation = split.segmentation(int(index))
        if segmentation is None or len(segmentation) == 0:
            missing.append(index)
            continue
        extent = extent_of(segmentation)
        if extent is None:
            short.append(index)
        elif sound[index] and _overlap(extent, _cut(split.boxes[index],
                                                    limits[split.image[index]])) < .5:
            elsewhere.append(index)
    faults = split.mask_faults or (np.array(missing, dtype=np.int64), np.array(
        short, dtype=np.int64))
    other = 'train a detector without masks' if split.name.startswith('train') else \
        "evaluate with metric='bbox' alone"
    problems = split.of_objects(
        'object without a mask',
        faults[0],
        f'objects {MASK_FAULTS[0]}',
        f'complete them, take them out, or {other}',
        stops=True) if wanted else []
    problems += split.of_objects(
        'mask of nothing',
        faults[1],
        f'objects {MASK_FAULTS[1]}',
        f'draw them again, take them out, or {other}',
        stops=wanted)
    problems += split.of_objects('mask elsewhere than its box', np.array(elsewhere, dtype=np.int64),
                                 'objects whose mask and box overlap by less than half (IoU)',
                                 'bbox should be the box around the segmentation')
    return problems


def extent_of(
    segmentation: Union[Dict[str, Any], Sequence[Sequence[float]]]
) -> Optional[Tuple[float, float, float, float]]:
    """Return x1 y1 x2 y2 around polygons or run lengths; None when they are empty."""
    if isinstance(segmentation, dict):
        if isinstance(segmentation['counts'], list):
            segmentation = mask_api.frPyObjects(segmentation, *segmentation['size'])
        x, y, width, height = mask_api.toBbox(segmentation).tolist()
        return (x, y, x + width, y + height) if width and height else None
    parts = [
        np.asarray(part, dtype=np.float64).reshape(-1, 2) for part in segmentation
        if len(part) >= 6 and len(part) % 2 == 0
    ]
    if not parts:
        return None
    points = np.concatenate(parts)
    (x1, y1), (x2, y2) = points.min(0), points.max(0)
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def _cut(box: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return the part of a box inside another."""
    return np.concatenate([np.maximum(box[:2], limits[:2]), np.minimum(box[2:], limits[2:])])


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the IoU of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if not (width > 0 and height > 0):
        return 0.
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def class_table(splits: Sequence[Split]) -> List[Row]:
    """Return every class with its label, its id in the first split's file, and its objects per split."""
    first = splits[0]
    counts = [
        np.bincount(
            split.labels[(split.labels >= 0) & ~split.ignored], minlength=len(first.classes))
        for split in splits
    ]
    return [
        Row(name, label, first.category_ids[label] if label < len(first.category_ids) else '',
            tuple(int(count[label]) for count in counts))
        for label, name in enumerate(first.classes)
    ]


def check_classes(splits: Sequence[Split], are_named: bool) -> List[Problem]:
    """Find labels without a meaning, or with different meanings in different splits, and classes without objects.

    are_named: the config names the classes, so that one without objects is a mistake. The classes
    of a type, like COCO's 80, may be more than a small dataset shows.
    """
    problems: List[Problem] = []
    first = splits[0]
    for split in splits:
        if split.classes != first.classes:
            pairs = [
                Example(f'label {label}: {a!r} in {first.name}, {b!r} in {split.name}')
                for label, (a, b) in enumerate(zip(first.classes, split.classes)) if a != b
            ] or [Example(f'{len(first.classes)} and {len(split.classes)} classes')]
            problems.append(
                Problem(f'{first.name}, {split.name}', 'labels shifted', len(pairs),
                        'labels of different classes in two splits',
                        'give data.train, data.val and data.test the same classes=(...)',
                        pairs[:5]))
        problems += _labels_out_of_range(split)
    training = [split for split in splits if split.name.startswith('train')]
    can_learn = any(split.labels[~split.ignored].max(initial=-1) >= 0 for split in training)
    for split in splits:
        counts = np.bincount(
            split.labels[(split.labels >= 0) & ~split.ignored], minlength=len(split.classes))
        ignored = only_ignored(split.labels, split.ignored, len(split.classes))
        is_train = split in training
        of_crowds = _ignored_classes(split, ignored, is_train)
        problems += of_crowds
        if not counts.any() and split.has_boxes:
            found = _no_objects(split, is_train, is_train and not can_learn)
            problems += [item._replace(fix=of_crowds[0].fix)
                         for item in found] if of_crowds else found
            continue
        without = [
            name for label, name in enumerate(split.classes)
            if not counts[label] and label not in ignored
        ]
        if without and len(split.labels):
            problems.append(
                Problem(
                    split.name, 'class without objects', len(without),
                    f'classes without a single object in {split.name}: ' +
                    ('they cannot be learned' if is_train else
                     'their AP is not defined' if split.has_boxes else 'nothing is said of them'),
                    'correct their names, add pictures of them, or take them out of classes and num_classes',
                    [Example(repr(name))
                     for name in without[:5]], split.name == 'train' and are_named))
        others = sorted(((name, count) for name, count in split.others.items() if count),
                        key=lambda item: -item[1])
        keys = {plain(name): name for name in split.classes}
        alike = [(name, count) for name, count in others if plain(name) in keys]
        if alike:
            problems.append(
                Problem(
                    split.name, 'class in another spelling', sum(count for _, count in alike),
                    'objects whose class is written nearly as one of `classes`: left out',
                    f'give them one name in {split.source}', [
                        Example(
                            f'{name!r}: {count} objects, and the class is {keys[plain(name)]!r}')
                        for name, count in alike[:5]
                    ]))
        others = [item for item in others if item not in alike]
        if others:
            problems.append(
                Problem(split.name, 'category not in classes', sum(count for _, count in others),
                        'objects of categories that `classes` does not name: left out',
                        'nothing, if that is meant so; otherwise add them to classes',
                        [Example(f'{name!r}: {count} objects')
                         for name, count in others[:5]], False))
    return problems


def _ignored_classes(split: Split, ignored: Dict[int, int], is_train: bool) -> List[Problem]:
    """Report classes whose objects are all crowd, difficult or the like."""
    if not ignored:
        return []
    is_coco = bool(split.category_ids[0])
    what = 'crowd or ignored (iscrowd 1 or ignore 1)' if is_coco else 'to be ignored (difficult, DontCare, ...)'
    return [
        Problem(
            split.name, 'class of crowds alone', len(ignored),
            f'classes of which all objects are {what}: ' +
            ('they cannot be learned' if is_train else 'their AP is not defined'),
            'set iscrowd and ignore to 0 for single objects'
            if is_coco else 'take the mark from those to be found', [
                Example(f'all {count} objects of class {split.classes[label]!r}')
                for label, count in list(ignored.items())[:5]
            ], is_train)
    ]


def _no_objects(split: Split, is_train: bool, stops: bool) -> List[Problem]:
    """Report a split without images or without objects to train on or to evaluate."""
    if not split.paths:
        return [
            Problem(split.name, 'no images', 1, f'data.{split.name} has no image',
                    f'add images to {split.source}, or name another file', [], True, True)
        ]
    marked = int(split.ignored.sum())
    but = f' (all {marked} are crowd, difficult, DontCare or the like: to be ignored)' if marked else ''
    if is_train:
        text = f'data.{split.name} has no objects to learn{but}'
        fix = f'add annotations of the classes to {split.source}, or correct ann_file and classes'
    else:
        text = f'data.{split.name} has no objects{but}: AP is not defined, and reported as -1'
        fix = f'add annotations of the classes to {split.source}; to predict only, nothing'
    is_defect = is_train or split.name.startswith('val')  # a test set may have none
    return [Problem(split.name, 'no objects', len(split.paths), text, fix, [], is_defect, stops)]


def _labels_out_of_range(split: Split) -> List[Problem]:
    number = len(split.classes)
    beyond = split.labels >= number
    if not number or not beyond.any():  # a list of labels without class names: any may be meant
        return []
    from_one = not (split.labels == 0).any() and split.labels.max() == number
    return split.of_objects(
        'label out of range', beyond, f'labels of {number} and more for {number} classes' +
        (', and none of 0: they seem to count from 1' if from_one else ''),
        'labels count from 0 to the number of classes minus 1' +
        (': subtract 1 from all' if from_one else ''))
