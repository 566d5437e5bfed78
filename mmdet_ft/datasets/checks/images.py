"""Image files of a split: check that they exist, are complete, and have the size of their annotations."""
import concurrent.futures
import hashlib
import os
import os.path as osp
import time
from collections import Counter
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from mmdet_ft.command_names import how_to_run
from mmdet_ft.datasets.checks.problem import Example, Problem, examples
from mmdet_ft.datasets.checks.split import Split
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.decoding import (COARSE, decode, explain_too_large, is_coarse,
                                               is_cut_off)
from mmdet_ft.datasets.images.files import Head, image_size, read_head
from mmdet_ft.datasets.images.names import Cause, causes_of, missing_folder, same_name
from mmdet_ft.datasets.images.sizes import Mismatch, choose_fitting_size, mismatch
from mmdet_ft.datasets.pipelines.shared.loading import (LoadImageFromFile, is_remote, read_bytes,
                                                        told_as_cut)
from mmdet_ft.registry import PIPELINES

# Larger sets are sampled evenly: 50,000 heads take 8 s of CPU from a local disk.
MOST_HEADS = 50000
MOST_REMOTE = 32  # files on other storage, which are fetched completely
SLOW = 0.005  # seconds per head from which on threads read them; on a local disk threads would only cost time
NUM_DEEP = 8  # images of 16 bit whose values are checked
MOST_DRAWN = 100  # objects on the picture of an example
MOST_CONFIRMED = 20  # images of another size that are decoded for confirmation


class Loading(NamedTuple):
    """Image loading options of a pipeline."""
    color_type: str = 'color'
    file_client_args: Dict[str, Any] = {}
    is_known: bool = True  # read by LoadImageFromFile; nothing is known about other loaders

    def size_of(self, head: Head) -> Tuple[int, int]:
        """Return the size of the loaded image: width and height."""
        return head.size if self.turns(head) else (head.width, head.height)

    def turns(self, head: Head) -> bool:
        """Return whether the EXIF orientation is applied; OpenCV always applies that of a TIFF."""
        return head.kind == 'TIFF' or self.color_type in ('color', 'grayscale')


def read_loading(transforms: Iterable[Any]) -> Loading:
    """Return how a pipeline, built or not, loads its images."""
    for transform in transforms:
        is_config = isinstance(transform, dict)
        kind = PIPELINES.resolve(transform['type']) if is_config else type(transform)
        if kind is LoadImageFromFile:
            get = transform.get if is_config else vars(transform).get
            return Loading(get('color_type') or 'color', dict(get('file_client_args') or {}))
        return Loading(is_known=False)
    return Loading()


class ImageCheck(NamedTuple):
    """The result of checking an image file."""
    error: str = ''  # 'missing', or why it cannot be read
    size: Tuple[int, int] = (0, 0)  # width and height as loaded; 0 where they are not known
    orientation: int = 1  # the EXIF entry that the loader applies
    digest: str = ''  # of the file's bytes
    lost: Optional[float] = None  # fraction of the picture that a truncated file lacks
    bits: int = 8  # per value
    path: str = ''  # of the file, where its name is spelled differently
    is_coarse: bool = False  # a progressive JPEG without its last scans


def inspect_image(path: str,
                  decoded: bool = True,
                  loading: Loading = Loading(),
                  prefix: Optional[str] = None) -> ImageCheck:
    """Open an image as training does.

    decoded: decode it; otherwise its head and its last bytes are read, and more only if they
    require it.
    prefix: folder that the name of the image is relative to.
    """
    look = _inspect_image(path, decoded, loading)
    if look.error == 'missing' and not is_remote(loading.file_client_args):
        other = same_name(prefix, name_below(path, prefix))
        if other is not None:
            return _inspect_image(other, decoded, loading)._replace(path=other)
    return look


def name_below(path: str, prefix: Optional[str]) -> str:
    """Return the name of an image in the annotations."""
    return path[len(osp.join(prefix, '')):] if prefix and path.startswith(osp.join(prefix,
                                                                                   '')) else path


