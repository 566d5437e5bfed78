"""Conversion of other annotations to a COCO json."""
import difflib
import glob
import json
import os
import os.path as osp
from collections import Counter
from typing import (Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional,
                    Sequence, Tuple)

import numpy as np

from mmdet_ft.datasets.annotations.coco_file import area_of
from mmdet_ft.datasets.annotations.image_lists import Spelling, plain, read_ids
from mmdet_ft.datasets.annotations.packed import segmentation_fault
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import image_size, is_image_name, read_head
from mmdet_ft.datasets.images.names import find_image
from mmdet_ft.datasets.images.sizes import choose_fitting_size, mismatch
from mmdet_ft.outputs import Inputs, atomic_file

MOST_EXAMPLES = 5


class ImageObjects(NamedTuple):
    """An image and its n objects."""
    file_name: str  # under img_prefix
    width: int
    height: int
    names: List[str]  # [n]
    boxes: np.ndarray  # float [n, 4], x1 y1 x2 y2
    crowd: np.ndarray  # bool [n]; becomes iscrowd: neither a true nor a false positive
    segmentations: Optional[List[Any]] = None  # [n], in COCO's forms
    left_out: Mapping[str, int] = {}  # kind of non-object in the file -> count
    areas: Optional[Sequence[float]] = None  # [n]; by default those of the segmentations
    changed: Mapping[str, int] = {}  # kind of object, and how it is taken -> count
    attributes: Optional[Sequence[Dict[str, Any]]] = None  # [n], further values of the objects


class Converted(NamedTuple):
    content: Dict[str, Any]  # images, annotations, categories
    num_flat: int  # boxes without area, dropped
    other_names: Dict[str, int]  # names of dropped objects that `classes` does not list
    left_out: Dict[str, int]  # see ImageObjects
    spelling: Spelling  # of the names
    changed: Dict[str, int]  # see ImageObjects


class ImageFolder:
    """The folder of the images of a conversion; it finds each image, even if its name is spelled differently.

    `missing` are the names without a file, `renamed` pairs of the written and the existing name.
    `resized` are the names of images whose size differs from their annotations; the image's size is
    used.
    """

    def __init__(self, root: str):
        self.root = root
        self.missing: List[str] = []
        self.renamed: List[Tuple[str, str]] = []
        self.resized: List[str] = []

    def find(self, name: str) -> Optional[str]:
        """Return the name of the file, relative to the folder; return None and count it if the file is missing."""
        if osp.isfile(osp.join(self.root, name)):
            return name
        found = find_image(self.root, name)
        if found is None:
            self.missing.append(name)
            return None
        self.renamed.append((name, found.name))
        return found.name

    def size(self, name: str) -> Tuple[int, int]:
        """Return width and height of a found image, as it is loaded; raise DataError if it is not an image."""
        return image_size(osp.join(self.root, name))

    def settled_size(self, name: str, listed: Optional[Tuple[int, int]], boxes: np.ndarray,
                     where: str) -> Tuple[int, int]:
        """Return width and height of an image whose annotations may also list them: the file decides.

        boxes: [n, 4], x1 y1 x2 y2. where: the annotations, for messages. Raises DataError if the
        listed size differs and the boxes may belong to it: they would not be at the objects.
        """
        size = self.size(name)
        if listed in (None, size):
            return size
        fit = choose_fitting_size(boxes, listed, size)
        if fit != 'loaded' and len(boxes):
            found = mismatch(listed, size, read_head(osp.join(self.root, name)).orientation, fit)
            raise DataError(
                f'{where}: its image {name!r} is listed as {listed[0]} x {listed[1]} pixels (width x height), and it '
                f'is {size[0]} x {size[1]}: {found.text}. To fix: {found.fix}')
        self.resized.append(name)
        return size

    def report(self) -> List[str]:
        """Return messages about renamed files, and about missing ones that are dropped."""
        lines = []
        if self.renamed:
            pairs = ', '.join(f'{old!r} is {new!r}' for old, new in self.renamed[:3])
            lines.append(f'found under another name: {len(self.renamed)} images ({pairs}'
                         f'{" ..." if len(self.renamed) > 3 else ""})')
        if self.resized:
            lines.append(
                f'listed in another size than the image has, which is taken: {len(self.resized)} images '
                f'({_listed(self.resized)})')
        if self.missing:
            lines.append(
                f'left out, because they are not in {self.root!r}: {len(self.missing)} images '
                f'({_listed(self.missing)})')
        return lines

    def refuse_nothing(self, num_found: int) -> None:
        """Raise DataError if no image was found at all."""
        if num_found or not self.missing:
            return
        raise DataError(
            f'not one of the {len(self.missing)} images is in {self.root!r}, such as {self.missing[0]!r}'
            f'{where_images_are(self.root)}; name the folder that the file names start from')


