"""Class folders, lists of files with labels, and ImageNet."""
import difflib
import logging
import os
import os.path as osp
import re
from collections import Counter
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import numpy as np

from mmdet_ft.command_names import how_to_run
from mmdet_ft.datasets.annotations.image_lists import Spelling, composed, plain
from mmdet_ft.datasets.annotations.text_files import lines_of
from mmdet_ft.datasets.classification.base import ClassificationDataset, FileRecords
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import IMAGE_ENDINGS
from mmdet_ft.datasets.images.folders import is_hidden, walk
from mmdet_ft.datasets.layouts.found import NAMED, Part, PartFile, recognizes
from mmdet_ft.datasets.layouts.tree import ALL, Tree, joined, split_of
from mmdet_ft.datasets.pipelines.shared.loading import read_bytes
from mmdet_ft.registry import DATASETS

SPLITS = ('train', 'training', 'val', 'valid', 'validate', 'validation', 'test', 'testing')
# What to do with annotations, by the ending of their files
CONVERTERS = {
    '.xml':
    f'Boxes in PASCAL VOC\'s form are read by XMLDataset; `{how_to_run("convert voc")}` makes a COCO json',
    '.json':
    f'A COCO json is read by CocoDataset; of files of labelme `{how_to_run("convert labelme")}` makes one',
    '.txt':
    'Labels of KITTI are read by KittiDataset, those of YOLO by YOLODataset; kitti.py and yolo.py in '
    'tools/dataset_converters make a COCO json',
}
MOST_DIGITS = 6  # of a label; with more it is a typo
LABELLED = re.compile(r'\.[A-Za-z]{3,4}(\s+\d+)+$', re.ASCII)  # followed by another label: a.jpg 0
SEVERAL = re.compile(r'\.[A-Za-z]{3,4}\s+\d+(\s*[,;]\s*\d+)+$', re.ASCII)  # a.jpg 0,2


