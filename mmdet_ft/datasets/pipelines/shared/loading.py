"""The start of a pipeline: load images and annotations from files."""
import logging
import os
import os.path as osp
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Union

import numpy as np

from mmdet_ft.command_names import how_to_run
from mmdet_ft.datasets.annotations.masks import (BitmapMasks, PolygonMasks, bitmaps_of_runs,
                                                 polygon_runs)
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.decoding import COARSE, decode, is_coarse
from mmdet_ft.datasets.images.files import read_head
from mmdet_ft.datasets.images.names import find_image, missing_folder, same_name
from mmdet_ft.datasets.images.sizes import mismatch
from mmdet_ft.registry import PIPELINES

COLOR_TYPES = ('color', 'grayscale', 'unchanged', 'color_ignore_orientation',
               'grayscale_ignore_orientation')  # mmcv's
SKIP = 'in training, data = dict(train_dataloader=dict(skip_bad_images=True)) leaves such images out'
told_as_cut: Set[str] = set()  # paths; the scan before a training adds those that it has reported


def is_remote(file_client_args: Dict[str, Any]) -> bool:
    """Check whether files are on a storage other than the local disk."""
    return file_client_args.get('backend', 'disk') != 'disk'


def read_bytes(path: str, file_client_args: Dict[str, Any]) -> bytes:
    """Read the content of a file, from disk or from another of mmengine's storage backends."""
    if not is_remote(file_client_args):
        with open(path, 'rb') as file:
            return file.read()
    from mmengine.fileio import FileClient
    return bytes(FileClient(**file_client_args).get(path))


def _where(results: Dict[str, Any]) -> str:
    """Return the record and file that a message is about."""
    info = results.get('img_info', {})
    parts = [f'image id {info["id"]!r}'] if 'id' in info else []
    parts += [f'listed in {results["ann_file"]}'] if results.get('ann_file') else []
    return f' ({" ".join(parts)})' if parts else ''


def _suggest_fix(results: Dict[str, Any]) -> str:
    """Return what to do about a file that is not a complete image."""
    if results.get('ann_file'):
        return f'fetch it again, or take it out of the annotation file; {SKIP}'
    return f'fetch it again, or remove it; {SKIP}' if 'gt_label' in results else 'fetch it again'


def _join_prefix(prefix: Optional[str], name: str) -> str:
    return name if prefix is None else osp.join(prefix, name)


def read_image(path: str, results: Dict[str, Any], file_client_args: Dict[str, Any],
               color_type: str, channel_order: str) -> np.ndarray:
    """Decode an image file as mmcv does.

    Raises FileNotFoundError or DataError with the file and the annotation file that lists it. A
    truncated JPEG or PNG is used, with a warning, while little of its picture is missing.
    """
    try:
        content = read_bytes(path, file_client_args)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(_missing(path, results)) from None
    except IsADirectoryError:
        raise DataError(f'the image {path!r}{_where(results)} is a folder') from None
    except (OSError, ValueError) as error:  # an invalid file name, or failing storage
        raise DataError(
            f'cannot open the image {path[:200]!r}{_where(results)}: {error}') from error
    try:
        img, lost = decode(content, color_type, channel_order)
    except DataError as error:
        raise DataError(f'cannot decode the image {path!r}{_where(results)}: {error}; '
                        f'{_suggest_fix(results)}') from None
    if lost is not None:
        _warn_of_truncation(path, lost, is_coarse(content))
    return img


def _missing(path: str, results: Dict[str, Any]) -> str:
    prefix = results.get('img_prefix')
    text = f'there is no image {path!r}{_where(results)}'
    if osp.islink(path):
        text += f': it is a link to {os.readlink(path)!r}, which is not there'
    if prefix is None:
        found = find_image(None, path)
        there = '' if found is None else osp.join(osp.dirname(path), found.name)
        return f'{text}; did you mean {there!r}?' if there else text
    name = results.get('img_info', {}).get('filename')
    found = find_image(prefix, name) if isinstance(name, str) else None
    hint = missing_folder(prefix) if found is None else \
        f'{name!r} -> {found.name!r} is there ({found.reason}): correct the name'
    key = 'data_prefix' if 'gt_label' in results else 'img_prefix'
    return f'{text}; {key} is {prefix!r}' + (f'; {hint}' if hint else '') + f'; {SKIP}'


