"""A dataset for the checks: all images and objects of its files."""
import os.path as osp
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from mmdet_ft.datasets.annotations.packed import NONE
from mmdet_ft.datasets.checks.problem import Example, Problem, examples
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.protocol import Dataset

if TYPE_CHECKING:
    from mmdet_ft.datasets.classification.base import ClassificationDataset
    from mmdet_ft.datasets.detection.coco import CocoDataset
    from mmdet_ft.datasets.detection.custom import CustomDataset


class Split(NamedTuple):
    """I images and their N objects, before any filter."""
    name: str  # train, val or test
    source: str  # the annotation file
    kind: str  # the type of the dataset
    classes: List[str]
    paths: List[Optional[str]]  # [I]; None for images without a file of their own
    sizes: np.ndarray  # int64 [I, 2], width and height as annotated; 0 where they are not
    image: np.ndarray  # int64 [N], the image of each object
    boxes: np.ndarray  # float64 [N, 4], x1 y1 x2 y2 as annotated
    labels: np.ndarray  # int64 [N]; -1 for none of the classes
    ignored: np.ndarray  # bool [N], crowd and difficult objects of the classes, and objects of no class in KITTI
    names: Callable[[int], str]  # object -> its name in messages
    segmentation: Optional[Callable[[int], Any]]  # object -> polygons, run lengths or None
    category_ids: List[str]  # of each class in the annotation file
    others: 'dict[str, int]'  # names outside the classes -> number of objects
    num_used: int  # images that the dataset yields
    left_out: 'dict[str, int]'  # why images are dropped -> how many
    has_boxes: bool = True  # otherwise one label per image, and boxes mean nothing
    prefix: Optional[str] = None  # folder that the names of the images are relative to
    used: Optional[np.ndarray] = None  # bool [I], the images that the dataset yields; None for all
    # objects without a mask and objects with an empty mask, int64 each, where known without
    # decoding
    mask_faults: Optional[Tuple[np.ndarray, np.ndarray]] = None
    num_masks: int = 0

    def example(self, index: int, text: str = '') -> Example:
        """Return one object as an example."""
        image = int(self.image[index])
        where = f'{self.names(int(index))} in {self.short(image)}'
        return Example(f'{where}: {text}' if text else where, self.paths[image],
                       self.boxes[index].tolist())

    def of_objects(self, kind: str, found: np.ndarray, text: str, fix: str,
                   **more: Any) -> List[Problem]:
        """Return a problem of the objects at the indices `found` (int64, or bool [N]), or no problem."""
        if found.dtype == bool:
            found = np.flatnonzero(found)
        if not len(found):
            return []
        shown = [
            self.example(index, 'x1 y1 x2 y2 = ' + ' '.join(f'{side:.6g}'
                                                            for side in self.boxes[index]))
            for index in found[:5]
        ]
        return [Problem(self.name, kind, len(found), text, fix, examples(shown), **more)]

    def short(self, image: int) -> str:
        return osp.basename(self.paths[image] or f'image {image}')


def innermost(dataset: Dataset) -> List[Any]:
    """Return the datasets inside wrappers, each once."""
    if hasattr(dataset, 'datasets'):
        return [part for inner in dataset.datasets for part in innermost(inner)]
    if hasattr(dataset, 'dataset'):
        return innermost(dataset.dataset)
    return [dataset]


def split_of(dataset: Any, name: str) -> Split:
    """Build a Split from a detection dataset of any type, without wrappers around it."""
    if hasattr(dataset, '_file') and hasattr(dataset, 'cat2label'):
        return _of_coco(dataset, name)
    if hasattr(dataset.data_infos, 'labels'):
        return _of_labels(dataset, name)
    return _of_annotations(dataset, name)


def _path(prefix: Optional[str], filename: object) -> Optional[str]:
    if not isinstance(filename, str):
        return None
    return osp.join(prefix, filename) if prefix else filename


def _of_coco(dataset: 'CocoDataset', name: str) -> Split:
    file = dataset._file
    boxes = file.boxes.copy()
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([dataset.cat2label.get(id_, -1) for id_ in file.category_ids.tolist()],
                      dtype=np.int64)
    counts = getattr(dataset, 'name_counts', None)  # of converted files: all names in them
    others = {
        category: count
        for category, count in (
            dataset._annotations_of_names() if counts is None else counts).items()
        if category not in dataset.CLASSES
    }
    used = np.zeros(len(file.image_ids), dtype=bool)
    used[[file.index_of(image_id) for image_id in dataset.img_ids]] = True
    return Split(
        name=name,
        prefix=dataset.img_prefix,
        used=used,
        source=dataset.ann_file,
        kind=type(dataset).__name__,
        classes=list(dataset.CLASSES),
        paths=[_path(dataset.img_prefix, image['filename']) for image in file.images],
        sizes=file.sizes,
        image=np.repeat(np.arange(len(file.image_ids)), np.diff(file.starts)),
        boxes=boxes,
        labels=labels,
        ignored=(file.crowd | file.ignore) & (labels >= 0),
        names=lambda index: f'annotation {file.name_of(index)}',
        segmentation=file.segmentations.__getitem__,
        category_ids=[str(id_) for id_ in dataset.cat_ids],
        others=others,
        num_used=len(dataset),
        left_out={
            reason: count
            for reason, count in dataset.filter_counts.items() if count
        },
        mask_faults=dataset.mask_faults(),
        num_masks=int((file.segmentations.kind != NONE).sum()))


