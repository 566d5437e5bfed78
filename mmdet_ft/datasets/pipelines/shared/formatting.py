"""The end of a pipeline: convert arrays to tensors and collect what the model needs."""
import contextlib
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple, Union

import cv2
import numpy as np
import torch
from torch import Tensor

from mmdet_ft.datasets.pipelines.shared.resize_flip import flip_image
from mmdet_ft.registry import PIPELINES

DEFAULT_META_KEYS = ('filename', 'ori_filename', 'ori_shape', 'img_shape', 'pad_shape',
                     'scale_factor', 'flip', 'flip_direction', 'img_norm_cfg')
BLOCK = 1 << 19  # bytes of an image that are mirrored, padded and split at a time: they fit in the CPU cache
_late = False


def to_tensor(data: object) -> Tensor:
    """Convert an array, a sequence or a number to a tensor; arrays share their memory.

    Raises TypeError for anything else.
    """
    if isinstance(data, (Tensor, DeferredImage)):
        return data
    if isinstance(data, np.ndarray):
        # a number without axes stays without axes
        return torch.from_numpy(data if data.flags.c_contiguous else np.ascontiguousarray(data))
    if isinstance(data, Sequence) and not isinstance(data, str):
        return torch.tensor(data)
    if isinstance(data, (int, np.integer)):
        return torch.LongTensor([data])
    if isinstance(data, float):
        return torch.FloatTensor([data])
    raise TypeError(f'a {type(data).__name__} cannot be made a tensor')


def image_to_tensor(img: np.ndarray,
                    swap: bool = False,
                    size: Optional[Tuple[int, int]] = None,
                    flip: Optional[str] = None) -> Tensor:
    """Convert an image [H, W, C] or [H, W] to a tensor [C, H, W] with its own memory.

    swap: reverse three channels (BGR to RGB). size: pad with zeros at the right and bottom to
    (height, width). flip: mirror three channels first, in this direction.
    """
    if img.ndim == 2:
        img = img[..., None]
    planes = np.empty((img.shape[2], *(size or img.shape[:2])), dtype=img.dtype)
    write_planes(planes, img, swap, flip)
    return torch.from_numpy(planes)


