"""One xml file per image, in PASCAL VOC's format."""
import os.path as osp
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Union

import numpy as np

from mmdet_ft.command_names import how_to_run
from mmdet_ft.datasets.annotations.bounds import read_corner, read_size
from mmdet_ft.datasets.annotations.foreign import cvat
from mmdet_ft.datasets.annotations.image_lists import Spelling, check_names, read_ids
from mmdet_ft.datasets.annotations.packed import PackedList
from mmdet_ft.datasets.annotations.to_coco import files_by_folder
from mmdet_ft.datasets.annotations.values import read_name
from mmdet_ft.datasets.detection.custom import CustomDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import image_size, is_image_name
from mmdet_ft.datasets.images.names import find_image, find_on_disk, nearest_name, plain_name_hint
from mmdet_ft.datasets.layouts.found import Part, PartFile, recognizes
from mmdet_ft.datasets.layouts.pairs import folders_like, parts_of, pieces_of
from mmdet_ft.datasets.layouts.tree import Tree
from mmdet_ft.registry import DATASETS


class VOCFile(NamedTuple):
    """The content of an xml file."""
    folder: Optional[str]
    filename: Optional[str]
    width: Optional[int]
    height: Optional[int]
    names: List[str]  # of n objects
    boxes: np.ndarray  # float32 [n, 4], x1 y1 x2 y2 in whole pixels from 0, as V2 makes them
    difficult: np.ndarray  # bool [n]


SIDES = ('xmin', 'ymin', 'xmax', 'ymax')


def _missing_corners(item: ElementTree.Element) -> str:
    """Return what an object has instead of a box; '' if it has all corners."""
    if item.find('robndbox') is not None and item.find('bndbox') is None:
        return 'it has a robndbox, a rotated box of roLabelImg, and no upright one'
    missing = [side for side in SIDES if item.findtext(f'bndbox/{side}') is None]
    return f'it has no {", ".join(missing)}' if missing else ''


def read_voc_xml(path: str) -> VOCFile:
    """Read a file; DataError names the path and the faulty line or object.

    A width or height of 0 counts as missing: labelImg writes it where it has not seen the image.
    """
    root = _root_of(path)
    names, boxes, difficult = [], [], []
    for index, item in enumerate(root.findall('object'), 1):
        name = (item.findtext('name') or '').strip()
        if not name:
            raise DataError(
                f'{path}: object {index} has no name; write its class, or take the object out')
        try:
            read_name(name)
            box = [int(read_corner(item.findtext(f'bndbox/{side}'))) for side in SIDES]
            flag = int(read_corner((item.findtext('difficult') or '').strip() or 0))
        except ValueError as error:
            raise DataError(
                f'{path}: object {index} ({name!r:.60}) needs numbers in bndbox/xmin, ymin, xmax, ymax and '
                f'in difficult, if it has that: {_missing_corners(item) or f"one {error}"}; correct it, or take the '
                'object out') from None
        names.append(name)
        boxes.append(box)
        difficult.append(flag != 0)
    size = root.find('size')
    try:
        sides = None if size is None else read_size(size.findtext('width'), size.findtext('height'))
    except ValueError as error:
        raise DataError(f'{path}: size: {error}') from None
    width, height = sides or (None, None)
    return VOCFile(
        folder=_text(root, 'folder', path),
        filename=_text(root, 'filename', path),
        width=width,
        height=height,
        names=names,
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4) - 1,
        difficult=np.array(difficult, dtype=bool))


def _root_of(path: str) -> Any:
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise DataError(f'{path}:{error.position[0]}: not a complete xml file: {error}') from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f'cannot read {path}: {error.strerror or error}') from error
    except (ValueError, LookupError) as error:  # an encoding that Python does not know
        raise DataError(f'{path} cannot be read: {error}; save it as UTF-8') from error
    if root.tag == 'annotations' and root.find('image') is not None:
        raise DataError(f'{path}: {cvat()}')
    if root.tag != 'annotation' and root.find('object') is None and root.find('size') is None:
        raise DataError(
            f'{path} is not an xml file of PASCAL VOC: it is <{root.tag:.40}>, expected <annotation>'
        )
    return root


