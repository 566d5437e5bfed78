"""Transforms that resize, flip and pad the image with its boxes, masks and maps."""
import warnings
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import cv2
import mmcv
import numpy as np

from mmdet_ft.datasets.annotations.masks import rescaled_size
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.pipelines.shared.moves import EVERYTHING, refuse_objects
from mmdet_ft.registry import PIPELINES

PADDING_MODES = ('constant', 'edge', 'reflect', 'symmetric')
DIRECTIONS = ('horizontal', 'vertical', 'diagonal')
Scale = Tuple[int, int]
LONGEST_SIDE = 32766  # pixels; OpenCV's warps count in 16 bits


def as_scales(img_scale: Union[Scale, List[Scale]]) -> List[Scale]:
    """Return one scale or several as a list of tuples; json and yaml configs write a tuple as a list.

    Raises TypeError with the value when it is neither.
    """
    scales = [img_scale]
    if isinstance(img_scale,
                  list) and not all(isinstance(side, (int, float)) for side in img_scale):
        scales = img_scale
    for scale in scales:
        if not isinstance(scale, (tuple, list)) or len(scale) != 2:
            raise TypeError(
                f'img_scale is a tuple like (1333, 800) or a list of such tuples, found {img_scale!r}'
            )
        if not all(isinstance(side, (int, float)) and side >= 1 for side in scale):
            raise ValueError(f'the sides of img_scale are pixels, 1 at least; found {img_scale!r}')
    return [tuple(scale) for scale in scales]


def as_size(size: Union[int, Scale], where: str, adaptive: bool = False) -> Scale:
    """Return (height, width) from one number for both, or from a pair; `adaptive` pairs may end in -1.

    Raises ValueError with the value when it is neither.
    """
    pair = (size, size) if isinstance(size, int) else size
    good = isinstance(pair, (tuple, list)) and len(pair) == 2 and all(
        isinstance(side, int) and side > 0
        for side in (pair[:1] if adaptive and pair[1] == -1 else pair))
    if not good:
        ending = ', or (side, -1)' if adaptive else ''
        raise ValueError(
            f'{where} is a number of pixels or (height, width){ending}; found {size!r}')
    return tuple(pair)


def put_image(results: Dict[str, Any], key: str, img: np.ndarray) -> None:
    """Put an image of another shape into a sample that has only images; the metas of an earlier Pad are removed."""
    results[key] = img
    results['img_shape'] = img.shape
    results.pop('pad_shape', None)


def check_sides(img: np.ndarray, transform: object, size: Tuple[int, int] = (1, 1)) -> None:
    """Raise DataError if an image, or a result (height, width), is too large for OpenCV to turn, shear or shift."""
    if max(*img.shape[:2], *size) > LONGEST_SIDE:
        raise DataError(
            f'{getattr(transform, "type_name", type(transform).__name__)} turns images of at most {LONGEST_SIDE} '
            f'pixels a side (OpenCV), found {img.shape[0]} x {img.shape[1]} (height x width); put Resize before '
            f'it, or cut such images into tiles')


def flip_image(img: np.ndarray, direction: str) -> np.ndarray:
    """Flip like mmcv.imflip, into a new array: the next step would have to copy a reversed view, which is slow."""
    if img.ndim == 2 or img.shape[2] in (2, 3, 4):
        return cv2.flip(img, {'horizontal': 1, 'vertical': 0, 'diagonal': -1}[direction])
    return np.ascontiguousarray(mmcv.imflip(img, direction=direction))