def _warn_of_truncation(name: str, lost: float, coarse: bool) -> None:
    if name not in told_as_cut:
        told_as_cut.add(name)
        logging.getLogger('mmdet_ft').warning(
            'the image %r lacks its last bytes and is used as far as it is there (%s)', name,
            COARSE if coarse else f"{lost:.1%} is missing")


def check_size(results: Dict[str, Any], shape: Sequence[int]) -> None:
    """Raise DataError if the size of an image [H, W, ...] differs from its annotations, where they list it."""
    info = results.get('img_info') or {}
    listed = info.get('width'), info.get('height')
    if not all(isinstance(side, (int, float, np.number)) and side > 0 for side in listed):
        return
    width, height = map(int, listed)
    if (width, height) == (shape[1], shape[0]):
        return
    orientation = 1
    try:
        head = read_head(results.get('filename') or '')
        if head.size == (shape[1], shape[0]):
            orientation = head.orientation
    except (OSError, DataError, TypeError):
        pass  # on other storage, or more files than one
    found = mismatch((width, height), (shape[1], shape[0]), orientation)
    raise DataError(
        f'image {info.get("filename")!r}{_where(results)} is listed as {width} x {height} pixels '
        f'(width x height), and it is {shape[1]} x {shape[0]}: {found.text}. To fix: {found.fix}. '
        f'`{how_to_run("check")} CONFIG` lists all such images; {SKIP}')


@PIPELINES.register_module()
class LoadImageFromFile:
    """Read `img_prefix`/`img_info['filename']`.

    Args:
        to_float32: convert to float32 instead of uint8.
        color_type: mmcv's flag; 'color' and 'grayscale' apply the EXIF orientation,
            'color_ignore_orientation' keeps the image as stored.
        channel_order: 'bgr' or 'rgb'.
        file_client_args: storage backend.

    Sets filename, ori_filename, img [H, W, C], img_shape, ori_shape, img_fields. Without a file of
    the name, one whose name differs only in `\\` as `/` or in its Unicode form is read, and is
    `filename`. Raises FileNotFoundError and DataError with path, image id and annotation file;
    DataError for another size than `img_info` says.
    """
    moves = ()

    def __init__(self,
                 to_float32: bool = False,
                 color_type: str = 'color',
                 channel_order: str = 'bgr',
                 file_client_args: Dict[str, Any] = dict(backend='disk')):
        if isinstance(color_type, str) and color_type not in COLOR_TYPES:
            raise ValueError(f'color_type={color_type!r} is none of {", ".join(COLOR_TYPES)}')
        self.to_float32 = to_float32
        self.color_type = color_type
        self.channel_order = channel_order
        self.file_client_args = dict(file_client_args)

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        prefix, name = results.get('img_prefix'), results['img_info']['filename']
        filename = _join_prefix(prefix, name)
        try:
            img = self._read(filename, results)
        except FileNotFoundError:
            other = None if is_remote(self.file_client_args) else same_name(prefix, name)
            if other is None:
                raise
            filename, img = other, self._read(other, results)
        self._put(results, img, filename, name)
        check_size(results, img.shape)
        return results

    def _read(self, filename: str, results: Dict[str, Any]) -> np.ndarray:
        return read_image(filename, results, self.file_client_args, self.color_type,
                          self.channel_order)

    def _put(self, results: Dict[str, Any], img: np.ndarray, filename: Optional[str],
             name: Optional[str]) -> Dict[str, Any]:
        if self.to_float32:
            img = img.astype(np.float32)
        results['filename'] = filename
        results['ori_filename'] = name
        results['img'] = img
        results['img_shape'] = img.shape
        results['ori_shape'] = img.shape
        results['img_fields'] = ['img']
        return results

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(to_float32={self.to_float32}, color_type='{self.color_type}', "
            f"channel_order='{self.channel_order}', file_client_args={self.file_client_args})")