def _inspect_image(path: str, decoded: bool, loading: Loading) -> ImageCheck:
    try:
        if not loading.is_known:
            return ImageCheck() if is_remote(
                loading.file_client_args) or osp.exists(path) else ImageCheck('missing')
        head = None
        if not decoded and not is_remote(loading.file_client_args):
            head = _try_read_head(path)
            if head is not None and head.is_too_large:
                return ImageCheck(explain_too_large(head))
            if head is not None and head.has_end and not head.is_float:
                return _of_head(head, loading)
        content = read_bytes(path, loading.file_client_args)
        if not decoded and head is not None and head.kind in ('JPEG',
                                                              'MPO') and not is_cut_off(content):
            return _of_head(head, loading)  # phones append films and more after the end
        return _of_content(content, loading)
    except (FileNotFoundError, NotADirectoryError):
        return ImageCheck('missing')
    except IsADirectoryError:
        return ImageCheck('it is a folder')
    except (DataError, OSError, ValueError, cv2.error) as error:
        return ImageCheck(str(error))
    except Exception as error:
        if not is_remote(loading.file_client_args):
            raise
        return ImageCheck(f'{type(error).__name__}: {error}')  # each storage has errors of its own


def _try_read_head(path: str) -> Optional[Head]:
    try:
        return read_head(path)
    except DataError:  # not an image; or one that OpenCV reads and Pillow does not
        return None


def _of_head(head: Head, loading: Loading) -> ImageCheck:
    return ImageCheck(
        '', loading.size_of(head), head.orientation if loading.turns(head) else 1, bits=head.bits)


def _of_content(content: bytes, loading: Loading) -> ImageCheck:
    img, lost = decode(content, loading.color_type, 'bgr')
    try:
        look = _of_head(read_head(content), loading)
    except (DataError, OSError):  # Pillow reads fewer image formats than OpenCV
        look = ImageCheck()
    return look._replace(
        size=(img.shape[1], img.shape[0]),
        lost=lost,
        is_coarse=lost is not None and is_coarse(content),
        digest=hashlib.blake2b(content, digest_size=16).hexdigest())


def size_of(path: str) -> Optional[Tuple[int, int]]:
    """Return width and height of an image as it is loaded, None where it cannot be read."""
    try:
        return image_size(path)
    except DataError:
        return None


def _inspect_arguments(arguments: Tuple[str, Loading, Optional[str]]) -> ImageCheck:
    path, loading, prefix = arguments
    return inspect_image(path, True, loading, prefix)


def inspect_images(split: Split, indices: Sequence[int], workers: int,
                   loading: Loading) -> Iterator[ImageCheck]:
    """Decode the images at some indices of a split, in order, in worker processes."""
    jobs = [(split.paths[index], loading, split.prefix) for index in indices]
    if workers == 0 or len(jobs) < 64:
        yield from map(_inspect_arguments, jobs)
        return
    with concurrent.futures.ProcessPoolExecutor(
            workers, initializer=cv2.setNumThreads, initargs=(0, )) as pool:
        yield from pool.map(_inspect_arguments, jobs, chunksize=16)


def scan(split: Split, loading: Loading) -> List[Tuple[int, ImageCheck]]:
    """Check the heads and last bytes of a split's files, of `MOST_HEADS` at most: (index, look) of each.

    Images whose size seems to differ from the annotation are decoded if they are few: a head may
    mislead.
    """
    indices = [position for position, path in enumerate(split.paths) if path is not None]
    most = MOST_REMOTE if is_remote(loading.file_client_args) else MOST_HEADS
    if len(indices) > most:
        indices = [
            indices[position] for position in np.linspace(0,
                                                          len(indices) - 1, most).astype(int)
        ]

    def inspect_head(position: int) -> ImageCheck:
        return inspect_image(split.paths[position], False, loading, split.prefix)

    looks = [inspect_head(position) for position in indices[:1]]  # Pillow loads its plugins
    began = time.monotonic()
    looks += map(inspect_head, indices[1:100])
    rest = indices[100:]
    if time.monotonic() - began < SLOW * len(looks):
        looks += map(inspect_head, rest)
    else:  # such as a network disk
        parts = [rest[first:first + 64] for first in range(0, len(rest), 64)]
        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            for part in threads.map(lambda part: [inspect_head(position) for position in part],
                                    parts):
                looks += part
    num_confirmed = 0
    for index, (position, look) in enumerate(zip(indices, looks)):
        if _has_other_size(split, position, look) and num_confirmed < MOST_CONFIRMED:
            looks[index] = inspect_image(split.paths[position], True, loading, split.prefix)
            num_confirmed += 1
    told_as_cut.update(look.path or split.paths[position] for position, look in zip(indices, looks)
                       if look.lost is not None)
    return list(zip(indices, looks))


