"""The image file of each sample of a dataset."""
import os.path as osp
from typing import Any, List, NamedTuple, Optional, Tuple


class ImageFile(NamedTuple):
    """The location of an image."""
    path: Optional[str]  # None where images have no files of their own
    name: str  # as in the annotations
    prefix: Optional[str]  # the folder that the name is relative to


def leaf_of(dataset: Any, index: int) -> Tuple[Any, int]:
    """Find the inner dataset that a sample of a wrapper comes from, and its index there."""
    while True:
        if hasattr(dataset, 'datasets'):
            for part in dataset.datasets:
                if index < len(part):
                    break
                index -= len(part)
            dataset = part
        elif hasattr(dataset, 'dataset'):
            indices = getattr(dataset, 'indices', None)
            index = int(indices[index]) if indices is not None else index % len(dataset.dataset)
            dataset = dataset.dataset
        else:
            return dataset, index


def image_files(dataset: Any) -> List[ImageFile]:
    """Return the image of each sample, in the order of the samples; also for wrappers."""
    if hasattr(dataset, 'datasets'):
        return [file for part in dataset.datasets for file in image_files(part)]
    if hasattr(dataset, 'dataset'):
        inner = image_files(dataset.dataset)
        indices = getattr(dataset, 'indices', None)
        if indices is not None:
            return [inner[index] for index in indices]
        return inner * getattr(dataset, 'times', 1)
    infos = dataset.data_infos
    if hasattr(infos, 'images'):  # one array holds them all
        return [ImageFile(None, f'{infos.source}#{index}', None) for index in range(len(infos))]
    return [_file_of(info, dataset) for info in infos]


def _file_of(info: Any, dataset: Any) -> ImageFile:
    prefix = info.get('img_prefix', getattr(dataset, 'img_prefix', None))
    name = info.get('img_info', info)['filename']
    return ImageFile(osp.join(prefix, name) if prefix else name, name, prefix)