def where_images_are(root: str) -> str:
    """Return which folders below `root` hold images, as the end of a sentence."""
    counts = files_by_folder(root, is_image_name)
    shown = ', '.join(f'{count} in {folder}/' for folder, count in counts.most_common(3))
    return f' (images below it: {shown})' if shown else ' (no image is below it)'


def files_by_folder(root: str, is_wanted: Callable[[str], bool], most: int = 100000) -> Counter:
    """Count the wanted files in each folder below `root`, by its relative name; hidden ones are skipped."""
    counts: Counter = Counter()
    seen = 0
    for path, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith('.') and name != '__MACOSX']
        number = sum(1 for name in files if not name.startswith('.') and is_wanted(name))
        if number:
            counts[osp.relpath(path, root)] = number
        seen += len(files)
        if seen > most:
            break
    return counts


def listed_or_all(root: str, ann_subdir: str, img_subdir: str, ending: str,
                  listed: Optional[str]) -> List[str]:
    """Return the names of the annotation files of a conversion, one per image: those in a text file, or all.

    Raises DataError with the folders of annotations and images if there are none in ann_subdir.
    """
    if not osp.isdir(root):
        raise DataError(f'there is no folder {root!r}')
    if listed is not None:
        names = read_ids(listed)
        if not names:
            raise DataError(f'{listed} lists no image')
        return names
    folder = osp.join(root, ann_subdir)
    files = sorted(glob.glob(osp.join(glob.escape(folder), f'*{ending}')))
    if files:
        return [osp.splitext(osp.basename(path))[0] for path in files]
    text = f'there is no {ending[1:]} file in {folder}'
    counts = files_by_folder(root, lambda name: name.endswith(ending))
    if counts:
        index, count = counts.most_common(1)[0]
        text += f'; {count} {"are" if count > 1 else "is"} in {osp.join(index, "")}: --ann-subdir {index}'
        images = files_by_folder(root, is_image_name)
        if images and img_subdir not in images:
            text += f' --img-subdir {images.most_common(1)[0][0]}'
        elif not images:
            text = _images_beside(root, index) or text
    raise DataError(text)


def _images_beside(root: str, ann_subdir: str) -> str:
    """Return the advice for a folder of annotations whose images are next to it, and not below."""
    above = osp.dirname(osp.abspath(root))
    images = files_by_folder(above, is_image_name, 20000)
    if not images:
        return ''
    index, count = images.most_common(1)[0]
    own = osp.normpath(osp.join(osp.basename(osp.abspath(root)), ann_subdir))
    given = osp.dirname(root.rstrip('/' + os.sep)) or '.'
    return (
        f'there is no image below {root}, and {count} are in {osp.normpath(osp.join(given, index))}: write '
        f'{given} --ann-subdir {own} --img-subdir {index}')


def folder_of_images(root: str, img_subdir: str, ann_subdir: str) -> None:
    """Raise DataError, with the folders that hold images, if img_subdir of root is missing."""
    if osp.isdir(osp.join(root, img_subdir)):
        return
    images = files_by_folder(root, is_image_name)
    text = f'there is no folder {osp.join(root, img_subdir)}'
    if images:
        index, count = images.most_common(1)[0]
        text += f'; {count} images are in {osp.join(index, "")}: --img-subdir {index}'
    else:
        text = _images_beside(root, ann_subdir) or text
    raise DataError(text)


def to_coco(images: Iterable[ImageObjects], classes: Optional[Sequence[str]] = None) -> Converted:
    """Convert the images to COCO's dicts, with ids from 1 on.

    classes: the categories in their order; by default all names that occur, sorted.
    """
    records, annotations, num_flat = [], [], 0
    others: Counter = Counter()
    left_out: Counter = Counter()
    changed: Counter = Counter()
    spelling = Spelling(classes or ())
    for image in images:
        image_id = len(records) + 1
        left_out.update(image.left_out)
        changed.update(image.changed)
        records.append(
            dict(id=image_id, file_name=image.file_name, width=image.width, height=image.height))
        for index, (name,
                    box) in enumerate(zip(map(spelling.of, image.names), image.boxes.tolist())):
            if classes is not None and name not in classes:
                others[name] += 1
                continue
            x1, y1, x2, y2 = box
            if not (x2 > x1 and y2 > y1):
                num_flat += 1
                continue
            annotations.append({
                'id': len(annotations) + 1,  # from 1: pycocotools treats id 0 as no instance
                'image_id': image_id,
                'category_id': name,  # replaced by its number below
                **_annotation(image, index, name)
            })
    if classes is None:
        classes = sorted({annotation['category_id'] for annotation in annotations})
    id_of = {name: index for index, name in enumerate(classes, 1)}
    for annotation in annotations:
        annotation['category_id'] = id_of[annotation['category_id']]
    categories = [dict(id=index, name=name) for name, index in id_of.items()]
    return Converted(
        dict(images=records, annotations=annotations, categories=categories), num_flat,
        dict(others), dict(left_out), spelling, dict(changed))


