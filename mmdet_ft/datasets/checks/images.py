"""The image files of a split: are they there, whole, and of the size that the annotations say."""
import concurrent.futures
import hashlib
import os
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
from PIL import Image, UnidentifiedImageError

from mmdet_ft.datasets.checks.problem import Example, Problem, examples
from mmdet_ft.datasets.checks.split import Split
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.pipelines.loading import read_bytes, read_image

ORIENTATION = 0x112  # EXIF tag; 1 upright, 2 to 4 keep the sides, 5 to 8 exchange width and height


class Look(NamedTuple):
    """What a look at an image file has shown."""
    error: str = ''  # 'missing', or why it cannot be read
    size: Tuple[int, int] = (0, 0)  # width and height as the loader gives them
    orientation: int = 1
    digest: str = ''  # of the file's bytes


def look_at(path: str, decode: bool = True, file_client_args: Dict[str, Any] = {}) -> Look:
    """Open an image as training does; without `decode` read its header only."""
    try:
        if not decode:
            return _header(path)
        content = read_bytes(path, file_client_args)
        img = read_image(path, {}, file_client_args, 'color', 'bgr')
    except FileNotFoundError:
        return Look('missing')
    except (DataError, OSError, cv2.error) as error:
        return Look(str(error))
    return Look('', (img.shape[1], img.shape[0]), _orientation(path),
                hashlib.blake2b(content, digest_size=16).hexdigest())


def _header(path: str) -> Look:
    if not os.path.isfile(path):
        return Look('missing')
    try:
        with Image.open(path) as image:
            width, height = image.size
            orientation = image.getexif().get(ORIENTATION, 1)
    except (UnidentifiedImageError, OSError, ValueError) as error:
        return Look(str(error))
    return Look('', (height, width) if orientation >= 5 else (width, height), orientation)


def _orientation(path: str) -> int:
    try:
        with Image.open(path) as image:
            return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # PIL knows fewer kinds of images than OpenCV, which has opened it
        return 1


def size_of(path: str) -> Optional[Tuple[int, int]]:
    look = look_at(path, decode=False)
    return None if look.error else look.size


def _look(arguments: Tuple[str, Dict[str, Any]]) -> Look:
    return look_at(arguments[0], True, arguments[1])


def look_at_all(paths: Sequence[str], workers: int, file_client_args: Dict[str,
                                                                           Any]) -> Iterator[Look]:
    """`look_at` of each, in order, by some processes."""
    jobs = [(path, file_client_args) for path in paths]
    if workers == 0 or len(paths) < 64:
        yield from map(_look, jobs)
        return
    with concurrent.futures.ProcessPoolExecutor(
            workers, initializer=cv2.setNumThreads, initargs=(0, )) as pool:
        yield from pool.map(_look, jobs, chunksize=16)


def check_images(split: Split, looks: Iterable[Tuple[int, Look]]) -> List[Problem]:
    """Problems of the files of a split, given what was seen of the images at some places."""
    looks = list(looks)
    missing, broken, other, turned, unclear = [], [], [], [], []
    for place, look in looks:
        width, height = split.sizes[place].tolist()
        path, name = split.paths[place], split.paths[place]
        if look.error == 'missing':
            missing.append(Example(name, path))
        elif look.error:
            broken.append(Example(look.error, path))
        elif width and (width, height) != look.size:
            text = f'{name}: annotated as {width} x {height} (width x height), it is {look.size[0]} x {look.size[1]}'
            if look.orientation >= 5 and (height, width) == look.size:
                turned.append(
                    Example(f'{text} once turned as its EXIF says (orientation {look.orientation})',
                            path))
            else:
                other.append(Example(text, path))
        elif 2 <= look.orientation <= 4 or (look.orientation >= 5 and width == height and width):
            unclear.append(Example(f'{name}: orientation {look.orientation}', path))
    problems = []

    def tell(kind: str, found: List[Example], text: str, fix: str, is_defect: bool = True) -> None:
        if found:
            problems.append(
                Problem(split.name, kind, len(found), text, fix, examples(found), is_defect))

    tell(
        'image missing', missing,
        'files that the annotations list and that are not there' + _share(missing, looks),
        f'correct img_prefix or data_root of data.{split.name}, or take them out of {split.source}')
    tell('image broken', broken, 'files are cut off, or are no images',
         f'fetch them again, or take them out of {split.source}')
    tell(
        'image size differs', other, 'images of another size than the annotations say: boxes and '
        'masks lie elsewhere than the objects',
        'write the true width and height, after making sure that the boxes are of this picture')
    tell(
        'image turned by EXIF', turned,
        'images that were annotated lying, and are turned upright by '
        'their EXIF entry when they are loaded',
        'store the pixels upright and remove the entry (`exiftran -ai`, `mogrify -auto-orient`), then turn the '
        'boxes; or remove the entry only (`exiftool -Orientation= -n FILE`), if the boxes are right for the lying '
        'picture')
    tell('image turned by EXIF, maybe', unclear,
         'images that their EXIF entry turns or mirrors without changing their size',
         'look at them with tools/misc/browse_dataset.py', False)
    return problems


def _share(found: List[Example], looks: Sequence[Any]) -> str:
    return ': all of them' if len(found) == len(looks) else f' (of {len(looks)})'


def check_overlap(first: Split, second: Split,
                  digests: Dict[str, Dict[str, List[int]]]) -> List[Problem]:
    """Images in two splits: the same file, or with `digests` (split -> digest -> places) the same content."""
    own = {os.path.abspath(path) for path in first.paths if path}
    same = [Example(path, path) for path in second.paths if path and os.path.abspath(path) in own]
    listed = {example.path for example in same}
    for digest, places in digests.get(second.name, {}).items():
        for other in digests.get(first.name, {}).get(digest, ())[:1]:
            same += [
                Example(f'{second.paths[place]} has the content of {first.paths[other]}',
                        second.paths[place]) for place in places
                if second.paths[place] not in listed
            ]
    if not same:
        return []
    return [
        Problem(f'{first.name}, {second.name}', 'image in two splits', len(same),
                f'images of {second.name} that are in {first.name} too: the metric tells too much',
                'take them out of one of the two', examples(same))
    ]


def check_copies(split: Split, digests: Dict[str, List[int]]) -> List[Problem]:
    """Files of one split with the same content."""
    copies = [
        Example(f'{split.paths[place]} has the content of {split.paths[places[0]]}',
                split.paths[place]) for places in digests.values() for place in places[1:]
        if split.paths[place] != split.paths[places[0]]
    ]
    if not copies:
        return []
    return [
        Problem(split.name, 'image twice', len(copies), 'files with the same content as another',
                'keep one of them, unless it is there to count more', examples(copies))
    ]
