"""Images as a model's test pipeline prepares them, in numpy and OpenCV alone."""
import os
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Sequence, Tuple, Union

import cv2
import numpy as np

from mmdet_ft.deploy.facts import ModelFacts
from mmdet_ft.errors import UserError

INTERPOLATIONS = dict(
    nearest=cv2.INTER_NEAREST,
    bilinear=cv2.INTER_LINEAR,
    bicubic=cv2.INTER_CUBIC,
    area=cv2.INTER_AREA,
    lanczos=cv2.INTER_LANCZOS4)
MAX_PIXELS = 100_000_000  # of an image that is accepted by default

Image = Union[str, os.PathLike, np.ndarray]


class Prepared(NamedTuple):
    """An image as the network takes it, without padding."""
    pixels: np.ndarray  # uint8 [h, w, C] in BGR
    scale: np.ndarray  # float32 [4], its pixels per pixel of the original, for x y x y
    shape: Tuple[int, int]  # height and width of the original


def read_image(image: Image,
               name: str,
               max_pixels: int = MAX_PIXELS,
               is_gray: bool = False) -> np.ndarray:
    """Return an image as uint8 [H, W, 3] in BGR, or [H, W] if `is_gray`.

    image: a path, or an array [H, W, 3] in BGR of 0..255, or gray [H, W].

    Raises UserError, with the fix, for what is no such image or has more than `max_pixels`.
    """
    if isinstance(image, (str, os.PathLike)):
        name = os.fspath(image)
        image = _decode(name, cv2.IMREAD_GRAYSCALE if is_gray else cv2.IMREAD_COLOR)
    if not isinstance(image, np.ndarray):
        raise UserError(
            f'{name} is a {type(image).__name__}; it must be a path or an array [H, W, 3] in BGR (cv2.imread gives '
            'None for a file that it cannot read)')
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    if not image.size or image.ndim not in (2, 3) or image.ndim == 3 and image.shape[2] != 3:
        raise UserError(
            f'{name} is an array {list(image.shape)}; it must be [H, W, 3] in BGR, or gray [H, W]')
    if image.shape[0] * image.shape[1] > max_pixels:
        raise UserError(
            f'{name} has {image.shape[0]} x {image.shape[1]} pixels (height x width), more than {max_pixels}: cut it '
            'into tiles, or give max_pixels')
    image = _as_bytes(image, name)
    if is_gray:
        return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image


def _decode(path: str, flag: int) -> np.ndarray:
    if not os.path.isfile(path):
        raise UserError(f'there is no image {path!r}')
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), flag)
    except cv2.error:  # of an empty file
        image = None
    if image is None:
        raise UserError(
            f'{path} cannot be decoded: it is no image that OpenCV reads, or it is cut off')
    return image


def _as_bytes(image: np.ndarray, name: str) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind not in 'iuf':
        raise UserError(f'{name} is an array of {image.dtype}; give uint8 of 0..255')
    low, high = image.min(), image.max()
    if not np.isfinite(
        [low, high]).all() or low < 0 or high > 255 or image.dtype.kind == 'f' and 0 < high <= 1:
        raise UserError(f'{name} is {image.dtype} from {low:g} to {high:g}; give uint8 of 0..255')
    return np.round(image).astype(np.uint8)


def prepare(image: np.ndarray, facts: ModelFacts) -> Prepared:
    """Run the steps of a model on an image of `read_image`."""
    pixels, scale = image, np.ones(4, np.float32)
    for step in facts.steps:
        before = pixels.shape
        pixels = STEPS[step['type']](pixels, step)
        if step['type'] in RESIZES:
            ratio = [pixels.shape[1] / before[1], pixels.shape[0] / before[0]]
            scale = scale * np.array(ratio * 2, np.float32)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return Prepared(np.ascontiguousarray(pixels), scale, (image.shape[0], image.shape[1]))


