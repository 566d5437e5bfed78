"""Class folders, lists of files with labels, and ImageNet."""
import logging
import os
import os.path as osp
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from mmdet_ft.datasets.classification.base import ClassificationDataset, FileRecords
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.pipelines.loading import read_bytes
from mmdet_ft.registry import DATASETS

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')


@DATASETS.register_module('CustomDataset', when='data_prefix')
class ClassFolders(ClassificationDataset):
    """Images in one folder a class, or a text file that names them: V2's CustomDataset for classification.

    Without `ann_file` every folder in `data_prefix` is a class, and the images below it, to any depth, belong to it.
    With it, each line has a file name, a space and a label (a number from 0).

    Args:
        data_prefix: folder of the images.
        pipeline: transforms, beginning with LoadImageFromFile.
        classes: class names (list or tuple), or a text file with one name a line. Where folders bear these names,
            a label is the place of the folder's name here; where none does, the sorted folders are the classes in
            turn, as in V2. Default: the class's CLASSES, or the sorted folders.
        ann_file: text file of names and labels.
        extensions: endings of image files in class folders, whatever their case.
        test_mode: changes nothing.
        file_client_args: storage of `ann_file`; class folders are read from the disk.

    Raises DataError for a missing folder, no image, and folders that do not match `classes`.
    """

    def __init__(self,
                 data_prefix: str,
                 pipeline: Sequence[Any] = (),
                 classes: Union[str, Sequence[str], None] = None,
                 ann_file: Optional[str] = None,
                 extensions: Sequence[str] = EXTENSIONS,
                 test_mode: bool = False,
                 file_client_args: Optional[Dict[str, Any]] = None):
        self.extensions = tuple(extension.lower() for extension in extensions)
        self.file_client_args = file_client_args
        super().__init__(data_prefix, pipeline, classes, ann_file, test_mode)

    def load_annotations(self) -> FileRecords:
        names, labels = self._from_folders() if self.ann_file is None else self._from_file()
        return FileRecords(self.data_prefix, names, np.array(labels, dtype=np.int64))

    def is_valid_file(self, filename: str) -> bool:
        return filename.lower().endswith(self.extensions)

    # --- class folders

    def _from_folders(self) -> Tuple[List[str], List[int]]:
        if not osp.isdir(self.data_prefix):
            raise DataError(
                f'{type(self).__name__}: there is no folder {self.data_prefix!r}; correct data_prefix, '
                f'the folder of the class folders')
        folders = sorted(entry.name for entry in os.scandir(self.data_prefix) if entry.is_dir())
        found = {folder: self._images_below(folder) for folder in folders}
        if not any(found.values()):
            raise DataError(
                f'{type(self).__name__}: no image in the class folders of {self.data_prefix!r} (folders: '
                f'{_listed(folders)}; endings: {" ".join(self.extensions)})')
        label_of = self._labels_of(folders)
        empty = [folder for folder in folders if not found[folder]]
        unseen = sorted(set(range(len(self.CLASSES))) - {label_of[folder] for folder in folders})
        if empty or unseen:
            missing = [*empty, *(self.CLASSES[label] for label in unseen)]
            logging.getLogger('mmdet_ft').warning('%s %s has no image of %s',
                                                  type(self).__name__, self.data_prefix,
                                                  _listed(missing))
        names = [name for folder in folders for name in found[folder]]
        labels = [label_of[folder] for folder in folders for _ in found[folder]]
        return names, labels

    def _images_below(self, folder: str) -> List[str]:
        """Names relative to data_prefix, in order."""
        found = []
        for path, _, files in os.walk(osp.join(self.data_prefix, folder), followlinks=True):
            below = osp.relpath(path, self.data_prefix)
            found += [osp.join(below, name) for name in files if self.is_valid_file(name)]
        return sorted(found)

    def _labels_of(self, folders: List[str]) -> Dict[str, int]:
        """Folder -> label; sets CLASSES where nothing else does."""
        if self.CLASSES is None:
            self.CLASSES = folders
        places = {name: label for label, name in enumerate(self.CLASSES)}
        unknown = [folder for folder in folders if folder not in places]
        if not unknown:
            return places
        if len(unknown) == len(folders) == len(self.CLASSES):  # such as ImageNet's n01440764
            return {folder: label for label, folder in enumerate(folders)}
        raise DataError(
            f'{type(self).__name__}: the folders {_listed(unknown)} of {self.data_prefix!r} are none of the '
            f'{len(self.CLASSES)} classes ({_listed(self.CLASSES)}); name them in classes=(...), or take them away'
        )

    # --- a list of files

    def _from_file(self) -> Tuple[List[str], List[int]]:
        try:
            content = read_bytes(self.ann_file, self.file_client_args or dict(backend='disk'))
        except FileNotFoundError:
            raise DataError(
                f'{type(self).__name__}: ann_file {self.ann_file!r} is not there; correct it, or leave it '
                f'out to take the class folders of data_prefix') from None
        names, labels = [], []
        for number, line in enumerate(content.decode('utf-8').splitlines(), 1):
            if not line.strip():
                continue
            name, _, label = line.strip().rpartition(' ')
            if not name or not label.isdigit():
                raise DataError(
                    f'{self.ann_file}:{number}: {line!r} is not a file name, a space and a label (a number '
                    f'from 0)')
            names.append(name)
            labels.append(int(label))
        if not names:
            raise DataError(f'{type(self).__name__}: {self.ann_file} lists no image')
        if self.CLASSES is not None and max(labels) >= len(self.CLASSES):
            raise DataError(
                f'{self.ann_file} has the label {max(labels)}, and there are {len(self.CLASSES)} classes '
                f'({_listed(self.CLASSES)}): labels count from 0')
        return names, labels


def _listed(names: Sequence[str], most: int = 10) -> str:
    return ', '.join(map(
        str, names[:most])) + (f' and {len(names) - most} more' if len(names) > most else '')


def _imagenet_classes() -> List[str]:
    path = osp.join(osp.dirname(osp.abspath(__file__)), 'imagenet_classes.txt')
    with open(path, encoding='utf-8') as file:
        return file.read().splitlines()


@DATASETS.register_module()
class ImageNet(ClassFolders):
    """The thousand classes of ILSVRC 2012 (arXiv:1409.0575), in the order of their synsets; see ClassFolders."""

    CLASSES = _imagenet_classes()
