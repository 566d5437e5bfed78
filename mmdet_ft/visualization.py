"""Visualization of detections and ground truth with OpenCV.

Images are uint8 [H, W, 3] in BGR, as cv2 reads and writes them; boxes x0, y0, x1, y1 in pixels of the image.
"""
import colorsys
import os
import sys
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
from pycocotools import mask as coco_mask

Color = Tuple[int, int, int]
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
FONT = cv2.FONT_HERSHEY_SIMPLEX

MOST_CAPTIONS = .15  # of a picture: captions would hide dense objects such as nuclei
MOST_OF_A_BOX = .25  # of any box, that a caption may cover
FEW_CLASSES = 2  # up to here colors distinguish objects, and the hue still the class


class Instance(NamedTuple):
    """One object to draw."""
    box: np.ndarray  # [4]
    mask: Optional[np.ndarray]  # bool [H, W]
    color: Color  # BGR
    text: str
    score: Optional[float] = None  # 0..1; None for ground truth


class DrawingStyle(NamedTuple):
    """Style of a picture."""
    labels: str = 'auto'  # 'full': class and score, 'score', 'none'; 'auto' omits captions that would cover objects
    color_by: str = 'auto'  # 'instance' or 'class'; 'auto': 'instance' for up to FEW_CLASSES classes
    scale: int = 1  # picture pixels per image pixel
    mask_opacity: float = .45  # 0..1, weight of a mask's color


def class_colors(num_classes: int,
                 palette: Optional[Sequence[Sequence[int]]] = None) -> List[Color]:
    """Return a BGR color per class: from a palette of RGB triplets (V2's PALETTE), or of distant hues.

    Raises ValueError for a palette that is shorter than the classes.
    """
    if palette is None:
        palette = rgb_palette(num_classes)
    if len(palette) < num_classes:
        raise ValueError(
            f'palette has {len(palette)} colors for {num_classes} classes; give one RGB triplet for each class'
        )
    return [tuple(int(value) for value in color[::-1]) for color in palette[:num_classes]]


