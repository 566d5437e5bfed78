"""Results drawn on their images, with V2's arguments."""
import functools
import numbers
import os
from typing import Any, Optional

import numpy as np
from PIL import ImageColor
from torch import nn

from mmdet_ft import visualization
from mmdet_ft.errors import UserError
from mmdet_ft.inference.inputs import Image, read_bgr, read_input
from mmdet_ft.inference.records import class_of
from mmdet_ft.models.classifiers.image import ImageClassifier
from mmdet_ft.outputs import Inputs
from mmdet_ft.registry import DATASETS


def draw(model: nn.Module,
         img: Image,
         result: Any,
         score_thr: float,
         palette: Any = None) -> np.ndarray:
    model = getattr(model, 'module', model)
    img = read_input(img, 'the image')
    image = visualization.as_bgr(img) if isinstance(img, np.ndarray) else read_bgr(img)
    if isinstance(result, (np.ndarray, dict)):  # of a classifier
        best = result if isinstance(result, dict) else class_of(result, model.CLASSES)
        picture = visualization.enlarge(image)
        visualization.draw_label(picture, f'{best["pred_class"]} {best["pred_score"]:.2f}',
                                 (0, 0, 0, 0), visualization.BLACK)
        return picture
    if model.CLASSES is None:
        raise UserError('the model does not know its classes: model.CLASSES = dataset.CLASSES')
    palette = read_palette(palette, len(model.CLASSES))
    return visualization.draw_detections(image, result, model.CLASSES, score_thr,
                                         model.PALETTE if palette is None else palette)


# V2's palette names -> the dataset that has these colors.
PALETTES = dict(coco='CocoDataset', voc='VOCDataset', citys='CityscapesDataset')


def read_palette(palette: Any, num_classes: int) -> Any:
    """Convert a V2 palette to RGB triplets; None for the model's own. Raises UserError."""
    if isinstance(palette, str) and palette in PALETTES:
        return DATASETS.get(PALETTES[palette]).PALETTE
    if palette is None or isinstance(palette, str) and palette == 'random':
        return None if palette is None else visualization.rgb_palette(num_classes)
    color = palette
    if isinstance(palette, str):
        try:
            color = ImageColor.getrgb(palette)[:3]
        except ValueError:
            raise UserError(
                f'palette {palette!r}: it is {", ".join(PALETTES)}, random, a color such as green, '
                'or an RGB triplet for each class') from None
    one_for_all = len(color) == 3 and all(isinstance(value, numbers.Real) for value in color)
    return [list(color)] * num_classes if one_for_all else palette


def write_picture(picture: np.ndarray, img: Image, out_file: str) -> None:
    Inputs([img] if isinstance(img, (str, os.PathLike)) else []).require_free(out_file, 'out_file')
    try:
        visualization.write_picture(out_file, picture)
    except (OSError, ValueError) as error:
        raise UserError(f'cannot write {out_file}: {error}') from error


def show_picture(picture: np.ndarray, title: str, wait_time: float) -> None:
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        raise UserError(
            'showing a picture needs matplotlib: pip install matplotlib, or give out_file'
        ) from None
    height, width = picture.shape[:2]
    figure = plt.figure(title, figsize=(width / 100, height / 100))
    axes = figure.add_axes([0, 0, 1, 1])
    axes.axis('off')
    axes.imshow(picture[..., ::-1])
    if wait_time > 0:
        plt.show(block=False)
        plt.pause(wait_time)
    else:
        plt.show()


def show_result(model: nn.Module,
                img: Image,
                result: Any,
                score_thr: float = 0.3,
                bbox_color: Any = None,
                text_color: Any = None,
                mask_color: Any = None,
                thickness: int = 2,
                font_size: int = 13,
                win_name: str = 'result',
                show: bool = False,
                wait_time: float = 0,
                out_file: Optional[str] = None) -> np.ndarray:
    """Return the picture of V2's `model.show_result`; show or write it if requested.

    bbox_color, or mask_color, is a palette as in `show_result_pyplot`. The style of captions and lines follows
    from the picture: text_color, thickness and font_size have no effect.
    """
    palette = mask_color if bbox_color is None else bbox_color
    return _shown(
        draw(model, img, result, score_thr, palette), img, win_name, show, wait_time, out_file)


def show_class(model: nn.Module,
               img: Image,
               result: Any,
               text_color: Any = None,
               font_scale: float = 0.5,
               row_width: int = 20,
               show: bool = False,
               fig_size: Any = None,
               win_name: str = 'result',
               wait_time: float = 0,
               out_file: Optional[str] = None,
               score_thr: float = 0.) -> np.ndarray:
    """Show a class as MMClassification's `model.show_result`, from scores or the dict of `inference_model`.

    The style of the caption follows from the picture: text_color, font_scale, row_width and fig_size have no
    effect.
    """
    return _shown(draw(model, img, result, score_thr), img, win_name, show, wait_time, out_file)


def _shown(picture: np.ndarray, img: Image, title: str, show: bool, wait_time: float,
           out_file: Optional[str]) -> np.ndarray:
    if out_file is not None:
        write_picture(picture, img, out_file)
    elif show:
        show_picture(picture, title, wait_time)
    return picture


def with_show_result(model: nn.Module) -> nn.Module:
    """Give a model V2's method `show_result`, and return it."""
    show = show_class if isinstance(model, ImageClassifier) else show_result
    model.show_result = functools.partial(show, model)
    return model