@PIPELINES.register_module()
class Resize:
    """Resize image, boxes, masks and segmentation maps.

    The scale is `results['scale']` if set (MultiScaleFlipAug), or follows from
    `results['scale_factor']`. Otherwise it is: `img_scale` times a random ratio of `ratio_range`;
    one of several `img_scale` (multiscale_mode 'value'); long and short side sampled between those
    of two (multiscale_mode 'range'); the only `img_scale`.

    A classifier's pipeline sets `size` instead, which depends on nothing else.

    Args:
        img_scale: (long side, short side) at most, or a list of them.
        multiscale_mode: 'range' or 'value'.
        ratio_range: (smallest, largest) factor of the scale.
        keep_ratio: keep the aspect ratio and fit into the scale; otherwise it is (width, height).
        bbox_clip_border: clip boxes to the image.
        backend: 'cv2' or 'pillow'.
        interpolation: of the image; masks and maps use nearest interpolation.
        override: ignore the scale of an earlier Resize.
        size: (height, width), or one number for both, whatever the ratio; (side, -1) keeps the ratio: `side` is that
            of `adaptive_side`, the other is rounded down.
        adaptive_side: 'short', 'long', 'height' or 'width'.

    No side becomes less than a pixel. Sets scale, scale_idx, img_shape, pad_shape, scale_factor (float32 [4]: w h w h),
    keep_ratio.
    """
    is_undone = True

    @staticmethod
    def moves_with(arguments: Mapping[str, Any]) -> Tuple[str, ...]:
        return EVERYTHING if arguments.get('size') is None else ('img', )

    @staticmethod
    def instead_of(arguments: Mapping[str, Any]) -> str:
        size = arguments.get('size')
        pair = (size, size) if isinstance(size, int) else size
        good = isinstance(pair, (tuple, list)) and len(pair) == 2 and pair[1] != -1
        scale = f'{tuple(pair)[::-1]}, keep_ratio=False' if good else '(WIDTH, HEIGHT)'
        return f"a detector writes dict(type='Resize', img_scale={scale}), which moves them along"

    def __init__(self,
                 img_scale: Union[Scale, List[Scale], None] = None,
                 multiscale_mode: str = 'range',
                 ratio_range: Optional[Tuple[float, float]] = None,
                 keep_ratio: bool = True,
                 bbox_clip_border: bool = True,
                 backend: str = 'cv2',
                 interpolation: str = 'bilinear',
                 override: bool = False,
                 size: Union[int, Tuple[int, int], None] = None,
                 adaptive_side: str = 'short'):
        if size is not None and (img_scale is not None or ratio_range is not None):
            raise ValueError(
                f'Resize takes size={size} (a classifier) or img_scale={img_scale} and '
                f'ratio_range={ratio_range} (a detector), not both')
        if adaptive_side not in ('short', 'long', 'height', 'width'):
            raise ValueError(
                f"Resize: adaptive_side is 'short', 'long', 'height' or 'width', found "
                f'{adaptive_side!r}')
        self.size = None if size is None else as_size(size, 'Resize: size', adaptive=True)
        self.adaptive_side = adaptive_side
        self.img_scale = None if img_scale is None else as_scales(img_scale)
        if ratio_range is not None and (self.img_scale is None or len(self.img_scale) != 1):
            raise ValueError(f'Resize: ratio_range goes with one img_scale, found {img_scale!r}')
        if ratio_range is not None and ratio_range[0] > ratio_range[1]:
            raise ValueError(f'Resize: ratio_range is (smallest, largest), found {ratio_range}')
        if multiscale_mode not in ('value', 'range'):
            raise ValueError(
                f"Resize: multiscale_mode is 'range' or 'value', found {multiscale_mode!r}")
        if ratio_range is None and multiscale_mode == 'range' and len(self.img_scale or []) > 2:
            raise ValueError(
                f"Resize: multiscale_mode='range' draws between two scales, found {len(self.img_scale)}; "
                f"write multiscale_mode='value' to draw one of them")
        self.multiscale_mode = multiscale_mode
        self.ratio_range = ratio_range
        self.keep_ratio = keep_ratio
        self.bbox_clip_border = bbox_clip_border
        self.backend = backend
        self.interpolation = interpolation
        self.override = override

    def _random_scale(self, results: Dict[str, Any]) -> None:
        if self.img_scale is None:
            raise ValueError(
                'Resize: give img_scale, or put Resize into MultiScaleFlipAug(img_scale=...)')
        first, scale_index = self.img_scale[0], None
        if self.ratio_range is not None:
            ratio = np.random.random_sample() * (self.ratio_range[1] -
                                                 self.ratio_range[0]) + self.ratio_range[0]
            scale = max(int(first[0] * ratio), 1), max(int(first[1] * ratio), 1)
        elif len(self.img_scale) == 1:
            scale, scale_index = first, 0
        elif self.multiscale_mode == 'range':
            sides = [[pick(scale) for scale in self.img_scale]
                     for pick in (max, min)]  # long sides, short sides
            scale = tuple(int(np.random.randint(min(ends), max(ends) + 1)) for ends in sides)
        else:
            scale_index = int(np.random.randint(len(self.img_scale)))
            scale = self.img_scale[scale_index]
        results['scale'] = scale
        results['scale_idx'] = scale_index

    def _resize_image(self, results: Dict[str, Any]) -> None:
        for key in results.get('img_fields', ['img']):
            img = results[key]
            resized = mmcv.imresize(
                img,
                self._size_in(results, img),
                interpolation=self.interpolation,
                backend=self.backend)
            scale_x, scale_y = resized.shape[1] / img.shape[1], resized.shape[0] / img.shape[0]
            results[key] = resized
            results['img_shape'] = resized.shape
            results['pad_shape'] = resized.shape  # until there is padding
            results['scale_factor'] = np.array([scale_x, scale_y, scale_x, scale_y],
                                               dtype=np.float32)
            results['keep_ratio'] = self.keep_ratio

    def _size_in(self, results: Dict[str, Any], img: np.ndarray) -> Scale:
        """Return (width, height) of an image or map in the sample's scale."""
        if self.keep_ratio:
            return rescaled_size(img.shape[1], img.shape[0], results['scale'])
        return results['scale']

    def _size_of(self, height: int, width: int) -> Scale:
        """Return (width, height) of an image resized to `size`."""
        side, other = self.size
        if other != -1:
            return other, side
        by_width = dict(
            short=width < height, long=width > height, height=False, width=True)[self.adaptive_side]
        if by_width:
            return side, max(int(side * height / width), 1)
        return max(int(side * width / height), 1), side

    def _resize_boxes(self, results: Dict[str, Any]) -> None:
        height, width = results['img_shape'][:2]
        for key in results.get('bbox_fields', []):
            boxes = results[key] * results['scale_factor']
            if self.bbox_clip_border:
                boxes[:, 0::2] = np.clip(boxes[:, 0::2], 0, width)
                boxes[:, 1::2] = np.clip(boxes[:, 1::2], 0, height)
            results[key] = boxes

    def _resize_masks(self, results: Dict[str, Any]) -> None:
        for key in results.get('mask_fields', []):
            if results[key] is None:
                continue
            if self.keep_ratio:
                results[key] = results[key].rescale(results['scale'])
            else:
                results[key] = results[key].resize(results['img_shape'][:2])

    def _resize_maps(self, results: Dict[str, Any]) -> None:
        for key in results.get('seg_fields', []):
            results[key] = mmcv.imresize(
                results[key],
                self._size_in(results, results[key]),
                interpolation='nearest',
                backend=self.backend)

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        if self.size is not None:
            refuse_objects(self, results)
            for key in results.get('img_fields', ['img']):
                img = results[key]
                size = self._size_of(*img.shape[:2])
                if size != (img.shape[1], img.shape[0]):
                    img = mmcv.imresize(
                        img, size, interpolation=self.interpolation, backend=self.backend)
                put_image(results, key, img)
            return results
        if 'scale' not in results:
            if 'scale_factor' in results:
                factor = results['scale_factor']
                if not isinstance(factor, float):
                    raise TypeError(f'scale_factor is one float, found {factor!r}')
                results['scale'] = tuple(
                    max(int(side * factor), 1) for side in results['img'].shape[:2])[::-1]
            else:
                self._random_scale(results)
        elif self.override:
            results.pop('scale')
            results.pop('scale_factor', None)
            self._random_scale(results)
        elif 'scale_factor' in results:
            raise ValueError(
                'Resize: the image has been resized before; write override=True to resize it again')
        self._resize_image(results)
        self._resize_boxes(results)
        self._resize_masks(results)
        self._resize_maps(results)
        return results

    def __repr__(self) -> str:
        if self.size is not None:
            return (f"Resize(size={self.size}, adaptive_side='{self.adaptive_side}', "
                    f"interpolation='{self.interpolation}', backend='{self.backend}')")
        return (f'Resize(img_scale={self.img_scale}, multiscale_mode={self.multiscale_mode}, '
                f'ratio_range={self.ratio_range}, keep_ratio={self.keep_ratio}, '
                f'bbox_clip_border={self.bbox_clip_border})')


