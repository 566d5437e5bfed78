"""Masks in image files: a file for each object, or one for all objects of an image."""
import functools
import os
import os.path as osp
import unicodedata
from collections import Counter
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
import pycocotools.mask as mask_api
from PIL import Image

from mmdet_ft.command_names import how_to_run
from mmdet_ft.datasets.annotations.to_coco import (ImageObjects, changes_of, to_coco,
                                                   where_images_are)
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import is_image_name, read_head
from mmdet_ft.datasets.layouts.found import DRAWN, Content, Part, recognizes
from mmdet_ft.datasets.layouts.tree import ALL, Tree, split_of

MASK_ENDINGS = ('.png', '.tif', '.tiff', '.bmp', '.gif')
DEFAULT_CLASS = 'object'
MASK_FOLDERS = ('masks', 'mask', 'labels', 'label', 'annotations', 'gt')
SEPARATORS = '_-. '
VOID = 255  # in palette files, as in PASCAL VOC: the border of objects
SMALLEST = 3  # number of corners of a polygon
MOST_EXAMPLES = 5
MIRRORING = (2, 3, 4)  # orientations of EXIF that keep width and height


class Pair(NamedTuple):
    """An image and its masks; names are relative to the root."""
    image: str
    masks: List[str]
    is_whole: bool  # one file for all objects


# ------------------------------------------------------------------------------ which masks an image has


def find_pairs(root: str, masks: Optional[str]) -> Tuple[List[Pair], List[str]]:
    """Find the images of a folder and the masks of each; also return the masks without an image."""
    if not osp.isdir(root):
        raise DataError(f'there is no folder {root!r}')
    if masks is None:
        pairs = list(_folder_an_image(root))
        if pairs:
            return pairs, []
        inside = [name for name in sorted(os.listdir(root)) if name.lower() in MASK_FOLDERS]
        if len(inside) != 1:
            below = [name for name in _folders(root) if any(_folder_an_image(osp.join(root, name)))]
            fix = f'give {osp.join(root, below[0])!r}, whose folders hold an image each' if below \
                else 'name it with --masks'
            raise DataError(
                f'no folder of masks was found in {root!r}{where_images_are(root)}; {fix}')
        masks = osp.join(root, inside[0])
    if not osp.isdir(masks):
        raise DataError(f'there is no folder {masks!r}; --masks is the folder of the masks')
    images = _files(root, is_image_name)
    if osp.samefile(root, masks):
        images, found = _apart(images)
    else:
        images = [name for name in images if not _is_inside(osp.join(root, name), masks)]
        found = [osp.relpath(osp.join(masks, name), root) for name in _files(masks, _is_mask_name)]
    if not images:
        raise DataError(
            f'there is no image in {root!r} beside the masks; root is the folder of the images')
    if not found:
        raise DataError(
            f'there is no mask ({" ".join(MASK_ENDINGS)}) in {masks!r}{where_images_are(masks)}')
    return _matched(images, found, osp.relpath(masks, root))


def _folder_an_image(root: str) -> Iterator[Pair]:
    """Yield the pairs of the layout NAME/images/* and NAME/masks/*."""
    for name in _folders(root):
        folder = osp.join(root, name)
        if not osp.isdir(osp.join(folder, 'images')):
            continue
        images = _files(osp.join(folder, 'images'), is_image_name)
        if len(images) != 1:
            raise DataError(
                f'{osp.join(folder, "images")} holds {len(images)} images, expected one')
        found = [
            osp.join(name, inside, mask) for inside in ('masks', 'mask')
            for mask in _files(osp.join(folder, inside), _is_mask_name)
        ]
        yield Pair(osp.join(name, 'images', images[0]), found, False)


def _folders(root: str) -> List[str]:
    """List the folders in a folder, sorted, without hidden ones."""
    return [
        name for name in sorted(os.listdir(root))
        if not name.startswith('.') and osp.isdir(osp.join(root, name))
    ]


def _files(folder: str, is_wanted: Callable[[str], bool]) -> List[str]:
    """List the files in a folder and its subfolders, relative to it, sorted, without hidden ones."""
    found = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith('.') and name != '__MACOSX']
        found += [
            osp.relpath(osp.join(path, name), folder) for name in files
            if not name.startswith('.') and is_wanted(name)
        ]
    return sorted(found)


def _is_mask_name(name: str) -> bool:
    return name.lower().endswith(MASK_ENDINGS)


def _is_inside(path: str, folder: str) -> bool:
    return osp.abspath(path).startswith(osp.join(osp.abspath(folder), ''))


