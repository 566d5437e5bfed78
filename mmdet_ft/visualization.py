"""Pictures of detections and of the truth, drawn with OpenCV.

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


class Instance(NamedTuple):
    """One thing to draw."""
    box: np.ndarray  # [4]
    mask: Optional[np.ndarray]  # bool [H, W]
    color: Color  # BGR
    text: str


def class_colors(num_classes: int, palette: Any = None) -> List[Color]:
    """A BGR color for each class: from a palette of RGB triplets (V2's PALETTE), or hues far apart.

    Raises ValueError for a palette that is shorter than the classes.
    """
    if palette is None:
        # Steps of the golden ratio keep any first few hues far apart; three brightnesses tell near hues apart.
        hues = [(i * 0.618034, .85 - .25 * (i // 8 % 3) / 2, 1. - .35 * (i // 4 % 3) / 2)
                for i in range(num_classes)]
        palette = [[255 * value for value in colorsys.hsv_to_rgb(hue % 1, saturation, value)]
                   for hue, saturation, value in hues]
    if len(palette) < num_classes:
        raise ValueError(
            f'palette has {len(palette)} colors for {num_classes} classes; give one RGB triplet for each class'
        )
    return [tuple(int(value) for value in color[::-1]) for color in palette[:num_classes]]


def decode_mask(mask: Any) -> np.ndarray:
    """bool [H, W] of a COCO run length (compressed or not) or of an array."""
    if isinstance(mask, dict):
        if isinstance(mask['counts'], list):
            mask = coco_mask.frPyObjects(mask, *mask['size'])
        return coco_mask.decode(mask).astype(bool)
    return np.asarray(mask).astype(bool)


def split_result(result: Any) -> Tuple[List[np.ndarray], Optional[List[Sequence]]]:
    """Boxes and masks (or None) of a class each, out of V2's result of one image."""
    boxes, masks = result if isinstance(result, tuple) else (result, None)
    if isinstance(masks, tuple):  # Mask Scoring R-CNN adds scores
        masks = masks[0]
    return list(boxes), masks


def has_display() -> bool:
    """Whether cv2.imshow may open a window: where there is no display it ends the process."""
    return not sys.platform.startswith('linux') or any(
        os.environ.get(name) for name in ('DISPLAY', 'WAYLAND_DISPLAY'))


def draw_detections(image: np.ndarray,
                    result: Any,
                    class_names: Sequence[str],
                    score_thr: float = 0.3,
                    palette: Any = None,
                    mask_opacity: float = 0.45,
                    show_labels: bool = True) -> np.ndarray:
    """Draw what a detector found in an image.

    Args:
        image: uint8 [H, W, 3], BGR; it is not changed.
        result: V2's result of one image: a list over classes of [n, 5] boxes with scores, or a pair of that and masks.
        class_names: one for each class of the result.
        score_thr: what scores less is left out.
        palette: RGB triplets, one a class; None for colors far apart.
        mask_opacity: 0..1, how much of the color a mask adds.
        show_labels: write class and score beside each box.

    Returns uint8 [H, W, 3], BGR. Raises ValueError where result and class_names differ in number.
    """
    boxes, masks = split_result(result)
    if len(boxes) != len(class_names):
        raise ValueError(
            f'the result is of {len(boxes)} classes and class_names of {len(class_names)}: '
            'give the classes that the model was trained on (its checkpoint has them in meta)')
    colors = class_colors(len(class_names), palette)
    instances, scores = [], []
    for label, name in enumerate(class_names):
        for i, row in enumerate(boxes[label]):
            if row[4] >= score_thr:
                mask = decode_mask(masks[label][i]) if masks is not None else None
                instances.append(Instance(row[:4], mask, colors[label], f'{name} {row[4]:.2f}'))
                scores.append(row[4])
    order = np.argsort(scores, kind='stable')  # the surest is drawn last
    return draw_instances(image, [instances[i] for i in order], mask_opacity, show_labels)


def draw_ground_truth(image: np.ndarray,
                      boxes: np.ndarray,
                      labels: np.ndarray,
                      class_names: Sequence[str],
                      masks: Optional[Sequence[Any]] = None,
                      ignored_boxes: Optional[np.ndarray] = None,
                      palette: Any = None,
                      mask_opacity: float = 0.45,
                      show_labels: bool = True) -> np.ndarray:
    """Draw the annotations of an image.

    Args:
        image: uint8 [H, W, 3], BGR; it is not changed.
        boxes, labels: [n, 4] and [n].
        class_names: the name of each label.
        masks: None, or for each box bool [H, W] or a run length.
        ignored_boxes: [m, 4], drawn in grey.
        palette, mask_opacity, show_labels: as for draw_detections.

    Returns uint8 [H, W, 3], BGR.
    """
    colors = class_colors(len(class_names), palette)
    instances = [
        Instance(box, None, (160, 160, 160), 'ignored')
        for box in (() if ignored_boxes is None else ignored_boxes)
    ]
    for i, (box, label) in enumerate(zip(boxes, labels)):
        mask = decode_mask(masks[i]) if masks is not None else None
        instances.append(
            Instance(np.asarray(box), mask, colors[int(label)], class_names[int(label)]))
    return draw_instances(image, instances, mask_opacity, show_labels)


def draw_instances(image: np.ndarray,
                   instances: Sequence[Instance],
                   mask_opacity: float = 0.45,
                   show_labels: bool = True) -> np.ndarray:
    """Masks first, then their contours and boxes, then labels, so that no label is painted over."""
    canvas = as_bgr(image)
    height, width = canvas.shape[:2]
    thickness = max(1, round(min(height, width) / 400))
    # Large masks first: a rider is not hidden below a bus.
    for one in sorted((one for one in instances if one.mask is not None),
                      key=lambda one: -int(one.mask.sum())):
        if one.mask.shape != (height, width):
            raise ValueError(
                f'a mask of {one.mask.shape[0]}x{one.mask.shape[1]} for an image of {height}x{width}'
            )
        if not one.mask.any():
            continue
        region = canvas[one.mask]
        canvas[one.mask] = (region * (1 - mask_opacity) +
                            np.array(one.color) * mask_opacity).round().astype(np.uint8)
        contours, _ = cv2.findContours(
            one.mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, one.color, thickness)
    for one in instances:
        x0, y0, x1, y1 = corners(one.box, width, height)
        cv2.rectangle(canvas, (x0, y0), (x1, y1), one.color, thickness)
    if show_labels:
        for one in instances:
            draw_label(canvas, one.text, one.box, one.color)
    return canvas


def as_bgr(image: np.ndarray) -> np.ndarray:
    """A uint8 [H, W, 3] copy of an image of one or three channels."""
    image = np.asarray(image)
    if image.dtype != np.uint8:
        image = np.clip(image, 0, 255).round().astype(np.uint8)
    if image.ndim == 2 or image.shape[2] == 1:
        return cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(image[..., :3]).copy()


def corners(box: Sequence[float], width: int, height: int) -> Tuple[int, int, int, int]:
    """The box in whole pixels, inside the image."""
    x0, y0, x1, y1 = (int(round(float(value))) for value in box)
    return (min(max(x0, 0), width - 1), min(max(y0, 0), height - 1), min(max(x1, 0), width - 1),
            min(max(y1, 0), height - 1))


def draw_label(canvas: np.ndarray, text: str, box: Sequence[float], color: Color) -> None:
    """Write on a plate of the color above the box, or in it where there is no room; always inside the image."""
    height, width = canvas.shape[:2]
    scale = min(max(min(height, width) / 900, .35), 1.2)
    line = max(1, round(scale * 1.5))
    (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, line)
    if text_width + 4 > width:
        scale *= max(.2, (width - 4) / (text_width + 1))
        (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, line)
    plate_height = text_height + below + 4
    x0, y0, _, _ = corners(box, width, height)
    x0 = max(0, min(x0, width - text_width - 4))
    y0 = y0 - plate_height if y0 >= plate_height else y0
    y0 = max(0, min(y0, height - plate_height))
    cv2.rectangle(canvas, (x0, y0),
                  (min(x0 + text_width + 4, width - 1), min(y0 + plate_height, height - 1)), color,
                  -1)
    bright = .114 * color[0] + .587 * color[1] + .299 * color[2] > 140
    cv2.putText(canvas, text, (x0 + 2, y0 + 2 + text_height), FONT, scale,
                BLACK if bright else WHITE, line, cv2.LINE_AA)


def side_by_side(left: np.ndarray,
                 right: np.ndarray,
                 titles: Union[Tuple[str, str], None] = None) -> np.ndarray:
    """Two pictures next to each other, the lower one padded below, with a title above each."""
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
