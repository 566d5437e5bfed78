"""A pipeline: transforms one after the other, and the pass that leaves normalisation to the device."""
from typing import Any, Dict, List, Optional, Sequence

from mmdet_ft.registry import PIPELINES


@PIPELINES.register_module()
class Compose:
    """Apply transforms in order; one that returns None ends it, and the sample is None.

    Args:
        transforms: dicts of a pipeline, or callables dict -> dict.

    When the pipeline is built, `defer_normalize` may replace Normalize: `transforms` shows what runs.
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
        self.transforms: List[Any] = defer_normalize(built)

    def __call__(self, data: Dict[str, Any]) -> Optional[Dict[str, Any]]:
        for transform in self.transforms:
            data = transform(data)
            if data is None:
                return None
        return data

    def __repr__(self) -> str:
        lines = [repr(transform).replace('\n', '\n    ') for transform in self.transforms]
        return 'Compose(\n' + ''.join(f'    {line}\n' for line in lines) + ')'


def defer_normalize(transforms: List[Any]) -> List[Any]:
    """Let the image travel as uint8 and be normalised on the device, where that gives the same numbers.

    The last Normalize is replaced by DeferredNormalize when all that follow it are this package's own Pad (with 0),
    ImageToTensor, ToTensor, DefaultFormatBundle and Collect, and among them is one that makes the image a tensor and
    a Collect. Padding is zero after normalising in both cases: the device sets it after it has normalised. A Pad there
    becomes a DeferredPad and a RandomFlip just before a DeferredFlip, which saves a copy each.
    """
    from mmdet_ft.datasets.pipelines.color import DeferredNormalize, Normalize
    from mmdet_ft.datasets.pipelines.formatting import (Collect, DefaultFormatBundle, ImageToTensor,
                                                        ToTensor)
    from mmdet_ft.datasets.pipelines.geometric import DeferredFlip, DeferredPad, Pad, RandomFlip
    places = [place for place, transform in enumerate(transforms) if type(transform) is Normalize]
    if not places:
        return transforms
    place = places[-1]
    makes_tensor = collects = False
    for transform in transforms[place + 1:]:
        kind = type(transform)  # a subclass may do anything
        if kind is Pad and not collects and not makes_tensor and transform.fills_with_zeros():
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
    normalize = transforms[place]
    late = [DeferredNormalize(normalize.mean, normalize.std, normalize.to_rgb)]
    for transform in transforms[place + 1:]:
        if type(transform) is Pad:
            transform = DeferredPad(transform.size, transform.size_divisor, transform.pad_to_square,
                                    transform.pad_val)
        late.append(transform)
    early = transforms[:place]
    if early and type(early[-1]) is RandomFlip:
        early[-1] = DeferredFlip(early[-1].flip_ratio, early[-1].direction)
    return early + late