def _of_labels(dataset: 'ClassificationDataset', name: str) -> Split:
    """Build a Split from the table of a classification dataset, which may have a million images."""
    table = dataset.data_infos
    names = getattr(table, 'names', [None] * len(table))
    return Split(
        name=name,
        prefix=getattr(table, 'prefix', None),
        source=dataset.ann_file or dataset.data_prefix,
        kind=type(dataset).__name__,
        classes=[str(item) for item in dataset.CLASSES or ()],
        paths=[_path(getattr(table, 'prefix', None), file) for file in names],
        sizes=np.zeros((len(table), 2), dtype=np.int64),
        image=np.arange(len(table)),
        boxes=np.zeros((len(table), 4)),
        labels=table.labels,
        ignored=np.zeros(len(table), dtype=bool),
        names=lambda index: 'label',
        segmentation=None,
        category_ids=[''] * len(dataset.CLASSES or ()),
        others={},
        num_used=len(table),
        left_out={},
        has_boxes=False)


def _known_of(dataset: 'CustomDataset', index: int) -> Dict[str, Any]:
    """Return the annotations of an image; empty where the file has none, as for a test."""
    try:
        return dataset.get_ann_info(index)
    except DataError:
        return {}


def _labels_of(labels: object, number: int) -> np.ndarray:
    """Return the labels of ignored objects, int64 [number]; -1 where a file has none, as for KITTI's DontCare."""
    known = np.asarray(() if labels is None else labels, dtype=np.int64).reshape(-1)
    return known if len(known) == number else np.full(number, -1, dtype=np.int64)


def _of_annotations(dataset: 'CustomDataset', name: str) -> Split:
    """Build a Split by `data_infos` and `get_ann_info` of any dataset; classification folders have only labels."""
    paths, sizes, image, boxes, labels, ignored, masks = [], [], [], [], [], [], []
    prefix = None
    for position, info in enumerate(dataset.data_infos):
        inner = info.get('img_info', info)  # classification nests it
        prefix = info.get('img_prefix', getattr(dataset, 'img_prefix', None))
        paths.append(_path(prefix, inner.get('filename')))
        sizes.append((info.get('width') or 0, info.get('height') or 0))
        if not hasattr(dataset, 'get_ann_info'):
            found = dict(bboxes=np.zeros((1, 4)), labels=np.atleast_1d(info['gt_label'])[:1])
        else:
            found = _known_of(dataset, position)
        kept = np.asarray(found.get('bboxes', ()), dtype=np.float64).reshape(-1, 4)
        kept = kept * getattr(dataset, 'nominal_side', 1)  # reading all sizes would take minutes
        crowd = np.asarray(found.get('bboxes_ignore', ()), dtype=np.float64).reshape(-1, 4)
        boxes += [kept, crowd]
        labels += [
            np.asarray(found.get('labels', ()), dtype=np.int64).reshape(-1),
            _labels_of(found.get('labels_ignore'), len(crowd))
        ]
        ignored += [np.zeros(len(kept), dtype=bool), np.ones(len(crowd), dtype=bool)]
        image.append(np.full(len(kept) + len(crowd), position))
        masks += list(found.get('masks') or [None] * len(kept)) + [None] * len(crowd)

    def joined(parts: Sequence[np.ndarray], empty: np.ndarray) -> np.ndarray:
        return np.concatenate([empty, *parts])

    image_of = joined(image, np.zeros(0, dtype=np.int64)).astype(np.int64)
    starts = np.searchsorted(image_of, np.arange(len(paths)))
    return Split(
        name=name,
        prefix=prefix,
        source=str(getattr(dataset, 'ann_file', None) or getattr(dataset, 'data_prefix', '')),
        kind=type(dataset).__name__,
        classes=[str(item) for item in dataset.CLASSES or ()],
        paths=paths,
        sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
        image=image_of,
        boxes=joined(boxes, np.zeros((0, 4))),
        labels=joined(labels, np.zeros(0, dtype=np.int64)),
        ignored=joined(ignored, np.zeros(0, dtype=bool)),
        names=lambda index: f'object {index - starts[image_of[index]] + 1}',
        segmentation=masks.__getitem__ if any(mask is not None for mask in masks) else None,
        category_ids=[''] * len(dataset.CLASSES or ()),
        others={
            category: count
            for category, count in getattr(dataset, 'name_counts', {}).items()
            if category not in (dataset.CLASSES or ())
        },
        num_used=len(dataset),
        left_out={
            reason: count
            for reason, count in getattr(dataset, 'filter_counts', {}).items() if count
        },
        has_boxes=hasattr(dataset, 'get_ann_info'),
        num_masks=sum(mask is not None for mask in masks))
