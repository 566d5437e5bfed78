"""Annotations in a few flat arrays instead of a Python object per box.

Workers get them by fork. A page is copied as soon as a process touches the reference count of an
object on it. A list of dicts therefore soon exists once per worker, while arrays stay shared. In an
epoch over 2,000 images of 7 polygons a worker's private memory grew from 11 to 14 MB with arrays, and
from 12 to 32 MB with dicts: by tools/benchmarks/memory.py --images 2000 --workers 2, on a CPU.
"""
import mmap
import os
import pickle
import weakref
from multiprocessing.context import get_spawning_popen
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np
import pycocotools.mask as mask_api

from mmdet_ft.datasets.annotations.values import format_value, read_whole
from mmdet_ft.evaluation.run_lengths import fault_of_runs, sum_runs
from mmdet_ft.processes import to_other_process

NONE, POLYGONS, RUNS = 0, 1, 2
DRAWN, EMPTY = 1, 2  # besides NONE: whether there is a mask
MASK_FAULTS = (
    'have no mask (no segmentation)',
    'have a mask without a pixel (polygons of under three points or of an odd count of numbers, '
    'run lengths of zeros)')
NEAR = 32  # pixels outside an image that do not count as far, even for a small image
LONGEST_SIDE, MOST_PIXELS = 1 << 20, 1 << 30  # limits of OpenCV for an image
FLAT = (list, tuple, np.ndarray)
SMALL = 1 << 16  # bytes up to which an array is not worth a file


class _ArrayFile:
    """An array in an unnamed file; unpickled in a new process, it is the memory-mapped array."""

    def __init__(self, array: np.ndarray):
        self.dtype, self.shape = array.dtype, array.shape
        self.file = os.memfd_create('mmdet_ft annotations')
        weakref.finalize(self, os.close, self.file).atexit = False
        with open(os.dup(self.file), 'wb') as file:
            file.write(np.ascontiguousarray(array).data)

    def __reduce__(self) -> Any:
        return _map_array, (to_other_process(self.file), self.dtype, self.shape)


def _map_array(file: Any, dtype: np.dtype, shape: Tuple[int, ...]) -> np.ndarray:
    descriptor = file.detach()
    try:
        return np.frombuffer(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ), dtype).reshape(shape)
    finally:
        os.close(descriptor)


class SharesArrays:
    """Base of classes with large arrays: spawned workers map them too instead of copying them."""
    _files: Dict[str, _ArrayFile] = {}

    def __getstate__(self) -> Dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key != '_files'}
        if get_spawning_popen() is None or not hasattr(
                os, 'memfd_create'):  # pickled to a file, copied, or not Linux
            return state
        large = {
            key: value
            for key, value in state.items()
            if isinstance(value, np.ndarray) and value.nbytes > SMALL
        }
        self._files = {
            key: self._files.get(key) or _ArrayFile(value)
            for key, value in large.items()
        }
        return {**state, **self._files}


class PackedList(SharesArrays):
    """A read-only list whose items are pickled one after the other in one array; each access makes a new item."""

    def __init__(self, items: Iterable[Any]):
        blobs = [pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL) for item in items]
        self._ends = np.cumsum([len(blob) for blob in blobs], dtype=np.int64)
        self._data = np.frombuffer(b''.join(blobs), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Union[int, slice]) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f'{index} in a list of {len(self)}')
        index = index % len(self)
        begin = self._ends[index - 1] if index else 0
        return pickle.loads(memoryview(self._data)[begin:self._ends[index]])

    def __iter__(self):
        return (self[index] for index in range(len(self)))

    def take(self, indices: Sequence[int]) -> 'PackedList':
        """Return the items at `indices` as another packed list."""
        return PackedList(self[int(index)] for index in indices)

    def __add__(self, other: Sequence[Any]) -> List[Any]:
        return list(self) + list(other)

    def __radd__(self, other: Sequence[Any]) -> List[Any]:
        return list(other) + list(self)


