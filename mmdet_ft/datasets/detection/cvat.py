"""CVAT's own xml files: 'CVAT for images 1.1', and tracks of 'CVAT for video 1.1' whose frames are images."""
import functools
import html
import os.path as osp
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from mmdet_ft.datasets.annotations.bounds import read_corner, read_size, refuse_far
from mmdet_ft.datasets.annotations.image_lists import Spelling
from mmdet_ft.datasets.annotations.outlines import (box_around, ellipse, join_parts, runs_of_crop,
                                                    turned_box)
from mmdet_ft.datasets.annotations.to_coco import ImageFolder, ImageObjects
from mmdet_ft.datasets.annotations.values import read_flag, read_name, read_whole
from mmdet_ft.datasets.annotations.xml_lines import Element, read_xml
from mmdet_ft.datasets.detection.converted import ConvertedDataset, Source
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import image_size
from mmdet_ft.datasets.images.folders import images_below
from mmdet_ft.datasets.layouts.found import Part, recognizes
from mmdet_ft.datasets.layouts.tree import ALL, Tree, by_split, only_each, split_of
from mmdet_ft.registry import DATASETS

SHAPES = ('box', 'polygon', 'mask', 'ellipse')
WITHOUT_AREA = ('points', 'polyline', 'cuboid', 'skeleton', 'tag')
IGNORED_BY = ('is_crowd', 'iscrowd', 'crowd', 'ignore', 'ignored', 'difficult')  # attributes
SIDES = ('xtl', 'ytl', 'xbr', 'ybr')
ROTATED = 'rotated boxes are taken as the upright boxes around them'
Outline = Union[List[float], Dict[str, Any]]  # polygon [x0, y0, x1, ...], or run lengths


class Frame(NamedTuple):
    """An image of a file, or a frame of a video."""
    name: str  # of the image, relative to img_prefix
    size: Optional[Tuple[int, int]]  # width and height, where the file has them
    shapes: List[Element]
    line: int
    subset: str = ''


def read_cvat(path: str,
              prefix: str,
              folder: Optional[ImageFolder] = None,
              subset: Optional[str] = None) -> Tuple[List[ImageObjects], List[str]]:
    """Read the images of a file, and the labels that it lists; DataError names the path and the faulty line.

    Boxes, polygons, masks and ellipses become objects. Polygons and masks of one label and one group_id are one
    object. Points, polylines, cuboids, skeletons and tags are counted in `left_out`.

    prefix: folder of the images. folder: the same as a finder: images that it does not find are left out, and the
    size of an image is that of its file. subset: read only the images of this subset.
    """
    root = read_xml(path)
    if root.tag != 'annotations':
        raise DataError(f"{path}:{root.line}: it is not CVAT's xml: it is <{root.tag:.40}>, "
                        f'expected <annotations>')
    images = []
    for frame in _frames(root, path, prefix):
        if subset is not None and frame.subset != subset:
            continue
        image = _read_frame(frame, path, prefix, folder)
        if image is not None:
            images.append(image)
    if not images and subset is not None:
        known = sorted({element.attributes.get('subset', '') for element in root.below('image')})
        raise DataError(f'{path} has no image of subset {subset!r}; it has '
                        f'{", ".join(map(repr, known))}')
    return images, labels_of(root)


def labels_of(root: Element) -> List[str]:
    """Return the labels that <meta> lists for shapes with an area, in their order."""
    meta = root.child('meta')
    found = []
    for label in meta.below('label') if meta is not None else ():
        name, kind = label.child('name'), label.child('type')
        if name is None or not name.text or label.child('parent') is not None:
            continue
        if kind is None or kind.text not in WITHOUT_AREA:
            found.append(name.text)
    return list(dict.fromkeys(found))


def _frames(root: Element, path: str, prefix: str) -> List[Frame]:
    tracks = [child for child in root.children if child.tag == 'track']
    images = [child for child in root.children if child.tag == 'image']
    if tracks and images:
        raise DataError(f'{path}:{tracks[0].line}: it has images and tracks; export one of both: '
                        f"'CVAT for images 1.1' or 'CVAT for video 1.1'")
    if tracks:
        return list(_frames_of_tracks(root, tracks, path, prefix))
    return [_frame_of_image(image, path, prefix) for image in images]