def write_planes(planes: np.ndarray, img: np.ndarray, swap: bool, flip: Optional[str]) -> None:
    """Fill `planes` [C, H', W'] with an image [H, W, C] and zeros, like image_to_tensor."""
    height, width, channels = img.shape
    planes[:, height:] = 0
    if channels != 3 or img.dtype not in (np.uint8, np.float32):
        assert flip is None
        planes[:, :height, width:] = 0
        planes[:, :height, :width] = img.transpose(2, 0, 1)[::-1 if swap else 1]
        return
    planes = planes[::-1] if swap else planes
    right = planes.shape[2] - width
    rows = max(BLOCK * height // img.nbytes, 1)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        upwards = flip in ('vertical', 'diagonal')
        part = img[height - bottom:height - top] if upwards else img[top:bottom]
        if flip is not None:
            part = flip_image(part, flip)
        if right:  # before, because OpenCV splits into whole rows three times as fast as into parts of them
            part = cv2.copyMakeBorder(part, 0, 0, 0, right, cv2.BORDER_CONSTANT)
        # four times as fast as a transposed copy
        cv2.split(np.ascontiguousarray(part), list(planes[:, top:bottom]))


class DeferredImage:
    """An image [H, W, C], uint8, that collate writes into the memory of the batch: see image_to_tensor."""
    dtype = torch.uint8

    def __init__(self, img: np.ndarray, swap: bool, size: Optional[Tuple[int, int]],
                 flip: Optional[str]):
        self.img = img if img.ndim == 3 else img[..., None]
        self.swap = swap
        self.shape = (self.img.shape[2], *(size or img.shape[:2]))
        self.flip = flip

    def write(self, planes: np.ndarray) -> None:
        write_planes(planes, self.img, self.swap, self.flip)

    def float(self) -> Tensor:
        return image_to_tensor(self.img, self.swap, self.shape[1:], self.flip).float()


@contextlib.contextmanager
def defer_to_collate() -> Iterator[None]:
    """Leave deferred steps to collate in this context, not to the conversion to a tensor; this saves a copy."""
    global _late
    _late = True
    try:
        yield
    finally:
        _late = False


def _format_image(results: Dict[str, Any], key: str,
                  img: np.ndarray) -> Union[Tensor, DeferredImage]:
    """Convert an image to a tensor, with the steps left by deferred transforms."""
    if key != 'img' or 'deferred_normalize' not in results:
        return image_to_tensor(img)
    size = results['pad_shape'][:2] if results.get('deferred_pad') else None
    make = DeferredImage if _late else image_to_tensor
    return make(img, results['deferred_normalize']['to_rgb'], size, results.get('deferred_flip'))


def _add_default_meta(results: Dict[str, Any]) -> None:
    """Set V2's default metas where no Resize, Pad, Normalize or RandomFlip has set them."""
    img = results.get('img')
    if isinstance(img, np.ndarray):
        channels = 1 if img.ndim < 3 else img.shape[2]
        if 'pad_shape' not in results:  # whatever a user's own transform has done
            results['pad_shape'] = results['img_shape'] = img.shape
        results.setdefault('scale_factor', 1.0)
        results.setdefault(
            'img_norm_cfg',
            dict(
                mean=np.zeros(channels, dtype=np.float32),
                std=np.ones(channels, dtype=np.float32),
                to_rgb=False))


@PIPELINES.register_module()
class ToTensor:
    """Make tensors of `keys`."""
    moves = ()

    def __init__(self, keys: Sequence[str]):
        self.keys = keys

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        for key in self.keys:
            results[key] = to_tensor(results[key])
        return results

    def __repr__(self) -> str:
        return f'ToTensor(keys={self.keys})'


@PIPELINES.register_module()
class ToDataContainer:
    """Say how V2 collects `fields` into a batch; has no effect here."""
    moves = ()
    passes_on = ('fields', )  # not checked

    def __init__(self,
                 fields: Sequence[Dict[str, Any]] = (dict(key='img', stack=True),
                                                     dict(key='gt_bboxes'), dict(key='gt_labels'))):
        self.fields = fields

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        return results

    def __repr__(self) -> str:
        return f'ToDataContainer(fields={self.fields})'


@PIPELINES.register_module()
class ImageToTensor:
    """Make tensors [C, H, W] of the images [H, W, C] or [H, W] of `keys`."""
    moves = ()

    def __init__(self, keys: Sequence[str]):
        self.keys = keys

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        _add_default_meta(results)
        for key in self.keys:
            results[key] = _format_image(results, key, results[key])
        return results

    def __repr__(self) -> str:
        return f'ImageToTensor(keys={self.keys})'


@PIPELINES.register_module()
class Transpose:
    """Reorder the axes of `keys` by `order`."""
    moves = ()

    def __init__(self, keys: Sequence[str], order: Sequence[int]):
        self.keys = keys
        self.order = order

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        for key in self.keys:
            results[key] = results[key].transpose(self.order)
        return results

    def __repr__(self) -> str:
        return f'Transpose(keys={self.keys}, order={self.order})'


@PIPELINES.register_module()
class DefaultFormatBundle:
    """Make tensors of the usual fields: img, proposals, gt_bboxes, gt_bboxes_ignore, gt_labels, gt_semantic_seg.

    Args:
        img_to_float: convert an unnormalized uint8 image to float32 (unless its Normalize is
            deferred to the device).
        pad_val: padding values of a batch: img, masks, seg.
    """
    moves = ()

    def __init__(self,
                 img_to_float: bool = True,
                 pad_val: Dict[str, float] = dict(img=0, masks=0, seg=255)):
        self.img_to_float = img_to_float
        self.pad_val = pad_val

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        if 'img' in results:
            _add_default_meta(results)
            img = results['img']
            if self.img_to_float and img.dtype == np.uint8 and 'deferred_normalize' not in results:
                img = img.astype(np.float32)
            results['img'] = _format_image(results, 'img', img)
            if self.pad_val.get('img', 0) != 0:
                results['img_pad_val'] = self.pad_val['img']
        for key in ('proposals', 'gt_bboxes', 'gt_bboxes_ignore', 'gt_labels'):
            if key in results:
                results[key] = to_tensor(results[key])
        if 'gt_semantic_seg' in results:
            results['gt_semantic_seg'] = to_tensor(results['gt_semantic_seg'][None, ...])
            if self.pad_val.get('seg', 255) != 255:
                results['seg_pad_val'] = self.pad_val['seg']
        return results

    def __repr__(self) -> str:
        return f'DefaultFormatBundle(img_to_float={self.img_to_float})'


@PIPELINES.register_module()
class Collect:
    """Keep `keys`, and put the metas of the image, `meta_keys`, into the dict `img_metas`.

    Beyond V2's content, a sample with deferred normalization has `img_mean` and `img_std` [C]. A
    sample whose batch is padded with a value other than 0 has `img_pad_val` in img_metas, and
    `seg_pad_val` if its semantic map is padded with another label than 255.
    """
    moves = ()

    def __init__(self, keys: Sequence[str], meta_keys: Sequence[str] = DEFAULT_META_KEYS):
        self.keys = keys
        self.meta_keys = meta_keys

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        results.setdefault('flip', False)  # a pipeline without RandomFlip
        results.setdefault('flip_direction', None)
        metas = {key: self._get(results, key) for key in self.meta_keys}
        data: Dict[str, Any] = dict(img_metas=metas)
        for key in self.keys:
            data[key] = self._get(results, key)
        if 'deferred_normalize' in results and 'img' in self.keys:
            data['img_mean'] = torch.from_numpy(results['deferred_normalize']['mean'])
            data['img_std'] = torch.from_numpy(results['deferred_normalize']['std'])
        metas.update(
            {key: results[key]
             for key in ('img_pad_val', 'seg_pad_val') if key in results})
        return data

    def _get(self, results: Dict[str, Any], key: str) -> Any:
        if key not in results:
            hint = {
                'gt_masks': ' (LoadAnnotations(with_mask=True) makes it)',
                'gt_semantic_seg': ' (LoadAnnotations(with_seg=True) makes it)',
                'gt_bboxes': ' (LoadAnnotations(with_bbox=True) makes it)',
                'proposals': ' (LoadProposals makes it, with a proposal_file of the dataset)'
            }.get(key, '')
            raise KeyError(
                f'Collect: no transform has made {key!r}{hint}; there are {", ".join(sorted(results))}'
            )
        return results[key]

    def __repr__(self) -> str:
        return f'Collect(keys={self.keys}, meta_keys={self.meta_keys})'
