"""What travels from the loader to the loss: padded tensors with validity masks.

Letters, used in every docstring and shape comment of the package:
    B images of a batch           G ground-truth slots of an image    I ignored-region slots of an
    image A anchors of all levels       P proposals of an image             S sampled boxes of an
    image D detections of an image      K foreground classes; label K is the background
    L feature levels              C channels                          H W pixels

Boxes are xyxy in float32 pixels of the network's input. Padding is benign (a unit box, label 0,
False in `valid`), never a sentinel: nothing downstream has to know how much of it there is.
"""
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor


class Masks(NamedTuple):
    """Instance bitmaps of a batch, each cropped to its object and laid end to end.

    A crop holds its object's pixels and, inside the image, one pixel of empty margin, so that
    RoIAlign on the crop equals RoIAlign on the whole bitmap.
    """
    data: Tensor  # uint8 [sum of w*h], 0 or 1, row-major crops
    offset: Tensor  # int64 [B, G], where a crop starts in data
    rect: Tensor  # int64 [B, G, 4], x0 y0 w h of a crop in input pixels; w = h = 0 in an empty slot
    max_size: Tuple[int, int]  # largest (h, w) of the batch, known to the host


class Outlines(NamedTuple):
    """Instance polygons of a batch (`poly2mask=False`), their sides laid end to end."""
    sides: Tensor  # float64 [N, 4], x0 y0 x1 y1 in input pixels
    part: Tensor  # int64 [N], which of its object's polygons a side belongs to, from 0
    start: Tensor  # int64 [B, G], an object's first side
    count: Tensor  # int64 [B, G], its number of sides; 0 in an empty slot
    max_sides: int  # of an object of the batch, known to the host
    max_parts: int


class GroundTruth(NamedTuple):
    boxes: Tensor  # float32 [B, G, 4]
    labels: Tensor  # int64 [B, G]
    valid: Tensor  # bool [B, G]
    ignore: Tensor  # float32 [B, I, 4], crowd and difficult regions
    ignore_valid: Tensor  # bool [B, I]
    masks: Union[Masks, Outlines, None] = None


class ClassTruth(NamedTuple):
    """What a classifier is to say of each image."""
    labels: Tensor  # int64 [B]; or float32 [B, K], shares of the classes: several labels, or mixed images


class Batch(NamedTuple):
    """Images padded to a common size (right and bottom) and what is known about them."""
    images: Tensor  # [B, C, H, W], float32 normalised, or uint8 still to be normalised by mean and std
    sizes: Tensor  # float32 [B, 2], height and width without padding (V2's img_shape)
    pad_sizes: Tensor  # float32 [B, 2], height and width after the pipeline's own Pad (V2's pad_shape); at most [H, W]
    scale_factors: Tensor  # float32 [B, 4], input pixels per original pixel, for x y x y
    metas: List[Dict[str, Any]]  # host only: V2's img_metas
    mean: Optional[Tensor] = None  # float32 [B, C], with uint8 images only
    std: Optional[Tensor] = None  # float32 [B, C]
    gt: Union[GroundTruth, ClassTruth, None] = None
    # host only: height and width [B] of images that are padded to that of a larger one; None where none is
    own_sizes: Optional[List[Tuple[int, int]]] = None


class Detections(NamedTuple):
    """Predictions of a batch in pixels of the original images, best score first."""
    boxes: Tensor  # float32 [B, D, 4]
    scores: Tensor  # float32 [B, D], 0..1
    labels: Tensor  # int64 [B, D]
    valid: Tensor  # bool [B, D]
    masks: Optional[Tensor] = None  # float32 [B, D, M, M], probability inside the box


class Scores(NamedTuple):
    """Predictions of a classifier."""
    scores: Tensor  # float32 [B, K], 0..1


class Losses(NamedTuple):
    """What a training step tells: `terms` are summed and differentiated, `metrics` are only
    logged.
    """
    terms: Dict[str, Tensor]  # V2's log keys; scalars
    metrics: Dict[str, Tensor] = {}

    @property
    def total(self) -> Tensor:
        return sum(self.terms.values())


def to_device(value: Any, device: torch.device) -> Any:
    """The same structure with every tensor on `device`; copies from pinned memory do not wait.

    Copies from a GPU to the host do not either: HostCopy knows when they have come.
    """
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple) and hasattr(value, '_fields'):
        return type(value)(*(to_device(field, device) for field in value))
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], dict):
        return type(value)(to_device(item, device) for item in value)
    return value


class HostCopy:
    """A structure on its way from `device` to the host: the copies start now, `read` waits for what
    is left of them.

    Between the two the device gets other work, so that it never runs dry.
    """

    def __init__(self, value: Any, device: torch.device):
        self._value = to_device(value, torch.device('cpu'))  # into pinned memory
        self._arrived = None
        if device.type == 'cuda':  # the stream of the copies, whatever the current device is
            self._arrived = torch.cuda.current_stream(device).record_event()

    def read(self) -> Any:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._value