def _has_other_size(split: Split, index: int, look: ImageCheck) -> bool:
    width, height = split.sizes[index].tolist()
    return bool(not look.error and width and look.size[0] and (width, height) != look.size)


def check_images(split: Split, looks: Iterable[Tuple[int, ImageCheck]]) -> List[Problem]:
    """Return the problems of a split's files, from the looks at some images (index, look)."""
    looks = list(looks)
    missing, broken, cut, unclear, renamed = [], [], [], [], []
    for index, look in looks:
        path = split.paths[index]
        width, height = split.sizes[index].tolist()
        if look.path:
            renamed.append(Example(f'{name_below(path, split.prefix)!r}: {look.path}', look.path))
        if look.lost is not None:
            what = COARSE if look.is_coarse else f'{look.lost:.1%} of the picture is missing'
            cut.append(Example(f'{path}: {what}', path))
        if look.error == 'missing':
            missing.append(index)
        elif look.error:
            broken.append(Example(f'{path}: {look.error}', path))
        elif _has_other_size(split, index, look):
            continue
        elif 2 <= look.orientation <= 4 or (look.orientation >= 5 and width == height and width):
            unclear.append(Example(f'{path}: orientation {look.orientation}', path))
    problems = _of_missing(split, missing, len(looks))

    def add(kind: str, found: List[Example], text: str, fix: str, is_defect: bool = True) -> None:
        if found:
            problems.append(
                Problem(split.name, kind, len(found), text, fix, examples(found), is_defect))

    add('image broken', broken, 'files are cut off, or are no images that can be read',
        f'fetch them again, or take them out of {split.source}')
    problems += _size_problems(split, looks)
    add('image turned by EXIF, maybe', unclear,
        'images that their EXIF entry turns or mirrors without changing their size',
        f'look at them with `{how_to_run("browse")}`', False)
    add(CUT, cut, 'files without their last bytes; they are used as far as they are there',
        'fetch them again, if something is to be seen in what is missing', False)
    add(
        'image name in another spelling', renamed,
        'file names with \\ for /, or in another Unicode form than on this disk; the files that are there are read',
        f'nothing has to be done; or write the names in {split.source} as they are on the disk',
        False)
    return problems


CUT = 'image without its end'


class _WrongSize(NamedTuple):
    """An image whose size differs from its annotation."""
    index: int
    look: ImageCheck
    objects: List[int]
    what: Mismatch


def _find_wrong_sizes(split: Split, looks: Iterable[Tuple[int, ImageCheck]]) -> List[_WrongSize]:
    """Return the images whose size differs from their annotation.

    Boxes that fit only one of the two sizes decide for the other images of the same kind too.
    """
    looks = [(position, look) for position, look in looks if _has_other_size(split, position, look)]
    objects: Dict[int, List[int]] = {position: [] for position, _ in looks}
    for index in np.flatnonzero(np.isin(split.image, list(objects))).tolist():
        objects[int(split.image[index])].append(index)
    found = []
    for position, look in looks:
        listed = tuple(split.sizes[position].tolist())
        boxes = split.boxes[objects[position]] if split.has_boxes else np.zeros((0, 4))
        fit = choose_fitting_size(boxes, listed, look.size)
        what = mismatch(listed, look.size, look.orientation)._replace(fit=fit)
        found.append(_WrongSize(position, look, objects[position], what))
    fits: Dict[str, set] = {}
    for judged in found:
        fits.setdefault(judged.what.kind, set()).update(filter(None, [judged.what.fit]))
    return [
        judged._replace(
            what=mismatch(
                tuple(split.sizes[judged.index].tolist()), judged.look.size, judged.look.
                orientation, judged.what.fit or (min(known) if len(known) == 1 else '')))
        for judged in found for known in [fits[judged.what.kind]]
    ]


