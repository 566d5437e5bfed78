"""Annotations in a few flat arrays instead of a Python object per box.

Workers get them by fork: a page is copied as soon as a process touches the reference count of an object on it, so a
list of dicts is soon there once per worker, while arrays stay shared (users.md: memory grows with ranks x workers).
"""
import mmap
import os
import pickle
import weakref
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any, Dict, Iterable, List, Sequence, Tuple, Union

import numpy as np
import pycocotools.mask as mask_api

NONE, POLYGONS, RUNS = 0, 1, 2
SMALL = 1 << 16  # bytes of an array that is not worth a file


class _ArrayFile:
    """An array in a file without a name; pickled for a new process, it arrives as the array, mapped."""

    def __init__(self, array: np.ndarray):
        self.dtype, self.shape = array.dtype, array.shape
        self.file = os.memfd_create('mmdet_ft annotations')
        weakref.finalize(self, os.close, self.file).atexit = False
        with open(os.dup(self.file), 'wb') as file:
            file.write(np.ascontiguousarray(array).data)

    def __reduce__(self) -> Any:
        return _map_array, (DupFd(self.file), self.dtype, self.shape)


def _map_array(file: Any, dtype: np.dtype, shape: Tuple[int, ...]) -> np.ndarray:
    descriptor = file.detach()
    try:
        return np.frombuffer(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ), dtype).reshape(shape)
    finally:
        os.close(descriptor)


class SharesArrays:
    """Base of what holds large arrays: workers that are spawned, not forked, map them too instead of having copies."""
    _files: Dict[str, _ArrayFile] = {}

    def __getstate__(self) -> Dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key != '_files'}
        if get_spawning_popen() is None or not hasattr(os,
                                                       'memfd_create'):  # a file, a copy; not Linux
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
    """A read-only list whose items are pickled end to end in one array; each access makes a fresh item."""

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
        """The items at `indices`, as a packed list of their own."""
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
        self._item_ends: Any = []  # in parts
        self._bytes: Any = []
        self._run_ends: Any = []
        self._run_of_item: Any = []
        self._sizes: Any = []
        self._num_coordinates = self._num_bytes = 0

    def append(self, segmentation: Any, height: int, width: int) -> None:
        """Add a segmentation as it stands in the json; an image of `height` x `width` pixels.

        Raises ValueError when it is none of COCO's forms.
        """
        run = -1
        if segmentation is None or (isinstance(segmentation, list) and not segmentation):
            self.kind.append(NONE)
        elif isinstance(segmentation, list):
            self.kind.append(POLYGONS)
            for part in segmentation:
                part = np.asarray(part, dtype=np.float64)
                if part.ndim != 1:
                    raise ValueError(
                        f'a polygon is a flat list [x0, y0, x1, y1, ...], found {part.tolist()!r:.80}'
                    )
                self._coordinates.append(part)
                self._num_coordinates += len(part)
                self._part_ends.append(self._num_coordinates)
        elif isinstance(segmentation, dict) and 'counts' in segmentation:
            self.kind.append(RUNS)
            counts = segmentation['counts']
            if isinstance(counts, list):
                size = segmentation.get('size', [height, width])
                if sum(counts) != size[0] * size[1]:
                    raise ValueError(f'run lengths of {sum(counts)} pixels for a size of {size}')
                segmentation = mask_api.frPyObjects({'size': size, 'counts': counts}, *size)
                counts = segmentation['counts']
            counts = counts.encode() if isinstance(counts, str) else counts
            run = len(self._run_ends)
            self._bytes.append(counts)
            self._num_bytes += len(counts)
            self._run_ends.append(self._num_bytes)
            self._sizes.append(segmentation.get('size', [height, width]))
        else:
            raise ValueError(
                f'a segmentation is a list of polygons or run lengths, found {segmentation!r:.80}')
        self._item_ends.append(len(self._part_ends))
        self._run_of_item.append(run)

    def finish(self) -> 'PackedSegmentations':
        """Turn the lists into arrays; nothing can be appended afterwards."""
        self.kind = np.array(self.kind, dtype=np.uint8)
        self._coordinates = np.concatenate(self._coordinates) if self._coordinates else np.zeros(0)
        self._bytes = np.frombuffer(b''.join(self._bytes), dtype=np.uint8)
        for name in ('_part_ends', '_item_ends', '_run_ends', '_run_of_item'):
            setattr(self, name, np.array(getattr(self, name), dtype=np.int64))
        self._sizes = np.array(self._sizes, dtype=np.int64).reshape(-1, 2)
        self._coordinates.flags.writeable = False  # items are views: a transform must not move the data set's polygons
        return self

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