@PIPELINES.register_module()
class RandomFlip:
    """Mirror image, boxes, masks and segmentation maps.

    `results['flip']` and `results['flip_direction']` decide where they are set (MultiScaleFlipAug).

    Args:
        flip_ratio: probability 0..1 of a flip, shared evenly by several directions; or a list with one for each.
        direction: 'horizontal', 'vertical', 'diagonal' (both), or a list of them.
        flip_prob: the name of flip_ratio in a classifier's pipeline.
    """
    moves = EVERYTHING
    is_undone = True

    def __init__(self,
                 flip_ratio: Union[float, List[float], None] = None,
                 direction: Union[str, List[str]] = 'horizontal',
                 flip_prob: Optional[float] = None):
        if flip_prob is not None:
            if flip_ratio is not None:
                raise ValueError(
                    f'RandomFlip: flip_ratio={flip_ratio} and flip_prob={flip_prob} are the same thing '
                    f'for detectors and classifiers; keep one')
            flip_ratio = flip_prob
        ratios = flip_ratio if isinstance(flip_ratio,
                                          (list,
                                           tuple)) else [0 if flip_ratio is None else flip_ratio]
        if not all(isinstance(ratio, (int, float))
                   for ratio in ratios) or not 0 <= sum(ratios) <= 1:
            raise ValueError(
                f'RandomFlip: flip_ratio is a probability, or a list of them of sum 1 at most; '
                f'found {flip_ratio!r}')
        directions = direction if isinstance(direction, (list, tuple)) else [direction]
        for name in directions:
            if name not in DIRECTIONS:
                raise ValueError(
                    f'RandomFlip: direction is one of {", ".join(DIRECTIONS)} or a list of them, '
                    f'found {name!r}')
        if isinstance(flip_ratio, (list, tuple)) and len(flip_ratio) != len(directions):
            raise ValueError(
                f'RandomFlip: {len(flip_ratio)} flip ratios for {len(directions)} directions')
        self.flip_ratio = flip_ratio
        self.direction = direction

    def bbox_flip(self, bboxes: np.ndarray, img_shape: Tuple[int, ...],
                  direction: str) -> np.ndarray:
        """Mirror boxes [..., 4 * k] in an image of `img_shape` (height, width)."""
        assert bboxes.shape[-1] % 4 == 0 and direction in DIRECTIONS
        flipped = bboxes.copy()
        if direction != 'vertical':
            flipped[..., 0::4] = img_shape[1] - bboxes[..., 2::4]
            flipped[..., 2::4] = img_shape[1] - bboxes[..., 0::4]
        if direction != 'horizontal':
            flipped[..., 1::4] = img_shape[0] - bboxes[..., 3::4]
            flipped[..., 3::4] = img_shape[0] - bboxes[..., 1::4]
        return flipped

    def _random_direction(self) -> Optional[str]:
        directions = list(self.direction) if isinstance(self.direction,
                                                        (list, tuple)) else [self.direction]
        if self.flip_ratio is None:
            raise DataError(
                'RandomFlip: give flip_ratio (flip_prob, for a classifier), or put RandomFlip into '
                'MultiScaleFlipAug')
        if len(directions) == 1 and not isinstance(self.flip_ratio, (list, tuple)):
            # the same sample as np.random.choice, in a tenth of its time
            return directions[0] if np.random.random_sample() < self.flip_ratio else None
        if isinstance(self.flip_ratio, (list, tuple)):
            ratios = list(self.flip_ratio) + [1 - sum(self.flip_ratio)]
        else:
            ratios = [self.flip_ratio / len(directions)] * len(directions) + [1 - self.flip_ratio]
        return np.random.choice(directions + [None], p=ratios)

    def _flip_images(self, results: Dict[str, Any]) -> None:
        for key in results.get('img_fields', ['img']):
            results[key] = flip_image(results[key], results['flip_direction'])

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        if 'flip' not in results:
            direction = self._random_direction()
            results['flip'] = direction is not None
            results.setdefault('flip_direction', direction)
        results.setdefault('flip_direction',
                           self.direction if isinstance(self.direction, str) else self.direction[0])
        if results['flip']:
            direction = results['flip_direction']
            self._flip_images(results)
            for key in results.get('bbox_fields', []):
                results[key] = self.bbox_flip(results[key], results['img_shape'], direction)
            for key in results.get('mask_fields', []):
                results[key] = results[key].flip(direction)
            for key in results.get('seg_fields', []):
                results[key] = flip_image(results[key], direction)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(flip_ratio={self.flip_ratio}, direction={self.direction})'