def _annotation(image: ImageObjects, index: int, name: str) -> Dict[str, Any]:
    """Return the dict of an object, without ids; DataError for a segmentation that is not COCO's."""
    x1, y1, x2, y2 = image.boxes[index].tolist()
    annotation: Dict[str, Any] = dict(
        bbox=[x1, y1, x2 - x1, y2 - y1], iscrowd=int(image.crowd[index]))
    if image.segmentations is not None:
        annotation['segmentation'] = image.segmentations[index]
        fault = segmentation_fault(image.segmentations[index], image.height, image.width)
        if fault is not None:
            raise DataError(
                f'{image.file_name}: the segmentation of object {index + 1} ({name!r}) {fault}')
    annotation['area'] = area_of(annotation, image.height, image.width) if image.areas is None \
        else image.areas[index]
    if image.attributes is not None and image.attributes[index]:
        annotation['attributes'] = image.attributes[index]
    return annotation


class Joined:
    """The images of a conversion, each file once: objects of further records are added to the first.

    `double` names the files with several records; `num_same` counts objects that occur twice, of
    which one is kept.
    """

    def __init__(self, images: Iterable[ImageObjects], root: str = ''):
        self._images = images
        self._root = root
        self.double: List[str] = []
        self.num_same = 0

    def __iter__(self) -> Iterator[ImageObjects]:
        indices: Dict[str, int] = {}
        found: List[ImageObjects] = []
        for image in self._images:
            key = osp.realpath(osp.join(self._root, image.file_name))
            if key not in indices:
                indices[key] = len(found)
                found.append(image)
                continue
            self.double.append(image.file_name)
            first = found[indices[key]]
            known = set(zip(first.names, map(tuple, first.boxes.tolist())))
            new = [
                index
                for index, item in enumerate(zip(image.names, map(tuple, image.boxes.tolist())))
                if item not in known
            ]
            self.num_same += len(image.names) - len(new)
            found[indices[key]] = first._replace(
                names=first.names + [image.names[index] for index in new],
                boxes=np.concatenate([first.boxes, image.boxes[new]]),
                crowd=np.concatenate([first.crowd, image.crowd[new]]),
                segmentations=_both(first.segmentations, image.segmentations, new),
                areas=_both(first.areas, image.areas, new),
                left_out=Counter(first.left_out) + Counter(image.left_out),
                changed=Counter(first.changed) + Counter(image.changed),
                attributes=_both(first.attributes, image.attributes, new))
        return iter(found)

    def report(self) -> List[str]:
        """Return messages about files that were listed several times."""
        if not self.double:
            return []
        same = f', and {self.num_same} objects are the same in both: one is kept' if self.num_same else ''
        return [
            f'listed several times, and joined: {len(self.double)} images ({_listed(self.double)}){same}'
        ]


def _both(first: Optional[Sequence[Any]], other: Optional[Sequence[Any]],
          indices: List[int]) -> Optional[List[Any]]:
    return None if first is None or other is None else [
        *first, *(other[index] for index in indices)
    ]


def refuse_existing(path: str, force: bool, inputs: Iterable[str] = ()) -> None:
    """Raise DataError for an existing file, unless `force`, and OutputError for one of the `inputs`."""
    if osp.isdir(path):
        raise DataError(f'--out {path} is a folder; name the json file to write, such as '
                        f'{osp.join(path, "train.json")}')
    if not osp.exists(path):
        return
    Inputs(inputs).require_free(path, '--out')
    if not force:
        raise DataError(f'{path} is there already; name another file, or add --force to replace it')


def write_json(path: str, content: object) -> None:
    """Write a json, and make its folder. The file is written completely or not at all."""
    write_text(path, json.dumps(content))


