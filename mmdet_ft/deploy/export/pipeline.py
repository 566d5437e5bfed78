"""A config's test pipeline as the steps, mean and padding that a file carries."""
from typing import Any, Callable, Dict, List, Mapping, Sequence

from mmdet_ft.errors import UserError

# Transforms that change nothing of a test image, or are done by reading and batching it.
WITHOUT_EFFECT = ('RandomFlip', 'ImageToTensor', 'DefaultFormatBundle', 'Collect', 'ToTensor',
                  'WrapFieldsToLists')
Settings = Dict[str, Any]


def read_pipeline(pipeline: Sequence[Mapping[str, Any]]) -> Settings:
    """Return `steps`, `mean`, `std`, `to_rgb` and `divisor` of ModelFacts.

    Raises UserError for a transform that a file cannot carry, with the reason.
    """
    found: Settings = dict(steps=[], mean=(0., 0., 0.), std=(1., 1., 1.), to_rgb=False, divisor=1)
    for transform in _flat(pipeline):
        kind = transform['type']
        if kind in READERS:
            READERS[kind](found, transform)
        elif kind not in WITHOUT_EFFECT:
            raise UserError(
                f'data.test.pipeline: {kind} has no export form; there is one of {", ".join(READERS)}'
            )
    found['steps'] = tuple(found['steps'])
    return found


def _flat(pipeline: Sequence[Mapping[str, Any]]) -> List[Mapping[str, Any]]:
    """Return the transforms without MultiScaleFlipAug, whose only view sets the scale of its Resize."""
    transforms: List[Mapping[str, Any]] = []
    for transform in pipeline:
        if transform['type'] != 'MultiScaleFlipAug':
            transforms.append(transform)
            continue
        scale = transform.get('img_scale')
        if isinstance(scale, list) and len(scale) == 1:
            scale = scale[0]
        if transform.get('flip') or scale is None or isinstance(
                scale, list) and not isinstance(scale[0], (int, float)):
            raise UserError(
                'data.test.pipeline: a file holds one view of an image: write MultiScaleFlipAug with one img_scale '
                'and flip=False')
        transforms += [{
            **inner, 'img_scale': scale
        } if inner['type'] == 'Resize' and inner.get('size') is None else inner
                       for inner in transform['transforms']]
    return transforms


def _how(transform: Mapping[str, Any]) -> Settings:
    return dict(
        interpolation=transform.get('interpolation', 'bilinear'),
        backend=transform.get('backend', 'cv2'))


def _read_loading(found: Settings, transform: Mapping[str, Any]) -> None:
    if transform.get('to_float32'):
        raise UserError(
            'data.test.pipeline: LoadImageFromFile(to_float32=True) has no export form: files take images of bytes; '
            'write to_float32=False')


def _read_resize(found: Settings, transform: Mapping[str, Any]) -> None:
    size: Any = transform.get('size')
    scale: Any = transform.get('img_scale')
    if isinstance(scale, list) and scale and isinstance(scale[0], (list, tuple)):
        scale = scale[0] if len(scale) == 1 else None
    if size is None and scale is None:
        raise UserError('data.test.pipeline: Resize needs one img_scale, or a size')
    if size is not None:
        size = [size, size] if isinstance(size, int) else list(size)
        step = dict(type='resize', size=size)
        if size[1] == -1:
            step = dict(
                type='resize_side', size=size[0], by=transform.get('adaptive_side', 'short'))
    elif transform.get('keep_ratio', True):
        step = dict(type='fit', scale=list(scale))
    else:
        step = dict(type='resize', size=list(scale)[::-1])
    found['steps'].append({**step, **_how(transform)})


def _read_crop(found: Settings, transform: Mapping[str, Any]) -> None:
    size = transform['crop_size']
    size = [size, size] if isinstance(size, int) else list(size)
    step = dict(type='crop', size=size)
    if transform.get('efficientnet_style'):
        step = dict(
            type='crop_share',
            size=size,
            padding=transform.get('crop_padding', 32),
            **_how(transform))
    found['steps'].append(step)


def _read_normalize(found: Settings, transform: Mapping[str, Any]) -> None:
    found.update(
        mean=tuple(map(float, transform['mean'])),
        std=tuple(map(float, transform['std'])),
        to_rgb=bool(transform.get('to_rgb', True)) and len(transform['mean']) == 3)


def _read_pad(found: Settings, transform: Mapping[str, Any]) -> None:
    value = transform.get('pad_val', 0)
    value = value.get('img', 0) if isinstance(value, Mapping) else value
    plain = transform.get(
        'padding_mode',
        'constant') == 'constant' and not (any(value) if isinstance(value,
                                                                    (list, tuple)) else value)
    if transform.get('size_divisor') is None or not plain:
        raise UserError(
            'data.test.pipeline: of Pad there is an export form with size_divisor and zeros only')
    found['divisor'] = transform['size_divisor']


READERS: Dict[str, Callable[[Settings, Mapping[str, Any]], None]] = dict(
    LoadImageFromFile=_read_loading,
    LoadImageFromWebcam=_read_loading,
    Resize=_read_resize,
    CenterCrop=_read_crop,
    Normalize=_read_normalize,
    Pad=_read_pad)