class DeferredFlip(RandomFlip):
    """RandomFlip whose image is mirrored during the conversion to a tensor.

    Compose puts it before a DeferredNormalize, which mirrors an image that it has to normalize on
    the host.
    """

    def _flip_images(self, results: Dict[str, Any]) -> None:
        img = results['img']
        alone = results.get('img_fields', ['img']) == ['img']
        if alone and img.dtype == np.uint8 and img.ndim == 3 and img.shape[2] == 3:
            results['deferred_flip'] = results['flip_direction']
        else:
            super()._flip_images(results)


@PIPELINES.register_module()
class Pad:
    """Pad image, masks and segmentation maps at the right and bottom.

    Args:
        size: (height, width) to pad to.
        size_divisor: instead, pad both sides to multiples of it.
        pad_to_square: instead, pad to the longer side.
        pad_val: padding values: img, masks, seg; one number is for img and masks (deprecated). For
            img use a tuple, one value per channel: as in V2 a number fills only the first channel,
            others get 0.
        padding_mode: of the image: 'constant', or 'edge', 'reflect', 'symmetric' from its pixels.

    Sets pad_shape, pad_fixed_size, pad_size_divisor.
    """
    moves = EVERYTHING
    origin_stays = is_undone = True

    def __init__(self,
                 size: Optional[Tuple[int, int]] = None,
                 size_divisor: Optional[int] = None,
                 pad_to_square: bool = False,
                 pad_val: Union[Dict[str, float], float,
                                Sequence[float]] = dict(img=0, masks=0, seg=255),
                 padding_mode: str = 'constant'):
        if isinstance(pad_val, (list, tuple)):
            pad_val = dict(img=tuple(pad_val))
        if padding_mode not in PADDING_MODES:
            raise ValueError(
                f'Pad: padding_mode is one of {", ".join(PADDING_MODES)}, found {padding_mode!r}')
        if isinstance(pad_val, (int, float)):
            warnings.warn(
                f'pad_val={pad_val} is deprecated, write pad_val=dict(img={pad_val}, masks={pad_val}, '
                f'seg=255)', DeprecationWarning)
            pad_val = dict(img=pad_val, masks=pad_val, seg=255)
        if (size is not None) + (size_divisor is not None) + bool(pad_to_square) != 1:
            raise ValueError(f'Pad takes one of size={size}, size_divisor={size_divisor} and '
                             f'pad_to_square={pad_to_square}')
        self.size = size
        self.size_divisor = size_divisor
        self.pad_to_square = pad_to_square
        self.pad_val = pad_val
        self.padding_mode = padding_mode

    def fills_with_zeros(self) -> bool:
        """Return whether the padding of an image is 0."""
        return self.pad_val.get('img', 0) == 0 and self.padding_mode == 'constant'

    def _target(self, shape: Tuple[int, ...]) -> Tuple[int, int]:
        height, width = shape[:2]
        if self.pad_to_square:
            return max(height, width), max(height, width)
        if self.size_divisor is not None:
            return tuple(
                int(np.ceil(side / self.size_divisor)) * self.size_divisor
                for side in (height, width))
        return tuple(self.size)

    def _pad_images(self, results: Dict[str, Any]) -> None:
        for key in results.get('img_fields', ['img']):
            size = self._target(results[key].shape)
            results[key] = mmcv.impad(
                results[key],
                shape=size,
                pad_val=self.pad_val.get('img', 0),
                padding_mode=self.padding_mode)
            results['pad_shape'] = results[key].shape
            results['pad_fixed_size'] = None if self.size_divisor is not None else size

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        self._pad_images(results)
        results['pad_size_divisor'] = self.size_divisor
        shape = results['pad_shape'][:2]
        for key in results.get('mask_fields', []):
            results[key] = results[key].pad(shape, pad_val=self.pad_val.get('masks', 0))
        for key in results.get('seg_fields', []):
            results[key] = mmcv.impad(
                results[key], shape=shape, pad_val=self.pad_val.get('seg', 255))
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(size={self.size}, size_divisor={self.size_divisor}, '
                f'pad_to_square={self.pad_to_square}, pad_val={self.pad_val})')


