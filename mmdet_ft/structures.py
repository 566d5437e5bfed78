"""Padded tensors with validity masks, from the loader to the loss.

Letters, used in every docstring and shape comment of the package:
    B images of a batch         G ground-truth slots of an image
    A anchors of all levels     I ignored-region slots of an image
    P proposals of an image     S sampled boxes of an image
    D detections of an image    K foreground classes; label K is the background
    L feature levels            C channels; H W pixels

Boxes are xyxy in float32 pixels of the network's input. Padding is benign (a unit box, label 0,
False in `valid`), never a sentinel: later code need not know how much of it there is.
"""
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

import torch
from torch import Tensor


class Masks(NamedTuple):
    """Instance bitmaps of a batch, each cropped to its object and concatenated.

    A crop holds its object's pixels and, inside the image, a margin of one empty pixel. So RoIAlign
    on the crop equals RoIAlign on the whole bitmap.
    """
    data: Tensor  # uint8 [sum of w*h], 0 or 1, row-major crops
    offset: Tensor  # int64 [B, G], start of a crop in data
    rect: Tensor  # int64 [B, G, 4], x0 y0 w h of a crop in input pixels; w = h = 0 in an empty slot
    max_size: Tuple[int, int]  # largest (h, w) of the batch, known to the host


class Outlines(NamedTuple):
    """Instance polygons of a batch (`poly2mask=False`), with concatenated sides."""
    sides: Tensor  # float64 [N, 4], x0 y0 x1 y1 in input pixels
    part: Tensor  # int64 [N], index of the side's polygon in its object, from 0
    start: Tensor  # int64 [B, G], an object's first side
    count: Tensor  # type: ignore[assignment] # tuple.count; int64 [B, G], its number of sides; 0 in an empty slot
    max_sides: int  # largest number of an object in the batch, known to the host
    max_parts: int


class SemanticMaps(NamedTuple):
    """The class of each pixel of a batch's images, in maps of one size."""
    labels: Tensor  # int64 [B, h, w]
    present: Tuple[int, ...]  # the labels that occur in the batch, known to the host


class GroundTruth(NamedTuple):
    boxes: Tensor  # float32 [B, G, 4]
    labels: Tensor  # int64 [B, G]
    valid: Tensor  # bool [B, G]
    ignore: Tensor  # float32 [B, I, 4], crowd and difficult regions
    ignore_valid: Tensor  # bool [B, I]
    masks: Union[Masks, Outlines, None] = None
    semantic: Optional[SemanticMaps] = None


class Regions(NamedTuple):
    """Proposals that a dataset gives with its images."""
    boxes: Tensor  # float32 [B, P, 4]
    valid: Tensor  # bool [B, P]


class ClassTruth(NamedTuple):
    """Labels of a classifier's images."""
    labels: Tensor  # int64 [B]; or float32 [B, K], shares of the classes: several labels, or mixed images


class Batch(NamedTuple):
    """Images padded to a common size (right and bottom), and their metadata."""
    images: Tensor  # [B, C, H, W], float32 normalized, or uint8 to be normalized by mean and std
    sizes: Tensor  # float32 [B, 2], height and width without padding (V2's img_shape)
    pad_sizes: Tensor  # float32 [B, 2], height and width after the pipeline's own Pad (V2's pad_shape); at most [H, W]
    scale_factors: Tensor  # float32 [B, 4], input pixels per original pixel, for x y x y
    metas: List[Dict[str, Any]]  # host only: V2's img_metas
    mean: Optional[Tensor] = None  # float32 [B, C], with uint8 images only
    std: Optional[Tensor] = None  # float32 [B, C]
    gt: Union[GroundTruth, ClassTruth, None] = None
    # host only: height and width [B] of images padded to the size of a larger one; None if there are none
    own_sizes: Optional[List[Tuple[int, int]]] = None
    proposals: Optional[Regions] = None


class Detections(NamedTuple):
    """Predictions of a batch in pixels of the original images, best score first."""
    boxes: Tensor  # float32 [B, D, 4]
    scores: Tensor  # float32 [B, D], 0..1
    labels: Tensor  # int64 [B, D]
    valid: Tensor  # bool [B, D]
    masks: Optional[Tensor] = None  # float32 [B, D, M, M], probability inside the box
    mask_scores: Optional[Tensor] = None  # float32 [B, D], about 0..1; None: those of the boxes


class Scores(NamedTuple):
    """Predictions of a classifier."""
    scores: Tensor  # float32 [B, K], 0..1


class Losses(NamedTuple):
    """Losses of a training step: `terms` are summed and differentiated, `metrics` are only logged."""
    terms: Dict[str, Tensor]  # V2's log keys; scalars
    metrics: Dict[str, Tensor] = {}

    @property
    def total(self) -> Tensor:
        return sum(self.terms.values())  # type: ignore[return-value] # there is always one


def to_device(value: Any, device: torch.device) -> Any:
    """Return the same structure with tensors on `device`; copies from pinned memory do not wait.

    Copies from a GPU to the host do not wait either: HostCopy knows when they are complete.
    """
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple) and hasattr(value, '_fields'):
        return type(value)(*(to_device(field, device) for field in value))
    if isinstance(value, (list, tuple)) and value and not isinstance(value[0], dict):
        return type(value)(to_device(item, device) for item in value)
    return value


class HostCopy:
    """An asynchronous copy of a structure from `device` to the host; `read` waits until it is done.

    Between the two the device gets other work, so that it never idles.
    """

    def __init__(self, value: object, device: torch.device):
        self._value = to_device(value, torch.device('cpu'))  # into pinned memory
        self._arrived = None
        if device.type == 'cuda':  # the stream of the copies, whatever the current device is
            self._arrived = torch.cuda.current_stream(device).record_event()

    def read(self) -> Any:
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._value