def _frame_of_image(image: Element, path: str, prefix: str) -> Frame:
    try:
        name = read_name(image.attributes.get('name'), 'the name of a file').replace('\\', '/')
        size = read_size(image.attributes.get('width'), image.attributes.get('height'))
    except ValueError as error:
        raise DataError(f'{path}:{image.line}: an image has a fault: {error}') from None
    subset = image.attributes.get('subset', '')
    if subset and not osp.isfile(osp.join(prefix, name)) and osp.isfile(
            osp.join(prefix, subset, name)):
        name = f'{subset}/{name}'
    return Frame(name, size, image.children, image.line, subset)


def _read_frame(frame: Frame, path: str, prefix: str,
                folder: Optional[ImageFolder]) -> Optional[ImageObjects]:
    """Read the objects of an image; None if `folder` does not have it."""
    name, size = frame.name, frame.size
    if folder is not None:
        found = folder.find(name)
        if found is None:
            return None
        name = found
        larger = size or folder.size(name)
        boxes = _read_objects(frame, path, name, *larger).boxes
        size = folder.settled_size(name, frame.size, boxes, f'{path}:{frame.line}')
    if size is None:
        size = image_size(osp.join(prefix, name))
    return _read_objects(frame, path, name, *size)


def _read_objects(frame: Frame, path: str, name: str, width: int, height: int) -> ImageObjects:
    left_out: Dict[str, int] = Counter()
    changed: Dict[str, int] = Counter()
    parts: Dict[Any, List[Outline]] = {}
    facts: Dict[Any, Tuple[str, bool, bool, Dict[str, Any]]] = {}
    for index, shape in enumerate(frame.shapes):
        reason = _why_left_out(shape)
        if reason:
            left_out[reason] += 1
            continue
        try:
            outline = _outline(shape, height, width, changed)
            label, is_ignored, attributes = _facts(shape)
        except ValueError as error:
            raise DataError(f'{path}:{shape.line}: a {shape.tag} of {frame.name!r:.100} '
                            f'{error}; correct it there, or take it out') from None
        group = shape.attributes.get('group_id', '0')
        key = (label, group) if shape.tag != 'box' and group not in ('', '0') else index
        parts.setdefault(key, []).append(outline)
        facts.setdefault(key, (label, is_ignored, shape.tag == 'box', attributes))
    objects = list(facts.values())
    return ImageObjects(
        file_name=name,
        width=width,
        height=height,
        names=[label for label, _, _, _ in objects],
        boxes=np.array([box_around(part) for part in parts.values()]).reshape(-1, 4),
        crowd=np.array([is_ignored for _, is_ignored, _, _ in objects], dtype=bool),
        segmentations=[
            None if is_box else join_parts(part, height, width)
            for part, (_, _, is_box, _) in zip(parts.values(), objects)
        ],
        left_out=left_out,
        changed=changed,
        attributes=[attributes for _, _, _, attributes in objects])


def _why_left_out(shape: Element) -> str:
    """Return the kind of an element that is no object; '' for an object."""
    if shape.tag in WITHOUT_AREA:
        return f'shapes without an area ({shape.tag})'
    if shape.tag not in SHAPES:
        return f'elements <{shape.tag:.40}>'
    return 'shapes outside the image (outside)' if shape.attributes.get('outside') == '1' else ''


def _facts(shape: Element) -> Tuple[str, bool, Dict[str, Any]]:
    """Return the label of a shape, whether it is to be ignored, and its attributes."""
    try:
        label = read_name(shape.attributes.get('label'), 'the name of a class').strip()
    except ValueError as error:
        raise ValueError(f'has a label that {error}') from None
    attributes = {
        item.attributes.get('name', ''): item.text
        for item in shape.children if item.tag == 'attribute'
    }
    is_ignored = False
    for key in attributes:
        if key.strip().lower() in IGNORED_BY:
            try:
                is_ignored |= read_flag(attributes[key] or None)
            except ValueError as error:
                raise ValueError(f'has an attribute {key!r} that {error}') from None
    return label, is_ignored, attributes


def _outline(shape: Element, height: int, width: int, changed: Dict[str, int]) -> Outline:
    """Return the polygon of a shape, or the run lengths of a mask."""
    if shape.tag == 'mask':
        left, top, crop = _crop_of(shape, height, width)
        return runs_of_crop(crop, left, top, height, width)
    if shape.tag == 'polygon':
        outline = _points(shape.attributes.get('points', ''))
    elif shape.tag == 'ellipse':
        x, y, rx, ry = (_number(shape, key) for key in ('cx', 'cy', 'rx', 'ry'))
        outline = ellipse(x, y, rx, ry, np.deg2rad(_number(shape, 'rotation', '0')))
    else:
        x1, y1, x2, y2 = (_number(shape, side) for side in SIDES)
        turn = _number(shape, 'rotation', '0')
        outline = [x1, y1, x2, y1, x2, y2, x1, y2]
        if turn % 180:
            outline = turned_box([x1, y1, x2, y2], ((x1 + x2) / 2, (y1 + y2) / 2), turn)
            changed[ROTATED] += 1
    refuse_far(np.array(outline).reshape(-1, 2), height, width)
    return outline