def network_input(images: Sequence[Prepared], facts: ModelFacts) -> Dict[str, np.ndarray]:
    """Return the inputs of a file for images of one size; where it pastes masks, of one original size too."""
    pixels = np.stack([image.pixels for image in images])
    mask_size = dict(mask_size=np.array(images[0].shape)) if facts.pastes else {}
    if facts.prepares:
        return dict(images=pixels, **mask_size)
    height, width = pixels.shape[1:3]
    x = pixels[..., ::-1] if facts.to_rgb else pixels
    x = (x.astype(np.float32) - np.array(facts.mean, np.float32)) / np.array(facts.std, np.float32)
    below, right = (-side % facts.divisor for side in (height, width))
    x = np.pad(x, [(0, 0), (0, below), (0, right), (0, 0)]).transpose(0, 3, 1, 2)
    inputs = dict(images=np.ascontiguousarray(x))
    if facts.task == 'detector':
        inputs['sizes'] = np.array([[height, width]] * len(images), np.float32)
    return {**inputs, **mask_size}


def _resized(image: np.ndarray, size: Tuple[int, int], step: Mapping[str, Any]) -> np.ndarray:
    """Resize to (width, height)."""
    if size == (image.shape[1], image.shape[0]):
        return image
    if step.get('backend') == 'pillow':
        from PIL import Image as Pillow
        kind = getattr(Pillow.Resampling, step['interpolation'].upper())
        return np.asarray(Pillow.fromarray(image).resize(size, kind))
    return cv2.resize(image, size, interpolation=INTERPOLATIONS[step['interpolation']])


def _fit(image: np.ndarray, step: Mapping[str, Any]) -> np.ndarray:
    """Resize to fit into `scale`, (long side, short side), keeping the ratio."""
    height, width = image.shape[:2]
    long, short = max(step['scale']), min(step['scale'])
    factor = min(long / max(height, width), short / min(height, width))
    size = max(int(width * factor + .5), 1), max(int(height * factor + .5), 1)
    return _resized(image, size, step)


def _resize(image: np.ndarray, step: Mapping[str, Any]) -> np.ndarray:
    """Resize to `size`, (height, width), whatever the ratio."""
    return _resized(image, (step['size'][1], step['size'][0]), step)


def _resize_side(image: np.ndarray, step: Mapping[str, Any]) -> np.ndarray:
    """Resize one side, `by`, to `size`, keeping the ratio."""
    height, width = image.shape[:2]
    side = step['size']
    if dict(short=width < height, long=width > height, height=False, width=True)[step['by']]:
        size = side, max(int(side * height / width), 1)
    else:
        size = max(int(side * width / height), 1), side
    return _resized(image, size, step)


def _centered(image: np.ndarray, rows: float, columns: float) -> np.ndarray:
    height, width = image.shape[:2]
    top = max(0, int(round((height - rows) / 2.)))
    left = max(0, int(round((width - columns) / 2.)))
    bottom, right = int(min(height, top + rows)), int(min(width, left + columns))
    return image[top:max(bottom, top + 1), left:max(right, left + 1)]


def _crop(image: np.ndarray, step: Mapping[str, Any]) -> np.ndarray:
    """Crop the center of `size`, (height, width)."""
    return _centered(image, *step['size'])


def _crop_share(image: np.ndarray, step: Mapping[str, Any]) -> np.ndarray:
    """Resize the center that EfficientNet takes, all but `padding` of the short side, to `size`."""
    short = min(image.shape[:2])
    part = _centered(image, *(side / (side + step['padding']) * short for side in step['size']))
    return _resize(part, step)


STEPS: Dict[str, Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]] = dict(
    fit=_fit, resize=_resize, resize_side=_resize_side, crop=_crop, crop_share=_crop_share)
RESIZES = ('fit', 'resize', 'resize_side')


def group_by_size(images: Sequence[Prepared]) -> List[List[int]]:
    """Group the indices of images by their sizes, prepared and original, in the order of the first."""
    groups: Dict[Tuple[int, ...], List[int]] = {}
    for place, image in enumerate(images):
        groups.setdefault(image.pixels.shape + image.shape, []).append(place)
    return list(groups.values())