def _text(root: ElementTree.Element, key: str, path: str) -> Optional[str]:
    text = root.findtext(key)
    if text is None or not text.strip():
        return text
    try:
        return read_name(text.strip())
    except ValueError as error:
        raise DataError(f'{path}: {key} {error}') from None


def image_beside(folder: str, stem: str, filename: Optional[str]) -> str:
    """Return the name of an xml file's image: STEM.jpg, or with the ending of `filename`, or of an existing file.

    stem: name of the xml file. If there is no image, the expected name is returned.
    """
    endings = ['.jpg', osp.splitext((filename or '').replace('\\', '/'))[1] or '.jpg']
    for ending in endings:
        if is_file(osp.join(folder, stem + ending)):
            return stem + ending
    found = find_image(folder, stem + endings[1])
    return found.name if found is not None else stem + endings[1]


def is_file(path: str) -> bool:
    """Check whether a file exists; False for an invalid name too."""
    try:
        return osp.isfile(path)
    except ValueError:  # a zero byte
        return False


@DATASETS.register_module()
class XMLDataset(CustomDataset):
    """Boxes of PASCAL VOC's xml files; `ann_file` is a text file with one image name per line.

    An image NAME has `img_prefix`/`ann_subdir`/NAME.xml and `img_prefix`/`img_subdir`/NAME.jpg (or
    with the ending of the xml's <filename>). Coordinates count from 1 in the files and from 0 in
    samples. Difficult objects become `bboxes_ignore`; those of other classes are dropped.

    Args:
        min_size: objects less than this many pixels wide or high are ignored like difficult ones,
            except in test_mode.
        img_subdir, ann_subdir: folders in img_prefix.
        Others as CustomDataset.

    Raises FileNotFoundError and DataError with the file; DataError when `classes` are spelled
    differently in the files.
    """

    MADE_BY = (
        f', or make one json of all xml files, and split it: {how_to_run("convert voc")} FOLDER --out '
        f'all.json, {how_to_run("split")} all.json --val 0.2 --img-prefix FOLDER')

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
                 min_size: Optional[float] = None,
                 img_subdir: str = 'JPEGImages',
                 ann_subdir: str = 'Annotations'):
        names = self.get_classes(classes)
        if not names:
            raise DataError(
                f'{type(self).__name__} needs classes=(...): the names in its xml files')
        if min_size and test_mode:
            raise DataError(
                f'{type(self).__name__}: min_size={min_size} is for training; the truth of an evaluation stays '
                f'as it is: remove it from data.val and data.test')
        self.min_size = min_size
        self.img_subdir = img_subdir
        self.ann_subdir = ann_subdir
        self.cat2label = {name: label for label, name in enumerate(names)}
        self._spelling = Spelling(names)
        super().__init__(ann_file, pipeline, classes, data_root, img_prefix, seg_prefix, seg_suffix,
                         proposal_file, test_mode, filter_empty_gt, file_client_args)

    def load_annotations(self, ann_file: str) -> Sequence[Dict[str, Any]]:
        """Read all files; set `name_counts`, the objects of each name in them."""
        self.name_counts: Dict[str, int] = Counter()
        names = read_ids(ann_file)
        if not names:
            raise DataError(f'{type(self).__name__}: {ann_file} lists no image')
        infos = PackedList(self._read(img_id) for img_id in names)
        if self._spelling.matched:
            self._warn(str(self._spelling))
        check_names(self, self.name_counts)
        return infos

    def _read(self, img_id: str) -> Dict[str, Any]:
        content = self._read_xml(img_id)
        self.name_counts.update(content.names)
        filename = self._image_name(img_id, content)
        width, height = content.width, content.height
        if width is None:
            path = osp.join(self.img_prefix, filename)
            try:
                width, height = image_size(path)
            except DataError as error:
                raise DataError(f'{self._xml_path(img_id)} has no size, and {error}') from error
        return dict(
            id=img_id, filename=filename, width=width, height=height, ann=self._annotation(content))

    def _xml_path(self, img_id: str) -> str:
        return osp.join(self.img_prefix, self.ann_subdir, f'{img_id}.xml')

    def _read_xml(self, img_id: str) -> VOCFile:
        try:
            content = read_voc_xml(find_on_disk(self._xml_path(img_id)))
            return content._replace(names=list(map(self._spelling.of, content.names)))
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{type(self).__name__}: there is no {self._xml_path(img_id)!r}, which {self.ann_file} lists as '
                f'{img_id!r}; img_prefix is {self.img_prefix!r}, ann_subdir {self.ann_subdir!r}'
                f'{plain_name_hint(img_id) or nearest_name(self._xml_path(img_id)) or self._describe_folders()}'
            ) from None

    def _describe_folders(self) -> str:
        """Return the folders of xml files and images, as the end of a sentence, where ann_subdir is missing."""
        if osp.isdir(osp.join(self.img_prefix, self.ann_subdir)):
            return ''
        found = files_by_folder(self.img_prefix or '.', lambda name: name.endswith('.xml'))
        if not found:
            return ''
        (index, count), = found.most_common(1)
        images = files_by_folder(self.img_prefix or '.', is_image_name)
        text = f'; {count} xml files are in {osp.join(index, "")}: write ann_subdir={index!r}'
        if images and self.img_subdir not in images:
            text += f', img_subdir={images.most_common(1)[0][0]!r}'
        return text

    def _image_name(self, img_id: str, content: VOCFile) -> str:
        """Return the name of the image under img_prefix."""
        folder = osp.join(self.img_prefix, self.img_subdir)
        return osp.join(self.img_subdir, image_beside(folder, img_id, content.filename))

    def _annotation(self, content: VOCFile) -> Dict[str, np.ndarray]:
        """Select objects as V2 does: boxes and labels of the classes, ignored ones apart."""
        labels = np.array([self.cat2label.get(name, -1) for name in content.names], dtype=np.int64)
        ignored = content.difficult.copy()
        if self.min_size:
            ignored |= (content.boxes[:, 2:] - content.boxes[:, :2] < self.min_size).any(axis=1)
        used, ignored = (labels >= 0) & ~ignored, (labels >= 0) & ignored
        return dict(
            bboxes=content.boxes[used],
            labels=labels[used],
            bboxes_ignore=content.boxes[ignored],
            labels_ignore=labels[ignored])

    def part_file(self, indices: Sequence[int]) -> PartFile:
        """Return the list of some images."""
        return PartFile('.txt', ''.join(f'{self.data_infos[index]["id"]}\n' for index in indices),
                        {})

    def get_ann_info(self, idx: int) -> Dict[str, Any]:
        """Return bboxes float32 [n, 4], labels int64 [n], bboxes_ignore [k, 4], labels_ignore [k]."""
        info = self.data_infos[idx]
        if 'ann' not in info:  # of a user's own load_annotations, as in V2
            return self._annotation(self._read_xml(info['id']))
        return info['ann']

    def _is_empty(self, index: int, info: Dict[str, Any]) -> bool:
        return not self.get_cat_ids(index)

    def get_cat_ids(self, idx: int) -> List[int]:
        """Return the labels of the objects of sample `idx`, including difficult ones, as in V2."""
        annotation = self.get_ann_info(idx)
        return annotation['labels'].tolist() + annotation['labels_ignore'].tolist()


@recognizes('voc', 'PASCAL VOC xml')
def find_voc(tree: Tree) -> Dict[str, Part]:
    """Find xml files of PASCAL VOC with their images: splits by lists, such as ImageSets/Main, or by folders."""
    folders = folders_like(tree, '.xml',
                           lambda text: re.search(r'<annotation[\s>]', text) is not None)
    return parts_of(tree, pieces_of(tree, folders), 'XMLDataset',
                    lambda path: read_voc_xml(path).names, '.xml')