def _size_problems(split: Split, looks: Iterable[Tuple[int, ImageCheck]]) -> List[Problem]:
    """Return the problems of images whose size differs from their annotation, one for each fix."""
    found: Dict[Mismatch, List[Example]] = {}
    for position, look, objects, what in _find_wrong_sizes(split, looks):
        width, height = split.sizes[position].tolist()
        names = ', '.join(split.names(index) for index in objects[:3])
        names += f' and {len(objects) - 3} more' if len(objects) > 3 else ''
        text = (f'{split.paths[position]}: annotated as {width} x {height} (width x height), it is '
                f'{look.size[0]} x {look.size[1]}')
        found.setdefault(what, []).append(
            Example(
                f'{text}; {names}' if names else text,
                split.paths[position],
                boxes=split.boxes[objects[:MOST_DRAWN]].tolist()))
    return [
        Problem(split.name, what.kind, len(group), what.text, what.fix, examples(group))
        for what, group in found.items()
    ]


def with_true_sizes(split: Split, looks: Iterable[Tuple[int, ImageCheck]]) -> Split:
    """Return the split with actual image sizes where boxes fit only those; nothing else is wrong with these boxes."""
    sizes = split.sizes.copy()
    for index, look, _, what in _find_wrong_sizes(split, looks):
        if what.fit == 'loaded':
            sizes[index] = look.size
    return split._replace(sizes=sizes)


def _of_missing(split: Split, missing: Sequence[int], num_looked: int) -> List[Problem]:
    """Return the problem of missing files, with similar files that exist."""
    if not missing:
        return []
    pairs = [(split.prefix, name_below(split.paths[index], split.prefix)) for index in missing]
    causes = causes_of(pairs)
    near = {name: there for cause in causes if cause.reason for name, there in cause.examples}
    shown = []
    for index, (_, name) in zip(missing, pairs):
        text = f'{name!r} -> {near[name]!r} is there' if name in near else split.paths[index]
        shown.append(Example(text, split.paths[index]))
    hints = [_hint(split, cause) for cause in causes if cause.reason]
    if not near:
        hints += filter(None, [missing_folder(split.prefix)])
    rest = (
        f'correct {"img_prefix or data_root" if split.has_boxes else "data_prefix"} of data.{split.name}, '
        f'or take them out of {split.source}')
    if sum(cause.count for cause in causes if cause.reason) < len(missing):
        hints.append(rest)
    share = ': all of them' if len(missing) == num_looked else f' (of {num_looked})'
    return [
        Problem(split.name, 'image missing', len(missing),
                'files that the annotations list and that are not there' + share, '; '.join(hints),
                examples(sorted(shown, key=lambda example: '->' not in example.text)))
    ]


def _hint(split: Split, cause: Cause) -> str:
    """Return the existing file for missing images of one cause, and the edit to make."""
    name, there = cause.examples[0]
    folders = {
        found[:-len(wanted) - 1]
        for wanted, found in cause.examples if found.endswith('/' + wanted)
    }
    if len(folders) == 1 and len(cause.examples) > 1 and all(
            found.endswith('/' + wanted) for wanted, found in cause.examples):
        return f'{there!r} is there: write img_prefix={osp.join(split.prefix or "", folders.pop())!r}'
    number = f' (and {cause.count - 1} alike: {cause.reason})' if cause.count > 1 else f' ({cause.reason})'
    return f'file_name {name!r} -> {there!r} is there{number}: correct it in {split.source}'