class PackedSegmentations(SharesArrays):
    """COCO segmentations of N annotations: polygons as one array of coordinates, run lengths as one of bytes.

    Item i is a list of float64 arrays (polygon parts), a dict {'size': [h, w], 'counts': bytes}, or None.
    """

    def __init__(self):
        self.kind: Any = []
        self._coordinates: Any = []
        self._part_ends: Any = []
        self._item_ends: Any = []  # counted in parts
        self._bytes: Any = []
        self._run_ends: Any = []
        self._run_of_item: Any = []
        self._sizes: Any = []
        self._num_coordinates = self._num_bytes = 0

    def append(self, segmentation: Any, height: int, width: int) -> None:
        """Add a segmentation in the json's form, for an image of `height` x `width` pixels.

        Raises ValueError when it has another form than COCO's; `finish` checks the numbers in it.
        """
        run, parts = -1, ()
        if segmentation is None or (isinstance(segmentation, list) and not segmentation):
            kind = NONE
        elif isinstance(segmentation, list):
            kind, parts = POLYGONS, _read_parts(segmentation)
        elif isinstance(segmentation, dict) and 'counts' in segmentation:
            kind, run = RUNS, len(self._run_ends)
            size, counts = _read_runs(segmentation, height, width)
            self._bytes.append(counts)
            self._num_bytes += len(counts)
            self._run_ends.append(self._num_bytes)
            self._sizes.append(size)
        else:
            raise ValueError(
                'is neither a list of polygons [[x0, y0, x1, y1, ...]] nor run lengths '
                f'{{"size": [height, width], "counts": ...}}; found {format_value(segmentation)}')
        self.kind.append(kind)
        for part in parts:
            self._coordinates.append(part)
            self._num_coordinates += len(part)
            self._part_ends.append(self._num_coordinates)
        self._item_ends.append(len(self._part_ends))
        self._run_of_item.append(run)

    def finish(self, sizes: np.ndarray) -> Dict[int, str]:
        """Turn the lists into arrays, and report invalid numbers; nothing can be appended afterwards.

        sizes: int64 [N, 2], width and height of the image of each item. Returns item -> fault.
        pycocotools would take gigabytes for distant points, and never finish comparing run lengths
        of a wrong sum.
        """
        self.kind = np.array(self.kind, dtype=np.uint8)
        self._coordinates = np.concatenate(self._coordinates) if self._coordinates else np.zeros(0)
        strings, self._bytes = self._bytes, np.frombuffer(b''.join(self._bytes), dtype=np.uint8)
        for name in ('_part_ends', '_item_ends', '_run_ends', '_run_of_item'):
            setattr(self, name, np.array(getattr(self, name), dtype=np.int64))
        self._sizes = np.array(self._sizes, dtype=np.int64).reshape(-1, 2)
        self._coordinates.flags.writeable = False  # items are views: a transform must not modify the dataset's polygons
        faults = self._far_points(sizes)
        sums = sum_runs(strings)
        self._run_pixels = sums.inside
        items = np.flatnonzero(self.kind == RUNS)
        wanted = sizes[items][:, ::-1]
        wrong = ~sums.sound | (self._sizes != wanted).any(1) | (sums.pixels != wanted.prod(1))
        for run in np.flatnonzero(wrong).tolist():
            faults[int(items[run])] = fault_of_runs(self._sizes[run].tolist(),
                                                    *wanted[run].tolist(), bool(sums.sound[run]),
                                                    int(sums.pixels[run]))
        return faults

    def _far_points(self, sizes: np.ndarray) -> Dict[int, str]:
        """Find polygons with a coordinate that is not a number, or farther outside than the image's longer side."""
        lengths = np.diff(self._part_ends, prepend=0)
        parts = np.flatnonzero(lengths)
        if not len(parts):
            return {}
        starts = self._part_ends[parts] - lengths[parts]
        low = np.minimum.reduceat(self._coordinates, starts)
        high = np.maximum.reduceat(self._coordinates, starts)
        items = np.searchsorted(self._item_ends, parts, side='right')
        longer = sizes[items].max(1)
        reach = np.maximum(longer, NEAR)
        with np.errstate(invalid='ignore'):
            near = (low >= -reach) & (high <= longer + reach)  # false for NaN
        faults: Dict[int, str] = {}
        for index in np.flatnonzero(~near).tolist():
            part = self._coordinates[starts[index]:self._part_ends[parts[index]]]
            width, height = sizes[items[index]].tolist()
            worst = part[~((part >= -reach[index]) & (part <= longer[index] + reach[index]))][0]
            text = 'no number' if np.isnan(worst) else 'far outside'
            faults.setdefault(
                int(items[index]),
                f'has a polygon with the coordinate {worst:g}, {text}; the image has {width} x {height} pixels'
            )
        return faults

    @property
    def state(self) -> np.ndarray:
        """Return the state of each mask, uint8 [N]: DRAWN, NONE (no segmentation) or EMPTY (without a pixel).

        A polygon counts if it has three points or more that are not on one horizontal or vertical
        line.
        """
        state = np.full(len(self), DRAWN, dtype=np.uint8)
        state[self.kind == NONE] = NONE
        state[self.kind == RUNS] = np.where(self._run_pixels > 0, DRAWN, EMPTY)
        lengths = np.diff(self._part_ends, prepend=0)
        parts = np.flatnonzero((lengths >= 6) & (lengths % 2 == 0))
        spread = np.zeros(len(lengths), dtype=bool)
        if len(parts):
            coordinates = self._coordinates
            if len(parts) < len(lengths):  # so that x and y alternate throughout
                chosen = np.zeros(len(lengths), dtype=bool)
                chosen[parts] = True
                coordinates = coordinates[chosen.repeat(lengths)]
            starts = (lengths[parts].cumsum() - lengths[parts]) // 2
            spread[parts] = np.all([
                np.maximum.reduceat(axis, starts) > np.minimum.reduceat(axis, starts)
                for axis in (coordinates[0::2], coordinates[1::2])
            ], 0)
        counted = np.concatenate([[0], spread.cumsum()])
        ends = self._item_ends
        real = counted[ends] > counted[np.concatenate([[0], ends[:-1]]).astype(np.int64)]
        state[(self.kind == POLYGONS) & ~real] = EMPTY
        return state

    def pixels_of_runs(self, index: int) -> int:
        """Return the number of pixels in the mask of an item in run lengths."""
        return int(self._run_pixels[self._run_of_item[index]])

    def __len__(self) -> int:
        return len(self.kind)

    def __getitem__(self, index: int) -> Union[None, List[np.ndarray], Dict]:
        if self.kind[index] == POLYGONS:
            begin, end = (int(self._item_ends[index - 1]) if index else 0), int(
                self._item_ends[index])
            bounds = [int(self._part_ends[begin - 1]) if begin else 0
                      ] + self._part_ends[begin:end].tolist()
            return [self._coordinates[a:b] for a, b in zip(bounds, bounds[1:])]
        if self.kind[index] == RUNS:
            run = int(self._run_of_item[index])
            begin = self._run_ends[run - 1] if run else 0
            return {
                'size': self._sizes[run].tolist(),
                'counts': self._bytes[begin:self._run_ends[run]].tobytes()
            }
        return None