def write_text(path: str, text: str) -> None:
    """Write a text file, and make its folder. The file is written completely or not at all."""
    try:
        with atomic_file(path) as file:
            file.write(text.encode('utf-8'))
    except OSError as error:
        raise DataError(f'cannot write {path}: {error.strerror or error}') from error


def write_coco(path: str,
               images: Iterable[ImageObjects],
               classes: Optional[Sequence[str]],
               force: bool,
               folder: Optional[ImageFolder] = None,
               inputs: Iterable[str] = ()) -> str:
    """Write the json of the images, and return messages: its content, dropped objects, and the next step.

    folder: of the images. inputs: files that are read, and so never written, like the images.

    Raises OutputError for a file that is read, and DataError for an existing file (unless `force`).
    DataError also means no image, or `classes` that are spelled differently in the files.
    """
    refuse_existing(path, force, inputs)
    joined = Joined(images, folder.root if folder is not None else '')
    converted = to_coco(joined, classes)
    content = converted.content
    if folder is not None:
        folder.refuse_nothing(len(content['images']))
    if not content['images']:
        raise DataError('there is no image to write: nothing was converted')
    if folder is not None:
        names = (osp.join(folder.root, image['file_name']) for image in content['images'])
        Inputs(names).require_free(path, '--out')
    if classes is not None:
        refuse_misspelt(classes, content, converted.other_names)
    write_json(path, content)
    crowds = sum(annotation['iscrowd'] for annotation in content['annotations'])
    names = tuple(category['name'] for category in content['categories'])
    lines = [
        f'{len(content["images"])} images, {len(content["annotations"])} objects ({crowds} to ignore) -> {path}',
        f'classes = {names!r}'
    ]
    if folder is not None:
        lines += [f'img_prefix = {osp.join(folder.root, "")!r}', *folder.report()]
    lines += [*joined.report(), *changes_of(converted)]
    if not content['annotations']:
        lines.append('no object: there is nothing to learn from this file')
    lines += _alike(names)
    return '\n'.join(lines)


def changes_of(converted: Converted) -> List[str]:
    """Return messages about objects that are not in the json as they are in the files."""
    lines = []
    if converted.spelling.matched:
        lines.append(str(converted.spelling))
    if converted.left_out:
        lines.append('left out: ' + ', '.join(f'{count} {what}'
                                              for what, count in converted.left_out.items()))
    lines += [f'{count} {what}' for what, count in converted.changed.items()]
    if converted.num_flat:
        lines.append(f'left out, because they have no area: {converted.num_flat} boxes')
    if converted.other_names:
        shown = [f'{name!r} ({count})' for name, count in converted.other_names.items()]
        lines.append(f'not among the classes, left out: {", ".join(shown)}')
    return lines


def refuse_misspelt(classes: Sequence[str], content: Dict[str, Any], others: Mapping[str,
                                                                                     int]) -> None:
    """Raise DataError when a class without objects is spelled nearly like a name that would be dropped."""
    used = {annotation['category_id'] for annotation in content['annotations']}
    absent = [name for index, name in enumerate(classes, 1) if index not in used]
    of_key = {plain(name): name for name in others}
    meant = {name: of_key[plain(name)] for name in absent if plain(name) in of_key}
    if len(absent) == len(classes):
        for name in absent:
            close = difflib.get_close_matches(plain(name), of_key, n=1, cutoff=.7)
            if close:
                meant.setdefault(name, of_key[close[0]])
    if not meant and (len(absent) < len(classes) or not others):
        return
    listed = ', '.join(f'{name!r} ({count})' for name, count in others.items())
    text = 'did you mean ' + ', '.join(f'{other!r} for {name!r}'
                                       for name, other in meant.items()) + '? ' if meant else ''
    line = ' '.join(_quoted(meant.get(name, name)) for name in (classes if meant else others))
    raise DataError(
        f'no object is of {", ".join(map(repr, absent))}, and the files have {listed}: {text}'
        f'Write --classes {line}')


def _alike(names: Sequence[str]) -> List[str]:
    """Return a line on names that differ only in case or spaces."""
    groups: Dict[str, List[str]] = {}
    for name in names:
        groups.setdefault(plain(name), []).append(name)
    pairs = [' and '.join(map(repr, group)) for group in groups.values() if len(group) > 1]
    return [f'written alike, and two classes: {", ".join(pairs)}; give them one name in the files'
            ] if pairs else []


def _quoted(name: str) -> str:
    return f"'{name}'" if ' ' in name else name


def _listed(names: Sequence[str]) -> str:
    return ', '.join(map(repr,
                         names[:MOST_EXAMPLES])) + (' ...' if len(names) > MOST_EXAMPLES else '')
