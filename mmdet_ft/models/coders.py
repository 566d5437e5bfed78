"""Box coders: boxes to regression targets and back."""
import math
from typing import Callable, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor

from mmdet_ft.models.losses.reduction import full_precision
from mmdet_ft.registry import MODELS

MaxShape = Union[Tensor, Sequence, None]


@MODELS.register_module()
class DeltaXYWHBBoxCoder:
    """Encode a box relative to another: center shift in box sizes, log of the size ratio (R-CNN, app. C).

    Args:
        target_means, target_stds: normalize the deltas dx, dy, dw, dh.
        clip_border: clip decoded boxes to the image, if `max_shape` is given.
        add_ctr_clamp: the center moves by at most `ctr_clamp` pixels, and only growth is bounded (YOLOF).
        ctr_clamp: see there.
    """

    def __init__(self,
                 target_means: Sequence[float] = (0., 0., 0., 0.),
                 target_stds: Sequence[float] = (1., 1., 1., 1.),
                 clip_border: bool = True,
                 add_ctr_clamp: bool = False,
                 ctr_clamp: float = 32):
        if len(target_means) != 4 or len(target_stds) != 4:
            raise ValueError(
                'DeltaXYWHBBoxCoder: target_means and target_stds are four numbers each, for dx, dy, dw '
                f'and dh, not {target_means} and {target_stds}')
        self.means = tuple(target_means)
        self.stds = tuple(target_stds)
        self.clip_border = clip_border
        self.add_ctr_clamp = add_ctr_clamp
        self.ctr_clamp = ctr_clamp

    def encode(self, boxes: Tensor, gt_boxes: Tensor) -> Tensor:
        """Return the deltas from `boxes` to `gt_boxes`.

        boxes, gt_boxes [..., 4], broadcastable. Returns float32 [..., 4]. A box without width or height gives
        infinities: mask such slots. The unit boxes of padding need no mask.
        """
        boxes, gt_boxes = full_precision(boxes), full_precision(gt_boxes)
        centre = (boxes[..., :2] + boxes[..., 2:]) * 0.5
        size = boxes[..., 2:] - boxes[..., :2]
        gt_centre = (gt_boxes[..., :2] + gt_boxes[..., 2:]) * 0.5
        gt_size = gt_boxes[..., 2:] - gt_boxes[..., :2]
        shift = (gt_centre - centre) / size
        growth = torch.log(gt_size / size)
        return torch.cat([
            _normalize(shift, self.means[:2], self.stds[:2]),
            _normalize(growth, self.means[2:], self.stds[2:]),
        ], -1)

    def decode(self,
               boxes: Tensor,
               deltas: Tensor,
               max_shape: MaxShape = None,
               wh_ratio_clip: float = 16 / 1000) -> Tensor:
        """Return the boxes that result from applying `deltas` to `boxes`.

        boxes [..., 4]; deltas [..., 4] or [..., 4 * K], one set of four per class; max_shape (h, w), or a
        tensor [B, 2] of them for boxes [B, ..., 4]. A size changes at most by the factor `wh_ratio_clip` or its
        inverse. Returns float32 of deltas' shape.
        """
        boxes, deltas = full_precision(boxes), full_precision(deltas)
        shape = deltas.shape
        deltas = deltas.unflatten(-1, (-1, 4))  # [..., K, 4]
        boxes = boxes.unsqueeze(-2)  # [..., 1, 4]
        shift = _denormalize(deltas[..., :2], self.means[:2], self.stds[:2])
        growth = _denormalize(deltas[..., 2:], self.means[2:], self.stds[2:])
        centre = (boxes[..., :2] + boxes[..., 2:]) * 0.5
        size = boxes[..., 2:] - boxes[..., :2]

        shift = size * shift
        limit = abs(math.log(wh_ratio_clip))
        if self.add_ctr_clamp:
            shift = shift.clamp(min=-self.ctr_clamp, max=self.ctr_clamp)
            growth = growth.clamp(max=limit)
        else:
            growth = growth.clamp(min=-limit, max=limit)
        centre = centre + shift
        half = size * growth.exp() * 0.5
        low, high = centre - half, centre + half
        if self.clip_border and max_shape is not None:
            low, high = _clip(low, max_shape), _clip(high, max_shape)
        return torch.cat([low, high], -1).reshape(shape)


