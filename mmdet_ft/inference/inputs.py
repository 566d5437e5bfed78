"""Images that are given to a model: paths, arrays and Pillow images."""
import os
from typing import Any, Union

import numpy as np
import torch

from mmdet_ft.command_names import how_to_run
from mmdet_ft.datasets.pipelines.shared.loading import read_image
from mmdet_ft.errors import UserError

Image = Union[str, os.PathLike, np.ndarray]

FILMS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.wmv', '.mpg', '.mpeg', '.flv')

TEXTS = ('.txt', '.csv', '.json', '.xml', '.yaml', '.yml', '.lst')


def why_no_image(path: Union[str, os.PathLike]) -> str:
    """Return advice for a path that is not an image by its name: a URL, folder, video or list; '' for others."""
    text = os.fspath(path)
    ending = os.path.splitext(text)[1].lower()
    if '://' in text:
        return f'{text} is a URL: download the image first and give its path'
    if os.path.isdir(text):
        return f'{text} is a folder: give its files, such as sorted(glob.glob({os.path.join(text, "*.jpg")!r}))'
    if ending in FILMS:
        return f'{text} is a film: take its pictures out first, as by ffmpeg -i {os.path.basename(text)} %05d.png'
    if ending in TEXTS:
        return (
            f'{text} is not an image. Give the files that a list names; `{how_to_run("test")}` runs over '
            f'annotation files')
    return ''


def read_input(img: Any, name: str) -> Union[str, np.ndarray]:
    """Read a path or an array as model input: uint8 or floats of 0..255, [H, W, 3] in BGR or gray [H, W].

    Raises UserError, with the correct form, for anything else; `name` is the image's name in the message.
    """
    if isinstance(img, (str, os.PathLike)):
        reason = why_no_image(img)
        if reason:
            raise UserError(reason)
        return os.fspath(img)
    if hasattr(img, 'getexif') and hasattr(img, 'convert'):  # a Pillow image
        from PIL import ImageOps
        return np.ascontiguousarray(
            np.asarray(ImageOps.exif_transpose(img).convert('RGB'))[..., ::-1])
    if isinstance(img, torch.Tensor):
        raise UserError(
            f'{name} is a tensor {list(img.shape)}; give an array [H, W, 3] in BGR of 0..255: of an RGB tensor '
            f'[3, H, W] in 0..1 (img.permute(1, 2, 0).cpu().numpy()[..., ::-1] * 255).astype(np.uint8)'
        )
    if not isinstance(img, np.ndarray):
        raise UserError(
            f'{name} is a {type(img).__name__}; it must be a path or an array (cv2.imread gives None for a file that '
            f'it cannot read)')
    if not img.size or img.ndim not in (2, 3) or img.ndim == 3 and img.shape[2] not in (1, 3):
        fix = ''
        if img.ndim == 3 and img.shape[2] == 4:
            fix = '; img[..., :3] is one without its alpha channel'
        elif img.ndim == 3 and img.shape[0] in (1, 3):
            fix = '; img.transpose(1, 2, 0) has its channels last'
        elif img.ndim == 4:
            fix = '; give a batch as a list of images: list(img)'
        raise UserError(
            f'{name} is an array {list(img.shape)}; it must be [H, W, 3] in BGR, or gray [H, W]{fix}'
        )
    return _of_bytes(img, name)


def _of_bytes(img: np.ndarray, name: str) -> np.ndarray:
    """Return an array with values in 0..255: uint8, or floats. Raises UserError for other ranges."""
    if img.dtype == np.uint8:
        return img
    if img.dtype == bool:
        raise UserError(f'{name} is bool: give 0..255 (img.astype(np.uint8) * 255)')
    if img.dtype.kind not in 'iuf':
        raise UserError(f'{name} is an array of {img.dtype}; give uint8 of 0..255')
    low, high = img.min(), img.max()
    if not np.isfinite([low, high]).all():
        raise UserError(f'{name} is {img.dtype} and holds nan or inf; give 0..255')
    if low < 0:
        raise UserError(f'{name} is {img.dtype} from {low:g}: give 0..255, as before normalizing')
    if img.dtype.kind == 'f':
        if 0 < high <= 1:
            raise UserError(f'{name} is {img.dtype} up to {high:g}: give 0..255 (img * 255)')
        if high > 255:
            raise UserError(
                f'{name} is {img.dtype} up to {high:g}: give 0..255 (img * (255 / img.max()))')
        return img.astype(np.float32)
    if high > 255:
        raise UserError(
            f'{name} is {img.dtype} up to {high}: give uint8 of 0..255 (of 16 bits (img // 257).astype(np.uint8))'
        )
    return img.astype(np.uint8)


def read_bgr(path: Union[str, os.PathLike]) -> np.ndarray:
    """Read an image file as uint8 [H, W, 3] in BGR, rotated by its EXIF data like the test pipeline."""
    return read_image(os.fspath(path), {}, dict(backend='disk'), 'color', 'bgr')
