"""Several views of an image at test time."""
import warnings
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from mmdet_ft.datasets.pipelines.shared.compose import Compose, check_given
from mmdet_ft.datasets.pipelines.shared.resize_flip import as_scales
from mmdet_ft.registry import PIPELINES


@PIPELINES.register_module()
class MultiScaleFlipAug:
    """Run `transforms` once per view: every scale unflipped and (with `flip`) flipped in every direction.

    Args:
        transforms: a pipeline; its Resize and RandomFlip follow the view.
        img_scale: one (long, short) or a list of them.
        scale_factor: instead, one factor or a list.
        flip: also the flipped views.
        flip_direction: 'horizontal', 'vertical', 'diagonal', or a list of them.

    Returns a dict of lists, one entry per view: scale by scale, the unflipped one first.
    """

    def __init__(self,
                 transforms: Sequence[Any],
                 img_scale: Union[Tuple[int, int], List[Tuple[int, int]], None] = None,
                 scale_factor: Union[float, List[float], None] = None,
                 flip: bool = False,
                 flip_direction: Union[str, List[str]] = 'horizontal'):
        self.transforms = Compose(transforms)
        if (img_scale is None) == (scale_factor is None):
            raise ValueError(
                f'MultiScaleFlipAug takes one of img_scale={img_scale} and scale_factor={scale_factor}'
            )
        self.scale_key = 'scale' if img_scale is not None else 'scale_factor'
        self.img_scale: List[Any]
        if img_scale is not None:
            self.img_scale = as_scales(img_scale)
        else:
            self.img_scale = scale_factor if isinstance(scale_factor, list) else [scale_factor]
        self.flip = flip
        self.flip_direction = flip_direction if isinstance(flip_direction,
                                                           list) else [flip_direction]
        if not self.flip and self.flip_direction != ['horizontal']:
            warnings.warn('flip_direction has no effect when flip is set to False')
        kinds = [
            kind.__name__ for step in self.transforms.transforms for kind in type(step).__mro__
        ]
        if self.flip and 'RandomFlip' not in kinds:
            warnings.warn('flip has no effect when RandomFlip is not in transforms')

    def __call__(self, results: Dict[str, Any]) -> Optional[Dict[str, List[Any]]]:
        views: List[Tuple[bool, Optional[str]]] = [(False, None)]
        if self.flip:
            views += [(True, direction) for direction in self.flip_direction]
        samples = []
        for scale in self.img_scale:
            for flip, direction in views:
                view = results.copy()
                for fields in ('img_fields', 'bbox_fields', 'mask_fields', 'seg_fields'):
                    if fields in view:
                        view[fields] = list(view[fields])
                view.update({self.scale_key: scale, 'flip': flip, 'flip_direction': direction})
                sample = self.transforms(view)
                check_given(sample, self.transforms, f'a view of {results.get("filename")!r}')
                samples.append(sample)
        return {key: [sample[key] for sample in samples] for key in samples[0]}

    def __repr__(self) -> str:
        return (
            f'MultiScaleFlipAug(transforms={self.transforms}, img_scale={self.img_scale}, flip={self.flip}, '
            f'flip_direction={self.flip_direction})')