@PIPELINES.register_module()
class LoadImageFromWebcam(LoadImageFromFile):
    """Take the image that is already in results['img']."""

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        return self._put(results, results['img'], None, None)


@PIPELINES.register_module()
class LoadMultiChannelImageFromFiles(LoadImageFromFile):
    """Read one file per channel: `img_info['filename']` is a list of names.

    Args:
        to_float32: convert to float32 instead of the files' type.
        color_type: mmcv's flag for each file.
        file_client_args: storage backend.
    """

    def __init__(self,
                 to_float32: bool = False,
                 color_type: str = 'unchanged',
                 file_client_args: Dict[str, Any] = dict(backend='disk')):
        super().__init__(
            to_float32=to_float32, color_type=color_type, file_client_args=file_client_args)

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        names = results['img_info']['filename']
        filenames = [_join_prefix(results.get('img_prefix'), name) for name in names]
        channels = [
            read_image(filename, results, self.file_client_args, self.color_type, 'bgr')
            for filename in filenames
        ]
        self._put(results, np.stack(channels, axis=-1), filenames, names)
        check_size(results, results['img'].shape)
        results['pad_shape'] = results['img'].shape
        results['scale_factor'] = 1.0
        return results


@PIPELINES.register_module()
class LoadAnnotations:
    """Load the annotations of the image into the sample.

    Args:
        with_bbox: gt_bboxes float32 [n, 4] (x1 y1 x2 y2), gt_bboxes_ignore if the dataset has it.
        with_label: gt_labels int64 [n].
        with_mask: gt_masks, n instances.
        with_seg: gt_semantic_seg from `seg_prefix`.
        poly2mask: rasterize polygons to bitmaps at once; otherwise they stay polygons until the
            batch is made. An image that also has run lengths is always rasterized, because those
            cannot become polygons.
        denorm_bbox: boxes are relative to the image size (0..1).
        file_client_args: storage backend.

    Raises DataError when an instance has no segmentation but masks are wanted.
    """
    moves = ()

    @staticmethod
    def loads_with(arguments: Mapping[str, Any]) -> List[str]:
        """Return the kinds of objects that the sample has after this transform."""
        asked = dict(
            bbox=arguments.get('with_bbox', True),
            mask=arguments.get('with_mask', False),
            seg=arguments.get('with_seg', False))
        return [what for what, is_asked in asked.items() if is_asked]

    def __init__(self,
                 with_bbox: bool = True,
                 with_label: bool = True,
                 with_mask: bool = False,
                 with_seg: bool = False,
                 poly2mask: bool = True,
                 denorm_bbox: bool = False,
                 file_client_args: Dict[str, Any] = dict(backend='disk')):
        self.with_bbox = with_bbox
        self.with_label = with_label
        self.with_mask = with_mask
        self.with_seg = with_seg
        self.poly2mask = poly2mask
        self.denorm_bbox = denorm_bbox
        self.file_client_args = dict(file_client_args)

    def _load_boxes(self, results: Dict[str, Any]) -> None:
        info = results['ann_info']
        results['gt_bboxes'] = info['bboxes'].copy()
        if self.denorm_bbox and len(results['gt_bboxes']):
            height, width = results['img_shape'][:2]
            results['gt_bboxes'][:, 0::2] *= width
            results['gt_bboxes'][:, 1::2] *= height
        if info.get('bboxes_ignore') is not None:
            results['gt_bboxes_ignore'] = info['bboxes_ignore'].copy()
            results['bbox_fields'].append('gt_bboxes_ignore')
        results['bbox_fields'].append('gt_bboxes')

    def _load_masks(self, results: Dict[str, Any]) -> None:
        height, width = results['img_info']['height'], results['img_info']['width']
        raw = results['ann_info'].get('masks')
        if raw is None or any(mask is None or len(mask) == 0 for mask in raw):
            raise DataError(
                f'an instance of {results["img_info"].get("filename")!r}{_where(results)} has no '
                f'segmentation; complete the file, or train without masks: with_mask=False and no '
                f"'gt_masks' in Collect, and a detector without a mask head")
        if self.poly2mask or any(isinstance(mask, dict) for mask in raw):
            results['gt_masks'] = self._draw(raw, height, width, results)
        else:
            results['gt_masks'] = PolygonMasks([self.process_polygons(parts) for parts in raw],
                                               height, width)
        results['mask_fields'].append('gt_masks')

    @staticmethod
    def _draw(raw: List[Union[List, Dict]], height: int, width: int,
              results: Dict[str, Any]) -> BitmapMasks:
        runs = []
        for mask in raw:
            if isinstance(mask, list):
                mask = polygon_runs(mask, height, width)
            elif isinstance(mask['counts'], list):
                from pycocotools.mask import frPyObjects
                mask = frPyObjects(mask, *mask['size'])
            runs.append(mask)
        try:
            return bitmaps_of_runs(runs, height, width)
        except ValueError as error:
            raise DataError(
                f'{results["img_info"].get("filename")!r}{_where(results)}: {error}') from error

    @staticmethod
    def process_polygons(polygons: List[Any]) -> List[np.ndarray]:
        """Return the polygon parts as separate arrays, without those of under three points."""
        parts = [np.array(part, dtype=np.float64) for part in polygons]
        return [part for part in parts if len(part) % 2 == 0 and len(part) >= 6]

    def _load_semantic_seg(self, results: Dict[str, Any]) -> None:
        filename = _join_prefix(results.get('seg_prefix'), results['ann_info']['seg_map'])
        try:
            labels = read_image(filename, results, self.file_client_args, 'unchanged',
                                'bgr').squeeze()
        except FileNotFoundError:
            raise FileNotFoundError(
                f'there is no semantic map {filename!r} of {results["img_info"].get("filename")!r}'
                f'{_where(results)}. To fix: correct seg_prefix of the dataset, which is '
                f'{results.get("seg_prefix")!r}, or write with_seg=False') from None
        size = tuple(results['img_shape'][:2]) if 'img_shape' in results else labels.shape
        if labels.shape != size:
            raise DataError(
                f'the semantic map {filename!r} has the shape {labels.shape}, and its image is {size[0]} x {size[1]} '
                f'(height x width). To fix: write a map with one channel, the class of each pixel of the loaded image'
            )
        results['gt_semantic_seg'] = labels
        results['seg_fields'].append('gt_semantic_seg')

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        if 'img_shape' in results and (self.with_bbox or self.with_mask):
            check_size(results, results['img_shape'])  # a user's own loader has not checked it
        if self.with_bbox:
            self._load_boxes(results)
        if self.with_label:
            results['gt_labels'] = results['ann_info']['labels'].copy()
        if self.with_mask:
            self._load_masks(results)
        if self.with_seg:
            self._load_semantic_seg(results)
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(with_bbox={self.with_bbox}, with_label={self.with_label}, '
            f'with_mask={self.with_mask}, with_seg={self.with_seg}, poly2mask={self.poly2mask}, '
            f'file_client_args={self.file_client_args})')


@PIPELINES.register_module()
class LoadProposals:
    """Take the dataset's precomputed proposals, at most `num_max_proposals` (all by default)."""
    moves = ()

    @staticmethod
    def loads_with(arguments: Mapping[str, Any]) -> List[str]:
        """Return the kinds of objects that the sample has after this transform."""
        return ['bbox']

    def __init__(self, num_max_proposals: Optional[int] = None):
        self.num_max_proposals = num_max_proposals

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        if 'proposals' not in results:
            raise DataError(
                'LoadProposals: the dataset has no proposals; write proposal_file=... for it')
        proposals = results['proposals']
        if proposals.shape[1] not in (4, 5):
            raise DataError(f'proposals are arrays [n, 4] or [n, 5], found {proposals.shape}')
        proposals = proposals[:self.num_max_proposals, :4]
        if not len(proposals):
            proposals = np.zeros((1, 4), dtype=np.float32)
        results['proposals'] = proposals
        results['bbox_fields'].append('proposals')
        return results

    def __repr__(self) -> str:
        return f'LoadProposals(num_max_proposals={self.num_max_proposals})'