@MODELS.register_module()
class LegacyDeltaXYWHBBoxCoder(DeltaXYWHBBoxCoder):
    """Deltas of MMDetection 1, where a box whose end equals its start is one pixel wide.

    V2's type for weights of that version, with its arithmetic. Decoded boxes keep the extra pixel, which gains
    0.5 AP over removing it (V2's own note), and end at the border's last pixel.
    """

    def __init__(self,
                 target_means: Sequence[float] = (0., 0., 0., 0.),
                 target_stds: Sequence[float] = (1., 1., 1., 1.)):
        super().__init__(target_means, target_stds)

    def encode(self, boxes: Tensor, gt_boxes: Tensor) -> Tensor:
        return super().encode(_one_wider(boxes), _one_wider(gt_boxes))

    def decode(self,
               boxes: Tensor,
               deltas: Tensor,
               max_shape: MaxShape = None,
               wh_ratio_clip: float = 16 / 1000) -> Tensor:
        if max_shape is not None and not isinstance(max_shape, Tensor):
            max_shape = torch.as_tensor(max_shape[:2])
        last = None if max_shape is None else max_shape - 1
        return super().decode(_one_wider(boxes), deltas, last, wh_ratio_clip)


@MODELS.register_module()
class YOLOBBoxCoder:
    """Encode a box by its center's position in the cell, 0 to 1, and the log of its size in anchors (YOLO9000, fig. 3).

    Args:
        eps: smallest distance of a position from 0 and 1, and smallest size ratio.
    """

    def __init__(self, eps: float = 1e-6):
        self.eps = eps

    def encode(self, boxes: Tensor, gt_boxes: Tensor, stride: Union[Tensor, float]) -> Tensor:
        """Return x, y, w, h of gt_boxes [..., 4] in the cells of anchors [..., 4].

        stride: pixels per cell, a number or [..., 1]. Returns float32 [..., 4].
        """
        boxes, gt_boxes = full_precision(boxes), full_precision(gt_boxes)
        centre = (boxes[..., :2] + boxes[..., 2:]) * 0.5
        gt_centre = (gt_boxes[..., :2] + gt_boxes[..., 2:]) * 0.5
        size, gt_size = boxes[..., 2:] - boxes[..., :2], gt_boxes[..., 2:] - gt_boxes[..., :2]
        growth = torch.log((gt_size / size).clamp(min=self.eps))
        position = ((gt_centre - centre) / stride + 0.5).clamp(self.eps, 1 - self.eps)
        return torch.cat([position, growth], -1)

    def decode(self, boxes: Tensor, deltas: Tensor, stride: Union[Tensor, float]) -> Tensor:
        """Return the boxes [..., 4] of anchors [..., 4] and deltas x, y (0 to 1), w, h [..., 4]."""
        boxes, deltas = full_precision(boxes), full_precision(deltas)
        centre = (boxes[..., :2] + boxes[..., 2:]) * 0.5 + (deltas[..., :2] - 0.5) * stride
        half = (boxes[..., 2:] - boxes[..., :2]) * 0.5 * deltas[..., 2:].exp()
        return torch.cat([centre - half, centre + half], -1)


@MODELS.register_module()
class DistancePointBBoxCoder:
    """Encode a box by its distances from a point: left, top, right, bottom (FCOS, eq. 1).

    Args:
        clip_border: clip decoded boxes to the image, if `max_shape` is given.
    """

    def __init__(self, clip_border: bool = True):
        self.clip_border = clip_border

    def encode(self,
               points: Tensor,
               gt_boxes: Tensor,
               max_dis: Optional[float] = None,
               eps: float = 0.1) -> Tensor:
        """Return the distances from points [..., 2] to the sides of boxes [..., 4].

        With `max_dis` they are between 0 and max_dis - eps. Returns float32 [..., 4].
        """
        points, gt_boxes = full_precision(points), full_precision(gt_boxes)
        distances = torch.cat([points - gt_boxes[..., :2], gt_boxes[..., 2:] - points], -1)
        return distances if max_dis is None else distances.clamp(0, max_dis - eps)

    def decode(self, points: Tensor, distances: Tensor, max_shape: MaxShape = None) -> Tensor:
        """Return the boxes at `distances` [..., 4] around points [..., 2].

        max_shape: see DeltaXYWHBBoxCoder.decode. Returns float32 [..., 4].
        """
        points, distances = full_precision(points), full_precision(distances)
        low, high = points - distances[..., :2], points + distances[..., 2:]
        if self.clip_border and max_shape is not None:
            low, high = _clip(low, max_shape), _clip(high, max_shape)
        return torch.cat([low, high], -1)


