"""YOLO's text files: a line for each object, with the number of its class and shares of the image."""
import os
import os.path as osp
from collections import Counter
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from mmdet_ft.datasets.annotations.data_yaml import folders_of, read_data_yaml
from mmdet_ft.datasets.annotations.foreign import begin_of, is_data_yaml, is_yolo
from mmdet_ft.datasets.annotations.text_files import read_lines
from mmdet_ft.datasets.annotations.to_coco import ImageObjects
from mmdet_ft.datasets.annotations.values import read_number, read_whole
from mmdet_ft.datasets.detection.converted import ConvertedDataset, Source
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import image_size, is_image_name
from mmdet_ft.datasets.images.folders import images_below
from mmdet_ft.datasets.images.names import same_name
from mmdet_ft.datasets.layouts.found import Part, PartFile, recognizes
from mmdet_ft.datasets.layouts.pairs import folders_like
from mmdet_ft.datasets.layouts.tree import ALL, Tree, by_split, only_each
from mmdet_ft.registry import DATASETS

YAML_ENDINGS = ('.yaml', '.yml')
NAMES = ('classes.txt', 'labels.txt')  # lists of the names of classes, beside *.names
BEYOND = 0.01  # share of the image that a coordinate may be outside, as by rounding
FORM = 'expected class x y width height, or class and the points of an outline'


class Labels(NamedTuple):
    """The n objects of a label file."""
    classes: List[int]  # [n] numbers from 0
    boxes: np.ndarray  # float64 [n, 4], x1 y1 x2 y2 in shares of width and height
    outlines: List[Optional[np.ndarray]]  # [n] of float64 [points, 2] in shares; None for a box
    lines: List[int]  # [n] lines in the file


def read_yolo_label(path: str, num_keypoints: int = 0) -> Labels:
    """Read a label file; DataError names the path and the faulty line.

    A line has the number of a class, and x y width height of a box (x, y: its center), or three points or more of
    an outline. All are shares of the image's width and height.

    num_keypoints: numbers after each box, which are not read.
    """
    classes, boxes, outlines, lines = [], [], [], []
    for number, line in enumerate(read_lines(path), 1):
        words = line.split()
        if not words:
            continue
        try:
            label, shares = _read_line(words, num_keypoints)
        except ValueError as error:
            raise DataError(f'{path}:{number}: {error}') from None
        classes.append(label)
        boxes.append(_box_of(shares))
        outlines.append(None if len(shares) == 4 else shares.reshape(-1, 2))
        lines.append(number)
    return Labels(classes, np.array(boxes).reshape(-1, 4), outlines, lines)


def _read_line(words: Sequence[str], num_keypoints: int) -> Tuple[int, np.ndarray]:
    """Return the class and the shares of a line; raise ValueError with what is wrong."""
    if num_keypoints and len(words) == 5 + num_keypoints:
        words = words[:5]
    found = ' '.join(words)
    if len(words) < 5:
        raise ValueError(f'found {found!r:.80}, {FORM}')
    try:
        label = read_whole(words[0], 'the number of a class, from 0', 0)
    except ValueError as error:
        raise ValueError(f'the class {error}') from None
    if len(words) == 6:
        raise ValueError(
            f'6 columns, of which the last is a score: these are predictions. To fix: {FORM}')
    if len(words) % 2 == 0:
        raise ValueError(f'{len(words) - 1} numbers after the class: points are pairs of x and y; '
                         f'keypoints need kpt_shape in data.yaml')
    shares = np.array([_read_share(word) for word in words[1:]])
    if len(shares) == 4 and (shares[2:] < 0).any():
        raise ValueError(
            f'width and height are {shares[2]:g} and {shares[3]:g}, expected 0 or more')
    return label, shares


def _read_share(word: str) -> float:
    expected = 'a share of the image, from 0 to 1'
    try:
        share = read_number(word, expected)
    except ValueError as error:
        raise ValueError(f'a coordinate {error}') from None
    if not -BEYOND <= share <= 1 + BEYOND:
        pixels = '; divide pixels by width and height of the image' if share > 1 else ''
        raise ValueError(f'a coordinate is {word!r:.60}, expected {expected}{pixels}')
    return share


def _box_of(shares: np.ndarray) -> np.ndarray:
    if len(shares) == 4:
        return np.concatenate([shares[:2] - shares[2:] / 2, shares[:2] + shares[2:] / 2])
    points = shares.reshape(-1, 2)
    return np.concatenate([points.min(0), points.max(0)])


def label_path(image: str) -> str:
    """Return the path of an image's label file: the last folder `images` becomes `labels`; otherwise beside it."""
    stem = osp.splitext(image)[0].replace(os.sep, '/')
    head, folder, tail = f'/{stem}'.rpartition('/images/')
    return (f'{head}/labels/{tail}'[1:] if folder else stem) + '.txt'