def _number(shape: Element, key: str, default: Optional[str] = None) -> float:
    value = shape.attributes.get(key, default)
    if value is None:
        raise ValueError(f'has no {key}')
    try:
        return read_corner(value)
    except ValueError as error:
        raise ValueError(f'has a fault: {key} {error}') from None


def _points(text: str) -> List[float]:
    points = [pair.split(',') for pair in text.split(';') if pair.strip()]
    wrong = next((pair for pair in points if len(pair) != 2), None)
    if wrong is not None:
        raise ValueError(f'has the point {",".join(wrong)!r:.60}, expected x,y')
    if len(points) < 3:
        raise ValueError(f'has {len(points)} points, expected 3 or more: x,y;x,y;...')
    try:
        return [read_corner(value) for pair in points for value in pair]
    except ValueError as error:
        raise ValueError(f'has a point that {error}') from None


def _crop_of(shape: Element, most_high: int, most_wide: int) -> Tuple[int, int, np.ndarray]:
    """Return left and top of a mask, and its bitmap, bool [h, w]: run lengths row by row, zeros first."""
    left, top = (int(_number(shape, key)) for key in ('left', 'top'))
    try:
        width, height = (read_whole(
            shape.attributes.get(key), f'a {key} in pixels, inside the image', 1, most)
                         for key, most in (('width', most_wide), ('height', most_high)))
        words = re.split(r'[,\s]+', shape.attributes.get('rle', '').strip())
        counts = [read_whole(word, 'a number of pixels', 0) for word in words]
    except ValueError as error:
        raise ValueError(f'has a fault: one {error}') from None
    if sum(counts) != width * height:
        raise ValueError(f'has run lengths of {sum(counts)} pixels, expected width x height: '
                         f'{width} x {height}')
    values = np.arange(len(counts)) % 2 > 0
    return left, top, values.repeat(counts).reshape(height, width)


# --- tracks of a video


def _frames_of_tracks(root: Element, tracks: Sequence[Element], path: str,
                      prefix: str) -> Iterator[Frame]:
    """Yield the frames of a video that exist as images, with the shapes of all tracks in them."""
    known = [(track, number, shape) for track in tracks for number, shape in _numbered(track, path)]
    images = _images_by_frame(sorted({number for _, number, _ in known}), path, prefix)
    _refuse_gaps(known, sorted(images), path)
    shapes: Dict[int, List[Element]] = {}
    for track, number, shape in known:
        if not _is_outside(shape):
            label = {'label': track.attributes.get('label', '')}
            shapes.setdefault(number,
                              []).append(shape._replace(attributes={
                                  **label,
                                  **shape.attributes
                              }))
    size = _video_size(root, path)
    for number, name in sorted(images.items()):
        found = shapes.get(number, [])
        yield Frame(name, size, found, found[0].line if found else root.line)


def _numbered(track: Element, path: str) -> Iterator[Tuple[int, Element]]:
    """Yield the number of the frame of each shape of a track, and the shape."""
    for shape in track.children:
        if 'frame' not in shape.attributes:
            continue
        try:
            yield read_whole(shape.attributes['frame'], 'the number of a frame', 0), shape
        except ValueError as error:
            raise DataError(f'{path}:{shape.line}: frame {error}') from None


def _refuse_gaps(known: Sequence[Tuple[Element, int, Element]], frames: Sequence[int],
                 path: str) -> None:
    """Raise DataError where a track has no shape in a frame between two of its shapes: only key frames."""
    for (track, number, shape), (other, later, after) in zip(known, known[1:]):
        between = bisect_left(frames, later) > bisect_right(frames, number)
        if track is other and between and not _is_outside(shape):
            raise DataError(
                f'{path}:{after.line}: track {track.attributes.get("id")} has no shape between the '
                f'frames {number} and {later}; export all frames, not key frames alone')


def _is_outside(shape: Element) -> bool:
    return shape.attributes.get('outside') == '1'