class DeferredPad(Pad):
    """Pad whose image is padded during the conversion to a tensor, which fills up to `pad_shape` with zeros.

    Compose puts it after a DeferredNormalize; an image normalized on the host is padded as written.
    """

    def _pad_images(self, results: Dict[str, Any]) -> None:
        if 'deferred_normalize' not in results:
            super()._pad_images(results)
            return
        shape = results['pad_shape'] if results.get('deferred_pad') else results['img'].shape
        size = self._target(shape)
        results['pad_shape'] = (max(size[0], shape[0]), max(size[1], shape[1]), *shape[2:])
        results['pad_fixed_size'] = None if self.size_divisor is not None else size
        results['deferred_pad'] = True


@PIPELINES.register_module()
class SegRescale:
    """Scale segmentation maps with nearest interpolation.

    Args:
        scale_factor: factor of both sides.
        backend: 'cv2' or 'pillow'.
    """
    moves = ('seg', )

    def __init__(self, scale_factor: float = 1, backend: str = 'cv2'):
        self.scale_factor = scale_factor
        self.backend = backend

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        for key in results.get('seg_fields', []) if self.scale_factor != 1 else ():
            size = rescaled_size(*results[key].shape[1::-1], self.scale_factor)
            results[key] = mmcv.imresize(
                results[key], size, interpolation='nearest', backend=self.backend)
        return results

    def __repr__(self) -> str:
        return f'SegRescale(scale_factor={self.scale_factor})'