def find_labels(images: Sequence[str]) -> List[Optional[str]]:
    """Return the label file of each image; None where there is none.

    Beside an image its label file is looked for where no image of its folder has one in `labels`.
    """
    found = [label_path(image) for image in images]
    folders = {osp.dirname(path) for path in found if osp.exists(path)}
    paths = [
        path if osp.dirname(path) in folders else f'{osp.splitext(image)[0]}.txt'
        for path, image in zip(found, images)
    ]
    return [path if osp.exists(path) else same_name(None, path) for path in paths]


def images_of_list(path: str, root: str = '') -> List[str]:
    """Return the images that a text file lists, relative to itself or to `root`; DataError names a missing one."""
    images = []
    for number, line in enumerate(read_lines(path), 1):
        name = line.strip()
        if not name:
            continue
        tries = [osp.join(osp.dirname(path), name), osp.join(root, name), name]
        image = next((osp.normpath(item) for item in tries if osp.isfile(item)), None)
        image = image or next(filter(None, (same_name(None, item) for item in tries)), None)
        if image is None:
            raise DataError(f'{path}:{number}: there is no image {name!r}; paths are relative to '
                            f'the list, or to path of data.yaml')
        images.append(image)
    return images


def images_of(sources: Iterable[str], root: str = '') -> List[str]:
    """Return the images of folders and lists, each once, in their order; DataError if there is none."""
    sources = list(sources)
    found = [
        image for source in sources
        for image in (images_below(source) if osp.isdir(source) else images_of_list(source, root))
    ]
    if not found:
        raise DataError(f'there is no image in {", ".join(map(repr, sources))}')
    return list(dict.fromkeys(found))


def _without_image(images: Sequence[str], labels: Sequence[Optional[str]]) -> List[str]:
    """Return the label files beside those of images that have no image in the folders of the images."""
    folders = {(osp.dirname(image), osp.dirname(path))
               for image, path in zip(images, labels) if path}
    found = []
    for of_images, of_labels in sorted(folders):
        stems = {
            osp.splitext(name)[0]
            for name in os.listdir(of_images or '.') if is_image_name(name)
        }
        found += [
            osp.join(of_labels, name) for name in sorted(os.listdir(of_labels or '.'))
            if name.lower().endswith('.txt') and osp.splitext(name)[0] not in stems
            and is_yolo(begin_of(osp.join(of_labels, name)))
        ]
    return found


def _refuse_shared(images: Sequence[str], labels: Sequence[Optional[str]]) -> None:
    """Raise DataError for a label file of two images, a.jpg and a.png."""
    image_of: Dict[str, str] = {}
    for image, path in zip(images, labels):
        other = image_of.setdefault(path, image) if path is not None else image
        if other != image:
            raise DataError(f'{path} is the label file of two images, {other} and {image}; '
                            f'take one of them away, or give it another name')


class YoloReader:
    """The reader of the label files of a YOLO dataset, with counts for its messages.

    names: the class of each number. `notes` are messages about images and label files that do not belong together.
    """

    def __init__(self, names: Sequence[str], num_keypoints: int = 0):
        self.names = list(names)
        self.num_keypoints = num_keypoints
        self.notes: List[str] = []
        self._numbers: Counter = Counter()  # class -> objects
        self._beyond: Optional[Tuple[str, int, int]] = None  # file, line, class

    def read(self, images: Sequence[str], root: str) -> Iterator[ImageObjects]:
        """Yield the objects of images, whose names become relative to `root`.

        An image without a label file, or with an empty one, has no object. Raises DataError after the last image
        for a class that has no name.
        """
        labels = find_labels(images)
        if images and not any(labels):
            raise DataError(
                f'no image has a label file: {images[0]!r} has none at '
                f'{label_path(images[0])!r}; labels are in the folder labels beside images')
        _refuse_shared(images, labels)
        self._note_unmatched(images, labels)
        for image, path in zip(images, labels):
            yield self._read_image(image, path, root)
        self._refuse_beyond()

    def _read_image(self, image: str, path: Optional[str], root: str) -> ImageObjects:
        width, height = image_size(image)
        found = Labels([], np.zeros(
            (0, 4)), [], []) if path is None else read_yolo_label(path, self.num_keypoints)
        kept = [index for index, label in enumerate(found.classes) if label < len(self.names)]
        self._numbers.update(found.classes)
        if len(kept) < len(found.classes) and self._beyond is None:
            index = next(i for i in range(len(found.classes)) if i not in kept)
            self._beyond = str(path), found.lines[index], found.classes[index]
        size = np.array([width, height], dtype=np.float64)
        return ImageObjects(
            file_name=osp.relpath(image, root or '.').replace(os.sep, '/'),
            width=width,
            height=height,
            names=[self.names[found.classes[index]] for index in kept],
            boxes=found.boxes[kept] * np.tile(size, 2),
            crowd=np.zeros(len(kept), dtype=bool),
            segmentations=[_scaled(found.outlines[index], size) for index in kept])

    def _note_unmatched(self, images: Sequence[str], labels: Sequence[Optional[str]]) -> None:
        """Note images without a label file, and label files without an image."""
        missing = [image for image, path in zip(images, labels) if path is None]
        if missing:
            self.notes.append(f'{len(missing)} images have no label file, such as '
                              f'{osp.basename(missing[0])!r}: taken as images without objects')
        others = _without_image(images, labels)
        if others:
            self.notes.append(f'{len(others)} label files have no image, such as '
                              f'{osp.basename(others[0])!r}: left out')

    def _refuse_beyond(self) -> None:
        """Raise DataError for a class without a name."""
        if self._beyond is None:
            return
        path, line, label = self._beyond
        largest, number = max(self._numbers), len(self.names)
        hint = f'; name all classes in names of data.yaml, or in classes=({self.names[0]!r}, ...)'
        if largest == number and 0 not in self._numbers:
            hint = '; no object is of class 0, so they seem to count from 1: subtract 1 from all'
        raise DataError(f'{path}:{line}: the class is {label}, and the names are those of 0 to '
                        f'{number - 1}{hint}')


