"""The start of a pipeline: images and annotations from files."""
import io
import os.path as osp
from typing import Any, Dict, List, Optional, Union

import mmcv
import numpy as np

from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.masks import BitmapMasks, PolygonMasks, bitmaps_of_runs, polygon_runs
from mmdet_ft.registry import PIPELINES


def read_bytes(path: str, file_client_args: Dict[str, Any]) -> bytes:
    """The content of a file, on disk or on one of mmengine's other kinds of storage."""
    if file_client_args.get('backend', 'disk') == 'disk':
        with open(path, 'rb') as file:
            return file.read()
    from mmengine.fileio import FileClient
    return bytes(FileClient(**file_client_args).get(path))


def _where(results: Dict[str, Any]) -> str:
    """Which record of which file a message is about."""
    info = results.get('img_info', {})
    parts = [f'image id {info["id"]!r}'] if 'id' in info else []
    parts += [f'listed in {results["ann_file"]}'] if results.get('ann_file') else []
    return f' ({" ".join(parts)})' if parts else ''


def _under(prefix: Optional[str], name: str) -> str:
    return name if prefix is None else osp.join(prefix, name)


def read_image(path: str, results: Dict[str, Any], file_client_args: Dict[str, Any],
               color_type: str, channel_order: str) -> np.ndarray:
    """Decode an image file as mmcv does; FileNotFoundError or DataError name the file and where it is listed."""
    try:
        content = read_bytes(path, file_client_args)
    except FileNotFoundError:
        raise FileNotFoundError(f'there is no image {path!r}{_where(results)}; img_prefix is '
                                f'{results.get("img_prefix")!r}') from None
    try:
        img = mmcv.imfrombytes(
            content, flag=color_type, channel_order=channel_order) if content else None
    except Exception as error:  # each backend has errors of its own
        raise DataError(f'cannot decode the image {path!r}{_where(results)}: {error}') from error
    if img is None or is_cut_off(content):
        raise DataError(
            f'cannot decode the image {path!r}{_where(results)}: its {len(content)} bytes are not a whole picture; '
            f'fetch it again, or take it out of the annotation file')
    return img


def is_cut_off(content: bytes) -> bool:
    """Whether a JPEG ends before its picture does. OpenCV 4 paints what is missing grey and says nothing to us."""
    begin, end, scan = b'\xff\xd8', b'\xff\xd9', b'\xff\xda'
    if content[:2] != begin or content.endswith(end) or content.rfind(end) > content.rfind(scan):
        return False  # nearly always at the second question
    from PIL import Image  # slow and sure: phones append films, whose bytes may look like anything
    try:
        Image.open(io.BytesIO(content)).load()
    except OSError:
        return True
    return False


@PIPELINES.register_module()
class LoadImageFromFile:
    """Read `img_prefix`/`img_info['filename']`.

    Args:
        to_float32: give float32 instead of uint8.
        color_type: mmcv's flag; 'color' and 'grayscale' turn the image as its EXIF data say.
        channel_order: 'bgr' or 'rgb'.
        file_client_args: storage backend.

    Sets filename, ori_filename, img [H, W, C], img_shape, ori_shape, img_fields. Raises FileNotFoundError and
    DataError with path, image id and annotation file.
    """

    def __init__(self,
                 to_float32: bool = False,
                 color_type: str = 'color',
                 channel_order: str = 'bgr',
                 file_client_args: Dict[str, Any] = dict(backend='disk')):
        self.to_float32 = to_float32
        self.color_type = color_type
        self.channel_order = channel_order
        self.file_client_args = dict(file_client_args)

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        name = results['img_info']['filename']
        filename = _under(results.get('img_prefix'), name)
        img = read_image(filename, results, self.file_client_args, self.color_type,
                         self.channel_order)
        return self._put(results, img, filename, name)

    def _put(self, results: Dict[str, Any], img: np.ndarray, filename: Any,
             name: Any) -> Dict[str, Any]:
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
    """Take the image that is in results['img'] already."""

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        return self._put(results, results['img'], None, None)


@PIPELINES.register_module()
class LoadMultiChannelImageFromFiles(LoadImageFromFile):
    """Read one file a channel: `img_info['filename']` is a list of names.

    Args:
        to_float32: give float32 instead of the files' type.
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
        filenames = [_under(results.get('img_prefix'), name) for name in names]
        channels = [
            read_image(filename, results, self.file_client_args, self.color_type, 'bgr')
            for filename in filenames
        ]
        self._put(results, np.stack(channels, axis=-1), filenames, names)
        results['pad_shape'] = results['img'].shape
        results['scale_factor'] = 1.0
        return results


@PIPELINES.register_module()
class LoadAnnotations:
    """Put the annotations of the image into the sample.

    Args:
        with_bbox: gt_bboxes float32 [n, 4] (x1 y1 x2 y2), gt_bboxes_ignore where the dataset has it.
        with_label: gt_labels int64 [n].
        with_mask: gt_masks, n instances.
        with_seg: gt_semantic_seg from `seg_prefix`.
        poly2mask: draw polygons as bitmaps at once; otherwise they stay polygons until the batch is made (an image
            that has run lengths too is drawn at once, because those cannot become polygons).
        denorm_bbox: boxes are relative to the image size (0..1).
        file_client_args: storage backend.

    Raises DataError when an instance has no segmentation but masks are wanted.
    """

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
        """The parts as arrays of their own; those of under three points are left out."""
        parts = [np.array(part, dtype=np.float64) for part in polygons]
        return [part for part in parts if len(part) % 2 == 0 and len(part) >= 6]

    def _load_semantic_seg(self, results: Dict[str, Any]) -> None:
        filename = _under(results.get('seg_prefix'), results['ann_info']['seg_map'])
        results['gt_semantic_seg'] = read_image(filename, results, self.file_client_args,
                                                'unchanged', 'bgr').squeeze()
        results['seg_fields'].append('gt_semantic_seg')

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
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

    def __init__(self, num_max_proposals: Optional[int] = None):
        self.num_max_proposals = num_max_proposals

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
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