@DATASETS.register_module('CustomDataset', when='data_prefix')
class ClassFolders(ClassificationDataset):
    """Images in one folder per class, or in a text file: V2's CustomDataset for classification.

    Without `ann_file` every folder in `data_prefix` is a class, and the images below it, to any depth, belong to it.
    With it, each line has a file name, a space and a label (a number from 0).

    Args:
        data_prefix: folder of the images.
        pipeline: transforms, beginning with LoadImageFromFile.
        classes: class names (list or tuple), or a text file with one name per line. If folders have
            these names, a label is the index of the folder's name here. If none has, the sorted
            folders are the classes in turn, as in V2. Default: the class's CLASSES, or the sorted
            folders.
        ann_file: text file of names and labels.
        extensions: endings of image files in class folders, whatever their case.
        test_mode: has no effect.
        file_client_args: storage of `ann_file`; class folders are read from the disk.

    Raises DataError for a missing folder, no image, and folders that do not match `classes`.
    """

    def __init__(self,
                 data_prefix: str,
                 pipeline: Sequence[Any] = (),
                 classes: Union[str, Sequence[str], None] = None,
                 ann_file: Optional[str] = None,
                 extensions: Sequence[str] = IMAGE_ENDINGS,
                 test_mode: bool = False,
                 file_client_args: Optional[Dict[str, Any]] = None):
        self.extensions = tuple(extension.lower() for extension in extensions)
        self.file_client_args = file_client_args
        self.left_out: List[str] = []  # messages about files in class folders that are not used
        super().__init__(data_prefix, pipeline, classes, ann_file, test_mode)

    def load_annotations(self) -> FileRecords:
        names, labels = self._from_folders() if self.ann_file is None else self._from_file()
        return FileRecords(self.data_prefix, names, np.array(labels, dtype=np.int64))

    def part_file(self, indices: Sequence[int]) -> PartFile:
        """Return the list of some images with their labels."""
        names, labels = self.data_infos.names, self.data_infos.labels
        lines = [f'{names[index]} {labels[index]}\n' for index in indices]
        return PartFile('.txt', ''.join(lines), dict(classes=tuple(self.CLASSES or ())))

    def is_valid_file(self, filename: str) -> bool:
        return filename.lower().endswith(self.extensions)

    # --- class folders

    def _from_folders(self) -> Tuple[List[str], List[int]]:
        folders = self._class_folders()
        found: Dict[str, List[str]] = {}
        others: Dict[str, Counter] = {}  # folder -> ending -> files that are not used
        for folder in folders:
            found[folder], others[folder] = self._images_below(folder)
        self.left_out = [
            f'{folder}: {_count(sum(counts.values()))} by '
            f'{"its ending" if sum(counts.values()) == 1 else "their endings"} ({_format_suffixes(counts)})'
            for folder, counts in others.items() if counts
        ]
        left_out = '; '.join(self.left_out)
        if not any(found.values()):
            text = f'; {left_out}' if left_out else ''
            raise DataError(
                f'{type(self).__name__}: no image in the class folders of {self.data_prefix!r} (folders: '
                f'{_listed(folders)}; endings: {" ".join(self.extensions)}){text}')
        self._refuse_annotations(found, others)
        self._refuse_splits(folders, found)
        label_of = self._labels_of(folders)
        empty = [folder for folder in folders if not found[folder]]
        unseen = sorted(set(range(len(self.CLASSES))) - {label_of[folder] for folder in folders})
        logger = logging.getLogger('mmdet_ft')
        if empty or unseen:
            missing = [*empty, *(self.CLASSES[label] for label in unseen)]
            logger.warning('%s %s has no image of %s',
                           type(self).__name__, self.data_prefix, _listed(missing))
        if left_out:
            logger.warning('%s %s: left out: %s', type(self).__name__, self.data_prefix, left_out)
        names = [name for folder in folders for name in found[folder]]
        labels = [label_of[folder] for folder in folders for _ in found[folder]]
        return names, labels

    def _class_folders(self) -> List[str]:
        """Return the folders in data_prefix, sorted, without those created by systems and notebooks."""
        where = f'{type(self).__name__}: data_prefix={self.data_prefix!r}'
        try:
            entries = [entry for entry in os.scandir(self.data_prefix) if not is_hidden(entry.name)]
            folders = sorted((entry.name for entry in entries if entry.is_dir()), key=composed)
        except FileNotFoundError:
            raise DataError(
                f'{type(self).__name__}: there is no folder {self.data_prefix!r}; correct data_prefix, '
                f'the folder of the class folders') from None
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            reason = getattr(error, 'strerror', None) or error
            raise DataError(
                f'{where} cannot be read: {reason}; it should be the folder of the class folders'
            ) from None
        if not folders:
            images = sum(self.is_valid_file(entry.name) for entry in entries)
            hint = 'it is empty'
            stems = {
                osp.splitext(entry.name)[0]
                for entry in entries if self.is_valid_file(entry.name)
            }
            beside = Counter(
                osp.splitext(entry.name)[1].lower() for entry in entries
                if not self.is_valid_file(entry.name) and osp.splitext(entry.name)[0] in stems)
            ending = next((ending for ending, _ in beside.most_common() if ending in CONVERTERS),
                          None)
            if ending is not None:
                hint = (
                    f'it has {images} images and no folder, and beside them {beside[ending]} {ending} files of '
                    f'their names: annotations. {CONVERTERS[ending]}')
            elif images:
                hint = (
                    f'it has {images} images and no folder. Put the images of each class into a folder of its own, '
                    f'or name the folder above; `{how_to_run("predict")}` takes images without classes'
                )
            elif entries:
                hint = f'it has no folder, and {len(entries)} files that are not images'
            raise DataError(f'{where} should hold a folder of images for each class: {hint}')
        return folders

    def _images_below(self, folder: str) -> Tuple[List[str], Counter]:
        """Return the image names relative to data_prefix, in order, and the other files by their ending."""
        found, others = [], Counter()
        for below, name in self._files_below(osp.join(self.data_prefix, folder)):
            if self.is_valid_file(name):
                found.append(osp.join(below, name))
            else:
                others[osp.splitext(name)[1].lower() or 'no ending'] += 1
        return sorted(found), others

    def _files_below(self, root: str) -> Iterator[Tuple[str, str]]:
        """Yield (folder relative to data_prefix, file), not hidden ones; links to parent folders are not followed."""
        for path, files in walk(root):
            below = osp.relpath(path, self.data_prefix)
            yield from ((below, name) for name in files)

    def _refuse_annotations(self, found: Dict[str, List[str]], others: Dict[str, Counter]) -> None:
        """Raise DataError if a folder holds box annotations instead of images, such as VOC's Annotations as a class."""
        for folder, names in found.items():
            counts = others[folder]
            if names or not counts or set(counts) - set(CONVERTERS) or folder in (self.CLASSES or
                                                                                  ()):
                continue
            ending = counts.most_common(1)[0][0]
            if ending == '.txt' and not self._are_of_images(folder, found):
                continue  # such as a note in an empty folder
            raise DataError(
                f'{type(self).__name__}: the folder {folder!r} of {self.data_prefix!r} holds no image and '
                f'{sum(counts.values())} files of annotations ({_format_suffixes(counts)}): it is no class. '
                f'{CONVERTERS[ending]}. For a classifier take the folder away')

    def _are_of_images(self, folder: str, found: Dict[str, List[str]]) -> bool:
        """Check whether a file in a folder has the name of an image in another one, except for the ending."""
        stems = {osp.splitext(osp.basename(name))[0] for names in found.values() for name in names}
        return any(
            osp.splitext(name)[0] in stems
            for _, name in self._files_below(osp.join(self.data_prefix, folder)))

    def _refuse_splits(self, folders: List[str], found: Dict[str, List[str]]) -> None:
        """Raise DataError for data_prefix one level too high: train and val as classes."""
        deep = all(name.count(os.sep) > 1 for names in found.values() for name in names)
        if deep and all(folder.lower() in SPLITS for folder in folders):
            raise DataError(
                f'{type(self).__name__}: data_prefix={self.data_prefix!r} holds {_listed(folders)}, which are splits, '
                f'not classes; write data_prefix={osp.join(self.data_prefix, folders[0])!r} or another of them'
            )

    def _labels_of(self, folders: List[str]) -> Dict[str, int]:
        """Return folder -> label; set CLASSES if nothing else does."""
        spelling = Spelling()
        twins = [name for name in folders if spelling.of(name) != name]
        if twins:
            raise DataError(
                f'{type(self).__name__}: {self.data_prefix!r} has two folders named {twins[0]!r}, which differ in the '
                'Unicode form of their accents alone (NFC and NFD): put their images into one')
        if self.CLASSES is None:  # in NFC, as on other systems, so that train and val have the same names
            self.CLASSES = [composed(folder) for folder in folders]
        indices = {composed(name): label for label, name in enumerate(self.CLASSES)}
        unknown = [folder for folder in folders if composed(folder) not in indices]
        if not unknown:
            self._warn_of_similar_names()
            return {folder: indices[composed(folder)] for folder in folders}
        near = _match_similar_names(unknown, self.CLASSES)
        in_turn = dict(zip(folders, self.CLASSES))
        if len(unknown) == len(folders) == len(self.CLASSES) and all(
                in_turn[folder] == name for folder, name in near.items()):
            # such as ImageNet's n01440764
            return {folder: label for label, folder in enumerate(folders)}
        meant = '; did you mean ' + ', '.join(
            f'{name!r} for the folder {folder!r}'
            for folder, name in list(near.items())[:5]) + '?' if near else ''
        raise DataError(
            f'{type(self).__name__}: the folders {_listed(unknown)} of {self.data_prefix!r} are none of the '
            f'{len(self.CLASSES)} classes ({_listed(self.CLASSES)}){meant}; '
            f'name them in classes=(...), or take them away')

    def _warn_of_similar_names(self) -> None:
        """Log a warning for classes with similar names: Cat and cat are two."""
        groups: Dict[str, List[str]] = {}
        for name in self.CLASSES:
            groups.setdefault(plain(name), []).append(name)
        alike = [' and '.join(map(repr, group)) for group in groups.values() if len(group) > 1]
        if alike:
            logging.getLogger('mmdet_ft').warning(
                '%s %s: written alike, and classes of their own: %s; where they are one, put their images into '
                'one folder',
                type(self).__name__, self.data_prefix, '; '.join(alike[:5]))

    # --- a list of files

    def _from_file(self) -> Tuple[List[str], List[int]]:
        try:
            content = read_bytes(self.ann_file, self.file_client_args or dict(backend='disk'))
        except FileNotFoundError:
            raise DataError(
                f'{type(self).__name__}: ann_file {self.ann_file!r} is not there; correct it, or leave it '
                f'out to take the class folders of data_prefix') from None
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            reason = getattr(error, 'strerror', None) or error
            raise DataError(
                f'{type(self).__name__}: ann_file {self.ann_file!r} cannot be read: {reason}'
            ) from None
        names, labels = [], []
        for number, line in enumerate(lines_of(content, self.ann_file), 1):
            if not line.strip():
                continue
            name, label = self._name_and_label(line.strip(), f'{self.ann_file}:{number}')
            names.append(name)
            labels.append(label)
        if not names:
            raise DataError(f'{type(self).__name__}: {self.ann_file} lists no image')
        if self.CLASSES is not None and max(labels) >= len(self.CLASSES):
            from_one = min(labels) == 1 and max(labels) == len(self.CLASSES)
            hint = '; none is 0, so they seem to count from 1: subtract 1 from all' if from_one else ''
            raise DataError(
                f'{self.ann_file} has the label {max(labels)}, and there are {len(self.CLASSES)} classes '
                f'({_listed(self.CLASSES)}): labels count from 0{hint}')
        return names, labels

    def _name_and_label(self, line: str, where: str) -> Tuple[str, int]:
        """Read a line of a label file; DataError begins with `where`."""
        name, _, label = line.rpartition(' ')
        if name and label.isascii() and label.isdigit() and not LABELLED.search(name):
            if len(label) > MOST_DIGITS:
                raise DataError(
                    f'{where}: the label {label:.40} is too large: labels count the classes from 0')
            return name, int(label)
        hint = ''
        if LABELLED.search(name) or SEVERAL.search(line):
            hint = '; several labels per image are not read: one label a line'
        elif name and label in (self.CLASSES or ()):
            hint = f'; for the class {label!r} write {list(self.CLASSES).index(label)}'
        elif re.search(r'[,;\t]\s*\d+$', line):
            hint = '; write a space in front of the label, not a comma or a tab'
        elif not name:
            hint = f'; images without labels are taken by `{how_to_run("predict")}`, which needs no list'
        raise DataError(
            f'{where}: {line!r:.200} is not a file name, a space and a label (a number from 0){hint}'
        )