def _scaled(outline: Optional[np.ndarray], size: np.ndarray) -> Optional[List[List[float]]]:
    return None if outline is None else [(outline * size).reshape(-1).tolist()]


class Opened(NamedTuple):
    """A YOLO dataset whose images have not been read."""
    sources: List[str]  # folders of images, and lists of images
    root: str  # folder that the names of the images are relative to
    names: Sequence[str]  # the class of each number
    num_keypoints: int = 0


def open_source(path: str,
                split: Optional[str],
                root: Optional[str],
                classes: Optional[Sequence[str]],
                owner: str = 'YOLO') -> Opened:
    """Open a split of a data.yaml, a folder of images, or a list of images.

    root: see `img_prefix` of YOLODataset. classes: names for a folder or a list. owner: the one that `split` and
    `classes` were given to, for messages.
    """
    if path.lower().endswith(YAML_ENDINGS):
        data = read_data_yaml(path)
        if split not in data.splits:
            raise DataError(f'{owner}: split is {split!r}; write one of '
                            f'{", ".join(map(repr, data.splits))}, which {path} has')
        return Opened(
            folders_of(data, split, root or None), root or osp.dirname(path), data.names,
            data.num_keypoints)
    if not classes:
        raise DataError(f'{owner} needs classes for {path!r}: the names of the numbers 0, 1, ... '
                        f'in their order')
    folder = path if osp.isdir(path) else osp.dirname(path)
    return Opened([path], root or folder, classes)


@DATASETS.register_module()
class YOLODataset(ConvertedDataset):
    """Boxes and outlines of YOLO's text files; the metrics are COCO's.

    The label file of an image has its name and the ending .txt. It is in the folder `labels` beside the image's
    `images`, or beside the image. Without a label file, or with an empty one, an image has no object.

    Args:
        ann_file: data.yaml; or a folder of images, or a text file that lists images.
        split: 'train', 'val' or 'test': the images of a data.yaml to read.
        classes: names; default: those of data.yaml. A folder or a list needs them, in the order of the numbers.
        img_prefix: folder that the paths of a data.yaml or of a list are relative to; default: `path` of
            data.yaml, or the folder of the file.
        Others as CustomDataset.

    Raises DataError with file and line: another number of columns, a score, a class without a name, a coordinate
    that is not a share of the image.
    """

    def __init__(self,
                 ann_file: str,
                 pipeline: Sequence[Any],
                 classes: Union[str, Sequence[str], None] = None,
                 data_root: Optional[str] = None,
                 img_prefix: Optional[str] = '',
                 seg_prefix: Optional[str] = None,
                 seg_suffix: str = '.png',
                 proposal_file: Optional[str] = None,
                 test_mode: bool = False,
                 filter_empty_gt: bool = True,
                 file_client_args: Dict[str, Any] = dict(backend='disk'),
                 split: Optional[str] = None):
        self.split = split
        super().__init__(ann_file, pipeline, classes, data_root, img_prefix, seg_prefix, seg_suffix,
                         proposal_file, test_mode, filter_empty_gt, file_client_args)

    def _local(self, path: str, key: str) -> str:
        return path if key == 'ann_file' and osp.isdir(path) else super()._local(path, key)

    def read_source(self, ann_file: str) -> Source:
        """Read the label files of all images."""
        opened = open_source(ann_file, self.split, self.img_prefix, self.CLASSES,
                             type(self).__name__)
        reader = YoloReader(opened.names, opened.num_keypoints)
        images = list(reader.read(images_of(opened.sources, opened.root), opened.root))
        return Source(images, opened.root, opened.names, reader.notes)

    def part_file(self, indices: Sequence[int]) -> PartFile:
        """Return the list of some images."""
        names = (self.data_infos[index]['filename'] for index in indices)
        paths = [osp.abspath(osp.join(self.img_prefix or '', name)) for name in names]
        settings = dict(split=None, img_prefix=self.img_prefix, classes=self.CLASSES)
        return PartFile('.txt', ''.join(f'{path}\n' for path in paths), settings)


