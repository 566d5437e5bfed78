"""The reader of COCO annotation files."""
import contextlib
import gc
from typing import Any, Dict, Iterator, List, Optional, Union

import numpy as np
import pycocotools.mask as mask_api

from mmdet_ft.datasets.annotations.coco_records import CocoRecords, Fault, refuse
from mmdet_ft.datasets.annotations.packed import RUNS, PackedList, SharesArrays
from mmdet_ft.datasets.annotations.values import format_value, parse_json


class CocoFile(SharesArrays):
    """A COCO json, checked and packed; images and, within an image, annotations keep the file's order.

    Missing `info`, `annotations`, `iscrowd`, `ignore`, `area` and annotation ids are filled in.
    Annotations of unlisted images are dropped, as pycocotools would never find them (`num_orphans`
    counts them). LVIS v1 names images by `coco_url` alone: file_name is its last two parts.

    Attributes:
        categories: the dicts of the file, at least id and name.
        images: the dicts of the file, at least id, file_name, width, height, and V2's filename.
        image_ids: list of I ids.
        sizes: int64 [I, 2], width and height.
        starts: int64 [I + 1]; the annotations of image i are starts[i] to starts[i + 1].
        boxes: float64 [N, 4], x y w h; areas float64, category_ids, ids int64, crowd, ignore bool
            [N].
        segmentations: N items, see PackedSegmentations.
    """

    def __init__(self, path: str, content: object = None):
        """Read `path`; with `content`, the parsed json, the path is for messages only."""
        self.path = path
        # one line for each kind of value that is not in COCO's form
        self.notes: List[str] = []
        stop = refuse(path)

        def report(fault: Fault) -> None:
            stop(fault)
            if not fault.is_defect:
                self.notes.append(f'{fault.location} {fault.text}')

        with _uncollected():
            self._take(
                CocoRecords(read_json_file(path) if content is None else content, path, report))

    def _take(self, records: CocoRecords) -> None:
        self.categories: List[Dict[str, Any]] = records.categories
        self.image_ids = list(records.index_of_id)
        # A dict would be copied by every worker, page by page, as they look images up in it.
        self._index_of_id: Optional[Dict[Any, int]] = records.index_of_id
        if all(type(image_id) is int and abs(image_id) < 2**63 for image_id in self.image_ids):
            self._index_of_id = None
            self._sorted_indices = np.argsort(np.array(self.image_ids, dtype=np.int64))
            self._sorted_ids = np.array(self.image_ids, dtype=np.int64)[self._sorted_indices]
        self.sizes = records.sizes
        self.images = PackedList({
            **image, 'filename': image['file_name']
        } for image in records.images)
        self._take_annotations(records)

    def _take_annotations(self, records: CocoRecords) -> None:
        # annotations and images are matched by index from here on
        order = np.argsort(records.image_indices, kind='stable')
        self.num_orphans = int((records.image_indices < 0).sum())
        order = order[self.num_orphans:]
        indices = records.image_indices[order]
        self.starts = np.searchsorted(indices, np.arange(len(self.image_ids) + 1))
        self.boxes = records.boxes[order]
        self.category_ids = records.category_ids[order]
        self.crowd, self.ignore = records.crowd[order], records.ignore[order]
        chosen = order.tolist()
        written = [records.ids[index] for index in chosen]
        numbered = all(type(id_) is int and abs(id_) < 2**63 for id_ in written)
        self.ids = np.array(written if numbered else order + 1, dtype=np.int64)
        self._written_ids = None if numbered else PackedList(written)
        self.segmentations = records.pack(chosen)
        self.areas = records.areas[order]
        sizes = self.sizes[indices].tolist()
        for position in np.flatnonzero(np.isnan(self.areas)).tolist():
            if self.segmentations.kind[position] == RUNS:
                self.areas[position] = self.segmentations.pixels_of_runs(position)
            else:
                width, height = sizes[position]
                self.areas[position] = area_of(
                    dict(segmentation=self.segmentations[position], bbox=self.boxes[position]),
                    height, width)

    def name_of(self, index: int) -> str:
        """Return the name of an annotation in messages: its id in the file, or its index without one."""
        written = int(self.ids[index]) if self._written_ids is None else self._written_ids[index]
        return str(int(self.ids[index])) if written is None else format_value(written, 50)

    def index_of(self, image_id: Union[int, str]) -> int:
        """Return the index of an image in the file; raise KeyError for an unknown id."""
        if self._index_of_id is not None:
            return self._index_of_id[image_id]
        index = int(np.searchsorted(self._sorted_ids, image_id))
        if index == len(self._sorted_ids) or self._sorted_ids[index] != image_id:
            raise KeyError(image_id)
        return int(self._sorted_indices[index])

    def annotations_of(self, index: int) -> List[Dict[str, Any]]:
        """Return the annotations of image `index` as dicts in COCO's form."""
        begin, end = int(self.starts[index]), int(self.starts[index + 1])
        image_id = self.image_ids[index]
        return [
            dict(
                id=id_,
                image_id=image_id,
                category_id=category_id,
                bbox=box,
                area=area,
                iscrowd=int(crowd),
                ignore=ignore,
                segmentation=self.segmentations[begin + offset])
            for offset, (id_, category_id, box, area, crowd, ignore) in enumerate(
                zip(self.ids[begin:end].tolist(), self.category_ids[begin:end].tolist(),
                    self.boxes[begin:end].tolist(), self.areas[begin:end].tolist(),
                    self.crowd[begin:end].tolist(), self.ignore[begin:end].tolist()))
        ]


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Disable the garbage collector in this context.

    It would scan millions of new containers again and again, none of them garbage, and double the
    time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_json_file(path: str) -> Any:
    """Return the content of a json file; raise DataError if it is not one."""
    with open(path, 'rb') as file:
        text = file.read()
    with _uncollected():
        return parse_json(text, path)


def area_of(annotation: Dict[str, Any], height: int, width: int) -> float:
    """Count the pixels of an annotation's segmentation, or of its box where there is none.

    The segmentation has to pass `segmentation_fault`: pycocotools would take gigabytes for a
    distant point.
    """
    segmentation = annotation.get('segmentation')
    if isinstance(segmentation, dict):
        if isinstance(segmentation['counts'], list):
            return float(sum(segmentation['counts'][1::2]))
        return float(mask_api.area(segmentation))
    parts = [part for part in segmentation or [] if len(part) >= 6 and len(part) % 2 == 0]
    if parts:
        return float(mask_api.area(mask_api.merge(mask_api.frPyObjects(parts, height, width))))
    return float(annotation['bbox'][2] * annotation['bbox'][3])