def _images_by_frame(used: Sequence[int], path: str, prefix: str) -> Dict[int, str]:
    """Return the image of each frame: by the last number in its name, or by its index in the sorted folder."""
    names = [osp.relpath(image, prefix or '.') for image in images_below(prefix or '.')]
    if not names:
        raise DataError(f'{path} has tracks of a video, and there is no image in {prefix!r}; '
                        f'export the frames as images beside it')
    numbers = [re.findall(r'\d+', osp.splitext(osp.basename(name))[0]) for name in names]
    by_number = {int(found[-1][-18:]): name for found, name in zip(numbers, names) if found}
    if len(by_number) == len(names) and set(used) & set(by_number):
        return by_number
    last = max(used, default=0)
    if len(names) <= last:
        raise DataError(
            f'{path} has tracks up to frame {last}, and the {len(names)} images of {prefix!r} '
            f'bear no numbers of frames, such as {names[0]!r}')
    return dict(enumerate(names))


def _video_size(root: Element, path: str) -> Optional[Tuple[int, int]]:
    found = next(root.below('original_size'), None)
    if found is None:
        return None
    sides = [found.child(key) for key in ('width', 'height')]
    try:
        return read_size(*(None if side is None else side.text for side in sides))
    except ValueError as error:
        raise DataError(f'{path}:{found.line}: original_size: {error}') from None


def default_folder(path: str) -> str:
    """Return the folder of a file's images: `images` beside it, or its own."""
    beside = osp.join(osp.dirname(path), 'images')
    return beside if osp.isdir(beside) else osp.dirname(path)


@DATASETS.register_module()
class CVATDataset(ConvertedDataset):
    """Shapes of CVAT's own xml file; the metrics are COCO's.

    Read are boxes, polygons, masks and ellipses of 'CVAT for images 1.1', and of 'CVAT for video 1.1' whose frames
    are images. A shape with an attribute is_crowd, ignore or difficult of true is neither right nor wrong to find.

    Args:
        ann_file: annotations.xml.
        img_prefix: folder of the images; default: `images` beside the file, or its own folder.
        classes: names; default: the labels that the file lists.
        subset: read only the images of a subset of a project, such as 'Train'.
        Others as CustomDataset.

    Raises DataError with file and line.
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
                 subset: Optional[str] = None):
        self.subset = subset
        super().__init__(ann_file, pipeline, classes, data_root, img_prefix, seg_prefix, seg_suffix,
                         proposal_file, test_mode, filter_empty_gt, file_client_args)

    def read_source(self, ann_file: str) -> Source:
        """Read the file."""
        prefix = self.img_prefix or default_folder(ann_file)
        images, labels = read_cvat(ann_file, prefix, subset=self.subset)
        if not images:
            raise DataError(f'{ann_file} lists no image')
        return Source(images, prefix, _all_names(images, labels))


def _all_names(images: Sequence[ImageObjects], labels: Sequence[str]) -> List[str]:
    """Return the labels that a file lists, and after them others of its objects, sorted."""
    spelling = Spelling(labels)
    used = {spelling.of(name) for image in images for name in image.names}
    return [*labels, *sorted(used - set(labels))]


def _names_in(path: str, prefix: str) -> List[str]:
    return _all_names(*read_cvat(path, prefix))


@recognizes('cvat', "CVAT's own xml")
def find_cvat(tree: Tree) -> Dict[str, Part]:
    """Find an annotations.xml: splits by the subsets of its images, or by the names of several files."""
    found = [
        path for path in tree.files('.xml') if re.search(r'<annotations[\s>]', tree.begin(path))
    ]
    parts = {}
    for split, path in only_each(by_split(found), 'xml files of CVAT', tree).items():
        with open(tree.path(path), 'rb') as file:
            text = file.read().decode('utf-8', 'replace')
        names = [
            html.unescape(name) for name in re.findall(r'<image\b[^>]*?\bname="([^"]*)"', text)
        ]
        prefix = tree.prefix_of(names, path).folder if names else tree.largest_folder()
        classes = functools.partial(_names_in, tree.path(path), tree.path(prefix))
        settings = dict(
            type='CVATDataset',
            ann_file=tree.path(path),
            img_prefix=osp.join(tree.path(prefix), ''))
        subsets = set(re.findall(r'<image\b[^>]*?\bsubset="([^"]*)"', text))
        splits = {split_of(subset): subset for subset in subsets}
        if split == ALL and 'train' in splits and len(splits) == len(subsets):
            for name, subset in splits.items():
                parts[name] = Part({
                    **settings, 'subset': html.unescape(subset)
                },
                                   path,
                                   classes=classes)
        else:
            parts[split] = Part(settings, path, classes=classes)
    return parts