def _apart(names: List[str]) -> Tuple[List[str], List[str]]:
    """Separate images and masks of one folder: the name of a mask begins with that of an image."""
    stems = {_stem(name) for name in names}
    masks = [
        name for name in names
        if _is_mask_name(name) and _owner(_stem(name), stems - {_stem(name)})
    ]
    return [name for name in names if name not in set(masks)], masks


def _stem(name: str) -> str:
    # NFC: macOS may decompose the accents of a name, and other systems keep them decomposed
    return unicodedata.normalize('NFC', osp.splitext(name)[0])


def _owner(stem: str, stems: 'set[str]') -> Optional[str]:
    """Return the longest of `stems` that a mask's name begins with, up to a separator."""
    if stem in stems:
        return stem
    for end in range(len(stem) - 1, stem.rfind(os.sep) + 1, -1):
        if stem[end] in SEPARATORS and stem[:end] in stems:
            return stem[:end]
    return None


def _matched(images: List[str], masks: List[str], masks_below: str) -> Tuple[List[Pair], List[str]]:
    """Match masks to images by name: NAME.png, NAME_*.png, NAME/*.png, also in the same folders as the images."""
    of_stem: Dict[str, List[str]] = {}
    for image in images:
        parts = _stem(image).split(os.sep)
        for index in range(len(parts)):  # a/b/c: the whole, b/c and c
            of_stem.setdefault(os.sep.join(parts[index:]), []).append(image)
    stems = set(of_stem)
    of_case: Dict[str, List[str]] = {}
    for stem in of_stem:
        of_case.setdefault(stem.casefold(), []).append(stem)
    cases = set(of_case)
    of_image: Dict[str, List[str]] = {image: [] for image in images}
    strangers, exact = [], set()
    for mask in masks:
        stem = _stem(osp.relpath(mask, masks_below))
        folder, name = osp.split(stem)
        owner = next((key for key in (stem, folder, osp.basename(folder)) if key in stems), None)
        owner = owner or _owner(stem, stems) or _owner(name, stems)
        if owner is None:  # ignore case if only one image matches
            folded = _owner(stem.casefold(), cases) or _owner(name.casefold(), cases)
            meant = of_case.get(folded, ())
            owner = meant[0] if len(meant) == 1 else None
        if owner is None:
            strangers.append(mask)
            continue
        owners = of_stem[owner]
        if len(owners) > 1:
            raise DataError(
                f'the mask {mask} bears the name of {len(owners)} images: {", ".join(owners[:MOST_EXAMPLES])}; '
                f'put the masks in folders as the images are, or rename the images')
        if osp.basename(owner).casefold() == name.casefold():
            exact.add(owners[0])
        of_image[owners[0]].append(mask)
    single = sum(len(found) == 1 for found in of_image.values())
    several = sum(len(found) > 1 for found in of_image.values())
    # NAME.png, or NAME_mask.png if no image has several
    whole = len(exact) > 0 or (single > 1 and not several)
    return [Pair(image, found, whole and len(found) == 1)
            for image, found in of_image.items()], strangers


# ------------------------------------------------------------------------------ what is in a mask