def _count(number: int) -> str:
    return '1 file is not an image' if number == 1 else f'{number} files are not images'


def _format_suffixes(counts: Counter) -> str:
    return ', '.join(f'{ending} {count}' for ending, count in counts.most_common(5))


def _match_similar_names(folders: Sequence[str], classes: Sequence[str]) -> Dict[str, str]:
    """Return folder -> the class with a similar name."""
    plain = {name.casefold(): name for name in classes}
    found = {}
    for folder in folders:
        close = difflib.get_close_matches(folder.casefold(), plain, n=1, cutoff=.8)
        if close:
            found[folder] = plain[close[0]]
    return found


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


@recognizes('folders', 'class folders', NAMED)
def find_class_folders(tree: Tree) -> Dict[str, Part]:
    """Find folders of images, one for each class: in train, val and test, or in one folder."""
    top = _only_folder(tree)
    inside = _subfolders(tree, top)
    splits = [
        name for name in inside if name.lower() in SPLITS and _subfolders(tree, joined(top, name))
    ]
    found = {split_of(name): joined(top, name) for name in splits} or {ALL: top}
    if not any(len(_subfolders(tree, folder)) > 1 for folder in found.values()):
        return {}
    for folder in found.values():
        loose = tree.images.get(folder, [])
        if loose and 2 * len(loose) < tree.num_images:
            raise DataError(
                f'{tree.path(folder)} has {len(loose)} images beside its folders, such as {loose[0]}: they are of '
                f'no class. Move them into one of {_listed(_subfolders(tree, folder))}, or away')
    return {
        split: Part(dict(type='CustomDataset', data_prefix=tree.path(folder)), folder)
        for split, folder in found.items() if folder not in tree.images
    }


def _subfolders(tree: Tree, folder: str) -> List[str]:
    """Return the folders directly in a folder that have images at any depth."""
    below = [name for name in tree.images if not folder or name.startswith(f'{folder}/')]
    start = len(folder) + 1 if folder else 0
    return list(dict.fromkeys(name[start:].split('/')[0] for name in below if name != folder))


def _only_folder(tree: Tree) -> str:
    """Return the first folder from the root down with images or with several folders of images."""
    top = ''
    while top not in tree.images and len(_subfolders(tree, top)) == 1:
        top = joined(top, _subfolders(tree, top)[0])
    return top