def rgb_palette(num_classes: int) -> List[List[float]]:
    """Return an RGB triplet for each class, with distant hues."""
    # Steps of the golden ratio keep any first few hues far apart; three brightnesses separate near hues.
    hues = [(i * 0.618034, .85 - .25 * (i // 8 % 3) / 2, 1. - .35 * (i // 4 % 3) / 2)
            for i in range(num_classes)]
    return [[255 * value for value in colorsys.hsv_to_rgb(hue % 1, saturation, value)]
            for hue, saturation, value in hues]


def palette_of(kind: object, classes: Optional[Sequence[str]]) -> Any:
    """Return the colors of a dataset type, or None if `classes` differ from its names."""
    own = getattr(kind, 'CLASSES', None)
    same = classes is None or own is not None and tuple(classes) == tuple(own)
    return getattr(kind, 'PALETTE', None) if same else None


def instance_color(label: int, number: int, num_classes: int) -> Color:
    """Return a BGR color for an object: a hue in the range of its class, varied by `number`."""
    share = number * 0.618034 % 1
    hue = (label + .85 * share) / num_classes
    value = (1., .8, .9)[number % 3]
    return tuple(int(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, .85, value)[::-1])


def colors_of(labels: Sequence[int],
              num_classes: int,
              palette: Optional[Sequence[Sequence[int]]] = None,
              color_by: str = 'auto') -> List[Color]:
    """Return a BGR color for each of several objects, whose classes are `labels`."""
    if color_by == 'auto':
        color_by = 'instance' if num_classes <= FEW_CLASSES else 'class'
    if color_by == 'class':
        colors = class_colors(num_classes, palette)
        return [colors[label] for label in labels]
    return [instance_color(label, number, num_classes) for number, label in enumerate(labels)]


def enlargement(image: np.ndarray) -> int:
    """Return the enlargement factor of a small image that makes room for captions: 1 to 3."""
    return min(3, max(1, 640 // max(image.shape[:2])))


def enlarge(image: np.ndarray, shortest: int = 224) -> np.ndarray:
    """Enlarge a small image so that captions leave it visible; they would cover digits of 28 pixels."""
    factor = max(1, shortest // min(image.shape[:2]))
    return cv2.resize(as_bgr(image), None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)


def decode_mask(mask: object) -> np.ndarray:
    """Return bool [H, W] from a COCO run length (compressed or not) or an array."""
    if isinstance(mask, dict):
        if isinstance(mask['counts'], list):
            mask = coco_mask.frPyObjects(mask, *mask['size'])
        return coco_mask.decode(mask).astype(bool)
    return np.asarray(mask).astype(bool)


def split_result(result: object) -> Tuple[List[np.ndarray], Optional[List[Sequence]]]:
    """Return boxes and masks (or None) by class, from V2's result of one image."""
    boxes, masks = result if isinstance(result, tuple) else (result, None)
    if isinstance(masks, tuple):  # Mask Scoring R-CNN adds scores
        masks = masks[0]
    return list(boxes), masks


def has_display() -> bool:
    """Check whether cv2.imshow may open a window; without a display it ends the process."""
    return not sys.platform.startswith('linux') or any(
        os.environ.get(name) for name in ('DISPLAY', 'WAYLAND_DISPLAY'))


def draw_detections(
    image: np.ndarray,
    result: object,
    class_names: Sequence[str],
    score_thr: float = 0.3,
    palette: Optional[Sequence[Sequence[int]]] = None,
    look: DrawingStyle = DrawingStyle()
) -> np.ndarray:
    """Draw the detections of an image.

    Args:
        image: uint8 [H, W, 3], BGR; not modified.
        result: V2's result of one image: a list over classes of [n, 5] boxes with scores, or a pair of that and
            masks.
        class_names: one for each class of the result.
        score_thr: minimum score of the detections shown.
        palette: RGB triplets, one per class; None for distinct colors.
        look: captions, colors and size.

    Returns uint8 [H, W, 3], BGR. Raises ValueError if result and class_names differ in number.
    """
    boxes, masks = split_result(result)
    if len(boxes) != len(class_names):
        raise ValueError(
            f'the result is of {len(boxes)} classes and class_names of {len(class_names)}: '
            'give the classes that the model was trained on (its checkpoint has them in meta)')
    found = [(float(row[4]), label, index) for label, rows in enumerate(boxes)
             for index, row in enumerate(rows) if row[4] >= score_thr]
    found.sort(key=lambda one: one[0])  # the highest score on top
    colors = colors_of([label for _, label, _ in found], len(class_names), palette, look.color_by)
    instances = [
        Instance(boxes[label][index][:4],
                 decode_mask(masks[label][index]) if masks is not None else None, color,
                 f'{class_names[label]} {score:.2f}', score)
        for (score, label, index), color in zip(found, colors)
    ]
    return draw_instances(image, instances, look)


def draw_ground_truth(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    class_names: Sequence[str],
    masks: Optional[Sequence[Any]] = None,
    ignored_boxes: Optional[np.ndarray] = None,
    palette: Optional[Sequence[Sequence[int]]] = None,
    look: DrawingStyle = DrawingStyle()
) -> np.ndarray:
    """Draw the annotations of an image.

    Args:
        image: uint8 [H, W, 3], BGR; not modified.
        boxes, labels: [n, 4] and [n].
        class_names: the name of each label.
        masks: None, or for each box bool [H, W], a run length or None.
        ignored_boxes: [m, 4], shown in gray.
        palette, look: as for draw_detections.

    Returns uint8 [H, W, 3], BGR.
    """
    instances = [
        Instance(box, None, (160, 160, 160), 'ignored')
        for box in (() if ignored_boxes is None else ignored_boxes)
    ]
    labels = [int(label) for label in labels]
    colors = colors_of(labels, len(class_names), palette, look.color_by)
    for i, (box, label, color) in enumerate(zip(boxes, labels, colors)):
        mask = masks[i] if masks is not None else None
        mask = decode_mask(mask) if mask is not None else None
        instances.append(Instance(np.asarray(box), mask, color, class_names[label]))
    return draw_instances(image, instances, look)


def draw_instances(
    image: np.ndarray, instances: Sequence[Instance],
    look: DrawingStyle = DrawingStyle()) -> np.ndarray:
    """Draw masks first, then their contours and boxes, then captions, so that captions stay on top."""
    canvas = as_bgr(image)
    height, width = (side * look.scale for side in canvas.shape[:2])
    if look.scale != 1:
        canvas = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_CUBIC)
    thickness = max(1, round(min(height, width) / 400))
    # Large masks first, so that a bus does not hide a rider.
    for one in sorted((one for one in instances if one.mask is not None),
                      key=lambda one: -int(one.mask.sum())):
        if one.mask.shape != image.shape[:2]:
            raise ValueError(f'a mask of {one.mask.shape[0]}x{one.mask.shape[1]} for an image of '
                             f'{image.shape[0]}x{image.shape[1]}')
        if not one.mask.any():
            continue
        mask = one.mask.astype(np.uint8)
        if look.scale != 1:
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        inside = mask.astype(bool)
        canvas[inside] = (canvas[inside] * (1 - look.mask_opacity) +
                          np.array(one.color) * look.mask_opacity).round().astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, one.color, thickness)
    boxes = [np.asarray(one.box, np.float64)[:4] * look.scale for one in instances]
    for one, box in zip(instances, boxes):
        x0, y0, x1, y1 = corners(box, width, height)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), one.color, thickness)
    draw_captions(canvas, instances, boxes, look.labels)
    return canvas


def draw_captions(canvas: np.ndarray, instances: Sequence[Instance], boxes: Sequence[np.ndarray],
                  labels: str) -> None:
    """Write the caption of each instance: all of it (`labels` 'full'), its score, nothing, or 'auto'.

    'auto' writes scores alone if names would cover more than MOST_CAPTIONS of the picture. Then captions are
    positioned, highest score first, so that each covers no other one and at most MOST_OF_A_BOX of any box. A
    caption without such a position is left out.
    """
    if labels == 'none' or not instances:
        return
    height, width = canvas.shape[:2]
    texts = [one.text for one in instances]
    scores = ['' if one.score is None else f'{one.score:.2f}' for one in instances]
    if labels != 'auto':
        for one, box, text in zip(instances, boxes, texts if labels == 'full' else scores):
            if text:
                draw_label(canvas, text, box, one.color)
        return
    sizes = [[plate_of(text, height, width) for text in row] for row in (texts, scores) if all(row)]
    while sizes and len(texts) > 1 and sum(plate.width * plate.height
                                           for plate in sizes[0]) > MOST_CAPTIONS * height * width:
        sizes.pop(0)
    sides = np.array([corners(box, width, height) for box in boxes], np.float64).reshape(-1, 4)
    taken = np.zeros((0, 4))
    for number in reversed(range(len(instances))):
        for plate in (row[number] for row in sizes):
            rect = _find_free_position(plate, sides[number], sides, taken, height, width)
            if rect is not None:
                taken = np.concatenate([taken, rect[None]])
                put_plate(canvas, plate, (int(rect[0]), int(rect[1])), instances[number].color)
                break


def _find_free_position(plate: 'Plate', box: np.ndarray, boxes: np.ndarray, taken: np.ndarray,
                        height: int, width: int) -> Optional[np.ndarray]:
    """Return a position beside or in the box where a caption covers no other one and little of any box.

    x0 y0 x1 y1, or None.
    """
    x0, y0, x1, y1 = box
    above, below = y0 - plate.height, y1 + 1
    right = x1 - plate.width
    for x, y in ((x0, above), (right, above), (x0, below), (right, below), (x1 + 1, y0),
                 (x0 - plate.width - 1, y0), (x0, y0), (x0, y1 - plate.height)):
        rect = np.array([x, y, x + plate.width, y + plate.height])
        if rect[:2].min() < 0 or rect[2] > width or rect[3] > height:
            continue
        if not _shares(rect, taken).any() and (_shares(rect, boxes) <= MOST_OF_A_BOX).all():
            return rect
    return None


def _shares(rect: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the share of each box [N, 4] covered by a rectangle, 0..1 [N]; a box counts as >= 1 pixel."""
    low, high = np.maximum(boxes[:, :2], rect[:2]), np.minimum(boxes[:, 2:], rect[2:])
    area = np.maximum(boxes[:, 2:] - boxes[:, :2], 1).prod(1)
    return (high - low).clip(0).prod(1) / area


def as_bgr(image: np.ndarray) -> np.ndarray:
    """Return a uint8 [H, W, 3] copy of an image of one or three channels."""
    image = np.asarray(image)
    if image.dtype != np.uint8:
        image = np.clip(image, 0, 255).round().astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(image[..., :3]).copy()


def corners(box: Sequence[float], width: int, height: int) -> Tuple[int, int, int, int]:
    """Return the box in whole pixels, inside the image."""
    x0, y0, x1, y1 = (int(round(float(value))) for value in box)
    return (min(max(x0, 0), width - 1), min(max(y0, 0), height - 1), min(max(x1, 0), width - 1),
            min(max(y1, 0), height - 1))


class Plate(NamedTuple):
    """A caption and its size."""
    text: str
    width: int
    height: int
    text_height: int
    scale: float
    line: int


def plate_of(text: str, height: int, width: int) -> Plate:
    """Measure a caption for a picture of height x width; never wider than that."""
    scale = min(max(min(height, width) / 900, .35), 1.2)
    line = max(1, round(scale * 1.5))
    (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, line)
    if text_width + 4 > width:
        scale *= max(.2, (width - 4) / (text_width + 1))
        (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, line)
    return Plate(text, text_width + 4, text_height + below + 4, text_height, scale, line)


def put_plate(canvas: np.ndarray, plate: Plate, corner: Tuple[int, int], color: Color) -> None:
    """Draw a caption on a plate of the color, with the upper left corner at x, y."""
    height, width = canvas.shape[:2]
    x0, y0 = corner
    cv2.rectangle(canvas, (x0, y0),
                  (min(x0 + plate.width, width - 1), min(y0 + plate.height, height - 1)), color, -1)
    bright = .114 * color[0] + .587 * color[1] + .299 * color[2] > 140
    cv2.putText(canvas, plate.text, (x0 + 2, y0 + 2 + plate.text_height), FONT, plate.scale,
                BLACK if bright else WHITE, plate.line, cv2.LINE_AA)


def draw_label(canvas: np.ndarray, text: str, box: Sequence[float], color: Color) -> None:
    """Write on a plate of the color above the box, or in it if there is no room; always inside the image."""
    height, width = canvas.shape[:2]
    plate = plate_of(text, height, width)
    x0, y0, _, _ = corners(box, width, height)
    x0 = max(0, min(x0, width - plate.width))
    y0 = y0 - plate.height if y0 >= plate.height else y0
    y0 = max(0, min(y0, height - plate.height))
    put_plate(canvas, plate, (x0, y0), color)


def write_picture(path: str, picture: np.ndarray) -> None:
    """Write a picture in the format of the extension of `path`; parent folders are created.

    Raises ValueError for an unknown format, or one whose limits exclude the picture; OSError.
    """
    ending = os.path.splitext(path)[1]
    try:
        done, content = cv2.imencode(ending, picture)
    except cv2.error as error:
        raise ValueError(f'cannot write a picture of {picture.shape[0]}x{picture.shape[1]} as '
                         f'{ending or "a file without an ending"}') from error
    if not done:
        raise ValueError(f'cannot write a picture as {ending}')
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, 'wb') as file:
        file.write(content.tobytes())


def side_by_side(left: np.ndarray,
                 right: np.ndarray,
                 titles: Union[Tuple[str, str], None] = None) -> np.ndarray:
    """Return two pictures next to each other, the lower one padded below, with a title above each."""
    pictures = [as_bgr(left), as_bgr(right)]
    height = max(picture.shape[0] for picture in pictures)
    pictures = [
        cv2.copyMakeBorder(picture, 0, height - picture.shape[0], 0, 0, cv2.BORDER_CONSTANT)
        for picture in pictures
    ]
    if titles is not None:
        bar = max(18, height // 20)
        pictures = [
            cv2.copyMakeBorder(picture, bar, 0, 0, 0, cv2.BORDER_CONSTANT, value=WHITE)
            for picture in pictures
        ]
        for picture, title in zip(pictures, titles):
            cv2.putText(picture, title, (4, bar - max(4, bar // 4)), FONT, bar / 36, BLACK, 1,
                        cv2.LINE_AA)
    gap = np.full((pictures[0].shape[0], 4, 3), 255, np.uint8)
    return np.concatenate([pictures[0], gap, pictures[1]], 1)