def read_values(path: str) -> Tuple[np.ndarray, bool]:
    """Read the values of a mask [H, W], one number per color, and whether they are palette indices."""
    try:
        with Image.open(path) as image:
            pages = getattr(image, 'n_frames', 1)
            if pages > 1:
                raise DataError(
                    f'the mask {path} has {pages} pages, expected 1; write each to a file of its own'
                )
            values = np.asarray(image)
            has_palette = image.mode == 'P'
    except DataError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f'cannot read the mask {path}: {error}') from error
    if values.ndim == 3:
        alpha = values[..., -1] if values.shape[2] in (2, 4) else None
        colours = values[..., :3] if values.shape[2] >= 3 else values[..., :1]
        weights = 256**np.arange(colours.shape[2], dtype=np.int64)
        numbers = (colours.astype(np.int64) * weights).sum(-1)
        grey = (colours == colours[..., :1]).all()
        numbers = colours[..., 0].astype(np.int64) if grey else numbers
        if alpha is not None and not numbers.any():
            numbers = alpha.astype(np.int64) if not (alpha == 255).all() else numbers
        elif alpha is not None:
            numbers = np.where(alpha > 0, numbers, 0)
        values = numbers
    if values.dtype.kind == 'f' and (np.isfinite(values) & (values == np.round(values))).all():
        values = values.astype(np.int64)  # labels that were saved as floats
    if values.ndim != 2 or values.dtype.kind not in 'biu':
        raise DataError(
            f'the mask {path} has values of {values.dtype} that are no whole numbers, expected a number of each object'
        )
    return values.astype(np.int64), has_palette


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate the mask of an image as stored to match the image as loaded (EXIF orientation 5 to 8)."""
    return {
        5: lambda: values.T,
        6: lambda: np.rot90(values, -1),
        7: lambda: np.rot90(values, 2).T,
        8: lambda: np.rot90(values)
    }[orientation]()


class Masks:
    """The reader for the masks of a dataset, with counts for the report.

    classes: value -> name; None if each value is an object of `class_name`.
    """

    def __init__(self, root: str, class_name: str, classes: Optional[Dict[int, str]],
                 polygons: bool):
        self.root = root
        self.class_name = class_name
        self.classes = classes
        self.polygons = polygons
        self.counts: Counter = Counter()  # finding -> how often
        self.others: Counter = Counter()  # value without a class -> number of masks
        self.wrong_sizes: List[str] = []
        self.by_regions = False  # objects are connected regions, not values

    def look_ahead(self, pairs: Sequence[Pair]) -> None:
        """Set `by_regions`: True if values are classes, or if all masks have one and the same value."""
        if self.classes is not None:
            self.by_regions = True
            return
        values = set()
        whole = [pair.masks[0] for pair in pairs if pair.is_whole]
        for mask in whole:
            found = read_values(osp.join(self.root, mask))[0]
            values |= set(np.unique(found).tolist()) - {0}
            if len(values) > 1:
                return
        self.by_regions = bool(values)

    def read(self, pair: Pair) -> ImageObjects:
        """Read the objects of an image."""
        path = osp.join(self.root, pair.image)
        try:
            head = read_head(path)
        except OSError as error:
            raise DataError(f'cannot read the image {path}: {error.strerror or error}') from error
        width, height = head.size
        names, runs = [], []
        if not pair.masks:
            self.counts['images without a mask'] += 1
        for mask in pair.masks:
            values, has_palette = read_values(osp.join(self.root, mask))
            if values.shape != (height,
                                width) and head.orientation >= 5 and values.shape == (width,
                                                                                      height):
                values = turned(values, head.orientation)
                self.counts['masks turned as the EXIF of their image says'] += 1
            elif head.orientation in MIRRORING or head.orientation >= 5 and width == height:
                self.counts[
                    'masks of an image that EXIF rotates, read as drawn on the rotated image: '
                    f'look at them with `{how_to_run("browse")}`'] += 1
            if values.shape != (height, width):
                self.wrong_sizes.append(f'{mask} is {values.shape[1]} x {values.shape[0]}, '
                                        f'its image {width} x {height}')
                continue
            for name, bitmap in self._objects(values, pair.is_whole, has_palette):
                if bitmap[[0, 0, -1, -1], [0, -1, 0, -1]].all():
                    self.counts['objects that fill all four corners of their image: '
                                'the background must be 0'] += 1
                names.append(name)
                runs.append(mask_api.encode(np.asfortranarray(bitmap, dtype=np.uint8)))
        boxes = np.array([mask_api.toBbox(item) for item in runs], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return ImageObjects(
            pair.image.replace(os.sep, '/'),
            width,
            height,
            names,
            boxes,
            np.zeros(len(names), bool), [self._segmentation(item) for item in runs],
            areas=[float(mask_api.area(item)) for item in runs])

    def _objects(self, values: np.ndarray, is_whole: bool,
                 has_palette: bool) -> Iterator[Tuple[str, np.ndarray]]:
        """Yield (class, bitmap) of each object in a mask."""
        if not values.any():
            self.counts['masks without a pixel'] += 1
            return
        if not is_whole and self.classes is None:
            found = np.unique(values)
            if len(found) > 2:  # antialiased borders
                self.counts['masks with soft borders, of which the stronger half counts'] += 1
                yield self.class_name, values * 2 > values.max()
            else:
                yield self.class_name, values > 0
            return
        for value in np.unique(values).tolist():
            if value == 0:
                continue
            if self.classes is not None and value not in self.classes:
                self.others[value] += 1
                continue
            if self.classes is None and has_palette and value == VOID and not self.by_regions:
                self.counts[f'masks with borders of value {VOID}, which are no object'] += 1
                continue
            name = self.class_name if self.classes is None else self.classes[value]
            bitmap = (values == value).astype(np.uint8)
            if not self.by_regions:
                yield name, bitmap
                continue
            number, regions = cv2.connectedComponents(bitmap, connectivity=8)
            for index in range(1, number):
                yield name, regions == index

    def _segmentation(self, runs: Dict) -> object:
        if not self.polygons:
            return dict(size=runs['size'], counts=runs['counts'].decode())
        outlines, _ = cv2.findContours(
            mask_api.decode(runs), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        parts = [outline.reshape(-1).tolist() for outline in outlines if len(outline) >= SMALLEST]
        if parts:
            return parts
        x, y, width, height = mask_api.toBbox(runs).tolist()  # a line of pixels has no polygon
        return [[x, y, x + width, y, x + width, y + height, x, y + height]]

    def report(self) -> List[str]:
        """Return sentences about the findings."""
        lines = [f'{count} {what}' for what, count in self.counts.items()]
        if self.others:
            lines.append('left out, values of no class: ' +
                         ', '.join(f'{value} (in {count} masks)'
                                   for value, count in self.others.most_common(MOST_EXAMPLES)))
        if self.by_regions and self.classes is None:
            lines.append(
                'all masks have one value: each connected region is an object, and objects that touch are one'
            )
        return lines

    def refuse_wrong_sizes(self) -> None:
        """Raise DataError for masks of another size than their image."""
        if self.wrong_sizes:
            more = f' and {len(self.wrong_sizes) - MOST_EXAMPLES} more' if len(
                self.wrong_sizes) > MOST_EXAMPLES else ''
            raise DataError(
                f'{len(self.wrong_sizes)} masks are of another size than their image: '
                f'{"; ".join(self.wrong_sizes[:MOST_EXAMPLES])}{more}. Nothing was written: correct them, or take '
                f'them away')


def require_masks(root: str, pairs: Sequence[Pair], strangers: Sequence[str]) -> None:
    """Raise DataError if no image has a mask; strangers: masks without an image."""
    if not any(pair.masks for pair in pairs) and not strangers:
        raise DataError(
            f'no image has a mask: {len(pairs)} images, and no file ({" ".join(MASK_ENDINGS)}) in '
            f'{osp.join(root, osp.dirname(osp.dirname(pairs[0].image)), "masks")}, for example')
    if not any(pair.masks for pair in pairs):
        raise DataError(
            f'no mask bears the name of an image: {strangers[0]!r} and {pairs[0].image!r}, for example; '
            f'expected {_stem(osp.basename(pairs[0].image))}.png or '
            f'{_stem(osp.basename(pairs[0].image))}_1.png')


@recognizes('masks', 'masks in image files', DRAWN)
def find_masks(tree: Tree) -> Dict[str, Part]:
    """Find images with masks in files: splits by folders."""
    tops = [name for name in _folders(tree.root) if split_of(name) != ALL]
    parts = {}
    for top in tops or ['']:
        root = tree.path(top)
        if not any(_is_of_masks(folder, top) for folder in tree.images):
            continue
        pairs, _ = find_pairs(root, None)
        if 2 * sum(bool(pair.masks) for pair in pairs) > len(pairs):
            settings = dict(type='CocoDataset', img_prefix=osp.join(root, ''))
            parts[split_of(top)] = Part(
                settings, top or '.', content=functools.partial(_content, root, pairs))
    return parts


def _require_one_file_each(root: str, pairs: Sequence[Pair], has_one_value: bool) -> None:
    """Raise DataError for masks whose classes cannot be seen: files of several values, and folders of classes."""
    advice = f'To fix: `{how_to_run("convert masks")}` writes a COCO json; its options say what is a class'
    whole = next((pair.masks[0] for pair in pairs if pair.is_whole), None)
    if whole is not None and not has_one_value:
        raise DataError(
            f'{root}: the values in masks such as {whole} may be objects or classes. {advice}')
    images = {_stem(osp.basename(pair.image)) for pair in pairs}
    folders = {osp.basename(osp.dirname(mask)) for pair in pairs for mask in pair.masks}
    folders = {name for name in folders if _stem(name) not in images}
    if len(folders) > 1:
        raise DataError(
            f'{root}: the masks are in the folders {", ".join(sorted(folders)[:5])}, which may be classes. {advice}'
        )


def _is_of_masks(folder: str, top: str) -> bool:
    """Check for a folder of masks below `top`, as one of all images or one of each image."""
    parts = osp.relpath(f'/{folder}', f'/{top}').split('/')
    return parts[0].lower() in MASK_FOLDERS or len(parts) > 1 and parts[1] in ('masks', 'mask')


def _content(root: str, pairs: Sequence[Pair]) -> Content:
    reader = Masks(root, DEFAULT_CLASS, None, polygons=False)
    reader.look_ahead(pairs)
    _require_one_file_each(root, pairs, reader.by_regions)
    converted = to_coco([reader.read(pair) for pair in pairs], [DEFAULT_CLASS])
    reader.refuse_wrong_sizes()
    return Content(converted.content, [*changes_of(converted), *reader.report()])