@MODELS.register_module()
class TBLRBBoxCoder:
    """Encode a box by the distances of its sides from another's center: top, bottom, left, right (FSAF, sec. 3.1).

    Args:
        normalizer: divides the distances, which are relative to the height or width of the other box; a number,
            or one for each side.
        clip_border: clip decoded boxes to the image, if `max_shape` is given.
    """

    def __init__(self, normalizer: Union[float, Sequence[float]] = 4.0, clip_border: bool = True):
        factors = tuple(normalizer) if isinstance(normalizer, (list, tuple)) else (normalizer, ) * 4
        if len(factors) != 4:
            raise ValueError(f'TBLRBBoxCoder: normalizer is {normalizer}; write a number, or four')
        self.normalizer = factors
        self.clip_border = clip_border

    def encode(self, boxes: Tensor, gt_boxes: Tensor) -> Tensor:
        """Return the distances from the centers of `boxes` to the sides of `gt_boxes`: float32 [..., 4]."""
        boxes, gt_boxes = full_precision(boxes), full_precision(gt_boxes)
        low, high = _center_of(boxes) - gt_boxes[..., :2], gt_boxes[..., 2:] - _center_of(boxes)
        size = boxes[..., 2:] - boxes[..., :2]
        sides = torch.stack([low, high], -1) / size[..., None]  # [..., x y, low high]
        return _by_side(torch.div, sides.flip(-2).flatten(-2), self.normalizer)

    def decode(self, boxes: Tensor, distances: Tensor, max_shape: MaxShape = None) -> Tensor:
        """Return the boxes at `distances` [..., 4] around the centers of `boxes`.

        max_shape: see DeltaXYWHBBoxCoder.decode. Returns float32 [..., 4].
        """
        boxes, distances = full_precision(boxes), full_precision(distances)
        size = boxes[..., 2:] - boxes[..., :2]
        sides = _by_side(torch.mul, distances, self.normalizer)
        sides = sides.unflatten(-1, (2, 2)).flip(-2) * size[..., None]  # [..., x y, low high]
        low, high = _center_of(boxes) - sides[..., 0], _center_of(boxes) + sides[..., 1]
        if self.clip_border and max_shape is not None:
            low, high = _clip(low, max_shape), _clip(high, max_shape)
        return torch.cat([low, high], -1)


AnchorCoder = Union[DeltaXYWHBBoxCoder, TBLRBBoxCoder]  # relative to a box, not to a point


def _center_of(boxes: Tensor) -> Tensor:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _one_wider(boxes: Tensor) -> Tensor:
    """Extend boxes by half a pixel on each side, about the same center."""
    boxes = full_precision(boxes)
    return torch.cat([boxes[..., :2] - .5, boxes[..., 2:] + .5], -1)


# Numbers of the config stay Python scalars: creating a tensor of them is a synchronizing copy to the GPU.


def _normalize(pair: Tensor, means: Tuple, stds: Tuple) -> Tensor:
    if means == (0, 0) and stds == (1, 1):
        return pair
    if means[0] == means[1] and stds[0] == stds[1]:
        return (pair - means[0]) / stds[0]
    return torch.stack([(pair[..., i] - means[i]) / stds[i] for i in range(2)], -1)


def _denormalize(pair: Tensor, means: Tuple, stds: Tuple) -> Tensor:
    if means == (0, 0) and stds == (1, 1):
        return pair
    if means[0] == means[1] and stds[0] == stds[1]:
        return pair * stds[0] + means[0]
    return torch.stack([pair[..., i] * stds[i] + means[i] for i in range(2)], -1)


def _by_side(function: Callable[[Tensor, float], Tensor], sides: Tensor,
             factors: Tuple[float, ...]) -> Tensor:
    """Apply a function of each side, [..., 4], and its factor."""
    if len(set(factors)) == 1:
        return function(sides, factors[0])
    return torch.stack([function(sides[..., i], factors[i]) for i in range(4)], -1)


def _clip(xy: Tensor, max_shape: MaxShape) -> Tensor:
    """Clip points [B, ..., 2] to 0 and (w, h) of their image."""
    if isinstance(max_shape, Tensor):
        limit = max_shape[..., :2].flip(-1).to(xy)  # [B, 2] as w h
        limit = limit.reshape(limit.shape[:-1] + (1, ) * (xy.dim() - limit.dim()) + (2, ))
        return xy.clamp(min=0).clamp(max=limit)
    assert max_shape is not None, 'no limit to clip to'
    height, width = max_shape[:2]
    return torch.stack([xy[..., 0].clamp(0, width), xy[..., 1].clamp(0, height)], -1)
