"""A pipeline: transforms applied in order, and the pass that defers normalization to the device."""
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np

from mmdet_ft.config.errors import CheckError
from mmdet_ft.datasets.pipelines.shared.moves import check_effect, check_steps, moved_by
from mmdet_ft.registry import PIPELINES


@PIPELINES.register_module()
class Compose:
    """Apply transforms in order; a transform that returns None rejects the sample, and the result is None.

    Args:
        transforms: dicts of a pipeline, or callables dict -> dict.

    When the pipeline is built, `defer_normalize` may replace Normalize: `transforms` shows what
    runs. `ended_by` names the transform that rejected the last rejected sample.

    Raises CheckError for transforms that would not move boxes, masks or maps with the image. A
    user's own transforms without a declaration are checked while they run.
    """

    def __init__(self, transforms: Sequence[Any]):
        if isinstance(transforms, (str, bytes, dict)) or not isinstance(transforms, Sequence):
            raise TypeError(
                f'a pipeline is a list of transforms, not a {type(transforms).__name__}')
        built = []
        for transform in transforms:
            if not isinstance(transform, dict) and not callable(transform):
                raise TypeError(
                    f'a transform is a dict with type=... or a callable, found {transform!r}')
            built.append(PIPELINES.build(transform))
        check_steps(transforms)
        self.transforms: List[Any] = defer_normalize(built)
        self.ended_by: Optional[str] = None

    def __call__(self, data: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        for transform in self.transforms:
            data = apply(transform, data)
            if data is None:
                self.ended_by = getattr(transform, 'ended_by', None) or name_of(transform)
                return None
        return data

    def __repr__(self) -> str:
        lines = [repr(transform).replace('\n', '\n    ') for transform in self.transforms]
        return 'Compose(\n' + ''.join(f'    {line}\n' for line in lines) + ')'


def name_of(transform: object) -> str:
    """Return the type name of a transform, or the name of a function."""
    kind = type(transform).__name__
    return getattr(transform, 'type_name', None) or getattr(transform, '__name__', kind)


def apply(transform: Callable[..., Any], data: object) -> Any:
    """Run one transform; raise CheckError if it gets no sample, or does not move boxes that it should."""
    if not isinstance(data, Mapping):
        raise CheckError(
            f'{name_of(transform)} got a {type(data).__name__} from the transform before it; a transform takes and '
            f'returns the dict of the sample')
    img, boxes = data.get('img'), data.get('gt_bboxes')
    if not isinstance(boxes, np.ndarray) or not isinstance(img, np.ndarray) or moved_by(
            transform, getattr(transform, '__dict__', {})) is not None:
        return transform(data)
    boxes = boxes.copy()
    result = transform(data)
    if isinstance(result, Mapping):
        check_effect(transform, img, boxes, result)
    return result


def check_given(sample: object, pipeline: object, where: str) -> None:
    """Raise CheckError if a pipeline has rejected a sample that no other sample can replace."""
    if sample is None:
        name = getattr(pipeline, 'ended_by', None) or 'a transform'
        raise CheckError(
            f'{name} has returned None for {where}. Only a training set of a detector draws another image then: a '
            f'transform of your own ends with `return results`; one that chooses images belongs into '
            f'data.train.pipeline')


def defer_normalize(transforms: List[Any]) -> List[Any]:
    """Keep the image uint8 and normalize it on the device, where that gives the same numbers.

    The last Normalize is replaced by DeferredNormalize if only this package's own Pad (with 0),
    ImageToTensor, ToTensor, DefaultFormatBundle and Collect follow it. One of them has to convert
    the image to a tensor, and one has to be Collect. Padding is zero after normalization in both
    cases: the device sets it after normalizing. A following Pad becomes a DeferredPad and a
    RandomFlip just before a DeferredFlip, which saves a copy each.
    """
    from mmdet_ft.datasets.pipelines.shared.color import DeferredNormalize, Normalize
    from mmdet_ft.datasets.pipelines.shared.formatting import (Collect, DefaultFormatBundle,
                                                               ImageToTensor, ToTensor)
    from mmdet_ft.datasets.pipelines.shared.resize_flip import (DeferredFlip, DeferredPad, Pad,
                                                                RandomFlip, SegRescale)
    indices = [index for index, transform in enumerate(transforms) if type(transform) is Normalize]
    if not indices:
        return transforms
    index = indices[-1]
    makes_tensor = collects = False
    for transform in transforms[index + 1:]:
        kind = type(transform)  # a subclass may do anything
        if kind is Pad and not collects and not makes_tensor and transform.fills_with_zeros():
            continue
        if kind is SegRescale:
            continue
        if kind is DefaultFormatBundle and transform.pad_val.get('img', 0) == 0:
            makes_tensor = True
        elif kind is ImageToTensor and tuple(transform.keys) == ('img', ):
            makes_tensor = True
        elif kind is Collect and makes_tensor and not collects:
            collects = True
        elif not (kind is ToTensor and (makes_tensor or 'img' not in transform.keys)):
            return transforms
    if not collects:
        return transforms
    normalize = transforms[index]
    late = [DeferredNormalize(normalize.mean, normalize.std, normalize.to_rgb)]
    for transform in transforms[index + 1:]:
        if type(transform) is Pad:
            transform = DeferredPad(transform.size, transform.size_divisor, transform.pad_to_square,
                                    transform.pad_val)
        late.append(transform)
    early = transforms[:index]
    if early and type(early[-1]) is RandomFlip:
        early[-1] = DeferredFlip(early[-1].flip_ratio, early[-1].direction)
    return early + late