def check_depth(split: Split, looks: Sequence[Tuple[int, ImageCheck]],
                loading: Loading) -> List[Problem]:
    """Check the values of some images of more than 8 bit: loading keeps only the upper 8."""
    deep = [(position, look) for position, look in looks if not look.error and look.bits > 8]
    if not deep or loading.color_type == 'unchanged' or is_remote(loading.file_client_args):
        return []
    highest, seen = 0, []
    for index in np.unique(np.linspace(0, len(deep) - 1, NUM_DEEP).astype(int)).tolist():
        path = deep[index][1].path or split.paths[deep[index][0]]
        try:
            img = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        except (OSError, cv2.error):
            continue
        if img is not None and img.dtype == np.uint16:
            value = int((img[..., :3] if img.ndim == 3 else img).max())
            highest = max(highest, value)
            seen.append(Example(f'{path}: highest value {value}', path))
    if not seen:
        return []
    bits = max(highest.bit_length(), 1)
    number = len(deep)
    if bits <= 14:
        factor = 1 << (16 - bits)
        return [
            Problem(
                split.name, 'values in the lower bits', number,
                f'{number} images of 16 bit, and in the {len(seen)} looked at the highest value is {highest}: '
                f'{bits} bit. Loading divides by 256, which leaves {highest >> 8} of 255: '
                f'{"nearly black" if bits <= 12 else "dark"}', 'stretch them to 16 bit, or to 8: '
                f'cv2.imwrite(path, cv2.imread(path, cv2.IMREAD_UNCHANGED) * {factor})',
                examples(seen), bits <= 12)
        ]
    return [
        Problem(
            split.name, 'images of 16 bit', number,
            f'{number} images of 16 bit: loading keeps the upper 8 of each value, as OpenCV does',
            'nothing, where 256 steps are enough; otherwise stretch the range that matters before writing 8 bit',
            examples(seen), False)
    ]


def check_overlap(first: Split, second: Split,
                  digests: Dict[str, Dict[str, List[int]]]) -> List[Problem]:
    """Find images in two splits: the same file, or with `digests` (split -> digest -> indices) the same content."""
    own = {os.path.abspath(path) for path in first.paths if path}
    same = [Example(path, path) for path in second.paths if path and os.path.abspath(path) in own]
    listed = {example.path for example in same}
    for digest, indices in digests.get(second.name, {}).items():
        for other in digests.get(first.name, {}).get(digest, ())[:1]:
            same += [
                Example(f'{second.paths[index]} has the content of {first.paths[other]}',
                        second.paths[index]) for index in indices
                if second.paths[index] not in listed
            ]
    if not same:
        return []
    return [
        Problem(f'{first.name}, {second.name}', 'image in two splits', len(same),
                f'images of {second.name} that are in {first.name} too: the metric is too high',
                'take them out of one of the two', examples(same))
    ]


def check_listed(split: Split) -> List[Problem]:
    """Find files listed several times, also under other names of the same file: './a.png', or a link."""
    if not split.has_boxes:
        return []
    counts = Counter(os.path.realpath(path) for path in split.paths if path)
    first = {os.path.realpath(path): path for path in reversed(split.paths) if path}
    double = [
        Example(f'{first[path]} ({count} times)', first[path]) for path, count in counts.items()
        if count > 1
    ]
    if not double:
        return []
    return [
        Problem(
            split.name, 'image listed twice', len(double),
            'files listed several times, each with a part of the objects or with the same again: what one has is '
            'background for the other, and counts twice in a metric',
            f'list each file once, with all of its objects, in {split.source}', examples(double))
    ]


def check_copies(split: Split, digests: Dict[str, List[int]]) -> List[Problem]:
    """Find files of one split with the same content."""
    copies = [
        Example(f'{split.paths[index]} has the content of {split.paths[indices[0]]}',
                split.paths[index]) for indices in digests.values() for index in indices[1:]
        if os.path.realpath(split.paths[index]) != os.path.realpath(split.paths[indices[0]])
    ]
    if not copies:
        return []
    return [
        Problem(split.name, 'image twice', len(copies), 'files with the same content as another',
                'keep one of them, unless it is there to count more', examples(copies))
    ]