@recognizes('yolo', 'YOLO txt')
def find_yolo(tree: Tree) -> Dict[str, Part]:
    """Find a data.yaml, or folders of label files beside a list of names, such as classes.txt."""
    found = [path for path in tree.files(*YAML_ENDINGS) if is_data_yaml(tree.begin(path))]
    if found:
        path = only_each({ALL: found}, 'data.yaml', tree)[ALL]
        return _parts_of_yaml(tree, path)
    labels = folders_like(tree, '.txt', is_yolo)
    beside_of = {folder: _images_beside(tree, folder) for folder in labels}
    images = {folder: beside for folder, beside in beside_of.items() if beside is not None}
    if not images:
        return {}
    names = _names_in(tree)
    parts = {}
    for split, folders in by_split(images).items():
        top = osp.commonpath([f'/{images[folder]}' for folder in folders])[1:]
        _require_no_others(tree, top, [images[folder] for folder in folders], split)
        settings = dict(type='YOLODataset', ann_file=tree.path(top), classes=tuple(names))
        parts[split] = Part(settings, ', '.join(folder or '.' for folder in folders))
    return parts


def _parts_of_yaml(tree: Tree, path: str) -> Dict[str, Part]:
    """Return the splits of a data.yaml; a val that is train, and a test that is not there, do not count."""
    data = read_data_yaml(tree.path(path))
    folders: Dict[str, List[str]] = {}
    notes: List[str] = []
    for split in data.splits:
        try:
            folders[split] = folders_of(data, split)
        except DataError as error:
            if split != 'test':
                raise
            notes.append(f'no test set: {error}')
    return {
        split:
        Part(
            dict(type='YOLODataset', ann_file=tree.path(path), split=split),
            path,
            notes=tuple(notes) if split == 'train' else ())
        for split, found in folders.items() if split == 'train' or found != folders.get('train')
    }


def _images_beside(tree: Tree, folder: str) -> Optional[str]:
    """Return the folder of the images of a folder of labels; None if there is none."""
    parts = folder.split('/')
    swapped = [
        '/'.join([*parts[:index], 'images', *parts[index + 1:]]) for index, part in enumerate(parts)
        if part == 'labels'
    ]
    return next((item for item in (*reversed(swapped), folder) if item in tree.images), None)


def _require_no_others(tree: Tree, top: str, folders: Sequence[str], split: str) -> None:
    """Raise DataError if the folder that several image folders of a split have in common has others too."""
    others = [
        folder for folder in tree.images
        if folder not in folders and f'{folder}/'.startswith(f'{top}/' if top else '')
    ]
    if len(folders) > 1 and others:
        raise DataError(
            f'{tree.root}: the split {split!r} has the image folders {", ".join(folders)}, and {others[0]} is '
            f'beside them. List the folders of each split in a data.yaml: train: [{folders[0]}, ...]'
        )


def _names_in(tree: Tree) -> List[str]:
    """Return the names of the classes in the folder; DataError if it has none, or files that differ."""
    found: Dict[str, List[str]] = {}
    for path in tree.files('.txt', '.names'):
        if osp.basename(path).lower() in NAMES or path.lower().endswith('.names'):
            names = [line.strip() for line in read_lines(tree.path(path)) if line.strip()]
            if names:
                found[path] = names
    for path, names in found.items():
        first = next(iter(found))
        if names != found[first]:
            raise DataError(
                f'{tree.root} has two lists of classes that differ: {first} ({", ".join(found[first][:5])}) and {path} '
                f'({", ".join(names[:5])}); the numbers in labels mean one of them. Keep one list, and '
                'renumber the labels of the other')
    if found:
        return next(iter(found.values()))
    raise DataError(f'{tree.root} has label files of YOLO and no names of the classes: write '
                    f'classes.txt into it, a name a line, or a data.yaml')