def _read_parts(segmentation: List[Any]) -> List[np.ndarray]:
    """Return the polygons of an annotation as arrays; raise ValueError for another form."""
    if type(segmentation[0]) not in FLAT and all(
            isinstance(item, (int, float, str)) for item in segmentation):
        raise ValueError(
            'is a flat list of numbers: write [[x0, y0, x1, y1, ...]], with one more pair '
            f'of brackets; found {format_value(segmentation)}')
    parts = []
    try:
        for part in segmentation:
            if type(part) not in FLAT:
                raise ValueError
            parts.append(np.array(part, dtype=np.float64))
    except (ValueError, TypeError,
            OverflowError):  # a string, a dict, lists of unequal length, 400 digits
        if type(part) not in FLAT:
            raise ValueError(
                f'has {format_value(part)} where a polygon [x0, y0, x1, y1, ...] belongs') from None
        raise ValueError(
            f'has a polygon that is not a flat list of numbers [x0, y0, x1, y1, ...]: {format_value(part)}'
        ) from None
    for index, part in enumerate(parts):
        if part.ndim != 1:
            raise ValueError('has points in brackets of their own: a polygon is a flat list '
                             f'[x0, y0, x1, y1, ...], found {format_value(segmentation[index])}')
    if len(parts) > 2 and all(len(part) == 2 for part in parts):
        raise ValueError('has a polygon for each point: write all points of a polygon in one list '
                         f'[[x0, y0, x1, y1, ...]], found {format_value(segmentation)}')
    return parts


def _read_runs(segmentation: Dict[str, Any], height: int, width: int) -> Tuple[List[int], bytes]:
    """Return (size, compressed counts) of run lengths; raise ValueError for another form."""
    size = segmentation.get('size')
    if size is None:
        size = [height, width]
    if not isinstance(size, (list, tuple)) or len(size) != 2:
        raise ValueError(f'has a size of {format_value(size)}; expected [height, width]')
    try:
        size = [read_whole(side, low=1, high=LONGEST_SIDE) for side in size]
    except ValueError:
        raise ValueError(
            f'has a size of {format_value(size)}; expected [height, width], whole numbers'
        ) from None
    counts = segmentation['counts']
    if isinstance(counts, str):
        try:
            return size, counts.encode('ascii')
        except UnicodeEncodeError:
            raise ValueError('has counts that are no compressed run lengths') from None
    if isinstance(counts, bytes):
        return size, counts
    if not isinstance(counts, (list, tuple)):
        raise ValueError(
            f'has counts of {format_value(counts)}; expected a list of numbers, or a text of compressed ones'
        )
    if set(map(type, counts)) - {int} or min(counts, default=0) < 0:
        try:
            counts = [read_whole(count, low=0) for count in counts]
        except ValueError as error:
            raise ValueError(f'has a count that {error} from 0 up') from None
    fault = fault_of_runs(size, height, width, True, sum(counts))
    if fault is not None:
        raise ValueError(fault)
    return size, mask_api.frPyObjects({'size': size, 'counts': list(counts)}, *size)['counts']


def segmentation_fault(segmentation: Any, height: int, width: int) -> Optional[str]:
    """Return why a segmentation is invalid in an image of `height` x `width`; None if it is valid or None."""
    packed = PackedSegmentations()
    try:
        packed.append(segmentation, height, width)
    except ValueError as error:
        return str(error)
    return packed.finish(np.array([[width, height]], dtype=np.int64)).get(0)
