"""Checks that the parts of a model fit together: channels, number and strides of feature maps.

    backbone -- maps --> neck -- maps of all levels --> heads, each declares its inputs
    backbone -- map or vector --> head of a classifier

The parts are built on PyTorch's meta device, without values. The backbone and the neck run there once, so
their outputs are the real ones, also for user code. A part declares its own inputs, see mmdet_ft.parts.
"""
import copy
import inspect
import warnings
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from mmdet_ft.engine.config_check.mistakes import Findings
from mmdet_ft.engine.config_check.schema import allowed_keys
from mmdet_ft.parts import Takes
from mmdet_ft.registry import MODELS

IMAGE = 512  # pixels, side of the image that the backbone is run on; SSD's last levels need 300
_known: Dict[str, Any] = {}  # cached, as a config is checked more than once


class PartOutputs(NamedTuple):
    """The outputs of a part."""
    path: str  # 'model.neck', or 'model.neck.1' of a list
    kind: str  # its class
    outputs: Sequence[Tensor]  # meta tensors

    @property
    def channels(self) -> List[int]:
        return [output.shape[1] for output in self.outputs]

    @property
    def strides(self) -> Optional[List[int]]:
        """Return the stride of each map in image pixels; None for vectors and for maps of a single pixel."""
        if any(output.dim() != 4 or output.shape[-1] < 2 for output in self.outputs):
            return None
        return [round(IMAGE / output.shape[-1]) for output in self.outputs]


def check_levels(found: Findings) -> Optional[PartOutputs]:
    """Compare the declared inputs of each part of the model with the outputs of the parts before it.

    Returns the maps that the heads get; None where they are unknown.
    """
    model, already = found.config.model, len(found.mistakes)
    image, key = torch.empty(1, 3, IMAGE, IMAGE, device='meta'), repr(model.get('backbone'))
    given = _run(_built(model.get('backbone')), 'model.backbone', image, key)
    for path, settings in _necks(model.get('neck')):
        if given is None:
            return None
        neck = _built(settings)
        for item in _takes(neck):
            _check_input(found, path, item, given)
        if len(found.mistakes) > already:
            return None
        key = repr((key, settings))
        given = _run(neck, path, given.outputs, key)
    if given is None:
        return None
    for name, settings in model.items():
        part = _built(settings) if name not in ('backbone', 'neck') else None
        if part is not None and getattr(part, 'takes_logits', False):
            _check_logits(found, f'model.{name}', part, given)
        for item in _takes(part):
            _check_input(found, f'model.{name}', item, given)
    return given


def _necks(neck: object) -> Iterator[Tuple[str, object]]:
    """Yield the path and settings of a neck, or of each in a list."""
    if isinstance(neck, (list, tuple)):
        for i, settings in enumerate(neck):
            yield f'model.neck.{i}', settings
    elif neck:
        yield 'model.neck', neck


def _built(part: object) -> Optional[nn.Module]:
    """Build a part on the meta device; None if its arguments are wrong, which other checks report."""
    if not isinstance(part, dict):
        return None
    key = repr(part)
    if key not in _known:
        try:
            with torch.device('meta'), warnings.catch_warnings():
                warnings.simplefilter('ignore')
                built = MODELS.build(with_some_classes(copy.deepcopy(part)))
            _known[key] = built.eval() if isinstance(built, nn.Module) else None
        except Exception:
            _known[key] = None
    return _known[key]


def with_some_classes(settings: object) -> Any:
    """Replace num_classes='auto' by a number; the number of classes changes no feature map."""
    if isinstance(settings, dict):
        if settings.get('num_classes') == 'auto':
            settings['num_classes'] = 1
        for value in settings.values():
            with_some_classes(value)
    elif isinstance(settings, (list, tuple)):
        for value in settings:
            with_some_classes(value)
    return settings


def _run(part: Optional[nn.Module], path: str, inputs: Any, key: str) -> Optional[PartOutputs]:
    """Return the outputs of a part; None if it cannot run without values, or takes other images.

    key: names the part and those before it; their outputs are computed once.
    """
    if part is None:
        return None
    key = f'{path} {key}'
    if key not in _known:
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter('ignore')
                outputs = part(inputs)
            _known[key] = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        except Exception:
            _known[key] = None
    outputs = _known[key]
    if not outputs or not all(
            isinstance(output, Tensor) and output.dim() in (2, 4) for output in outputs):
        return None
    return PartOutputs(path, type(part).__name__, outputs)


def _takes(part: Optional[nn.Module]) -> List[Takes]:
    """Return the declared inputs of a part; [] if a subclass overrides `forward` without declaring any."""
    mro = type(part).__mro__
    owner = {
        name: next((i for i, cls in enumerate(mro) if name in vars(cls)), None)
        for name in ('takes', 'forward')
    }
    if owner['takes'] is None or owner['forward'] is not None and owner['forward'] < owner['takes']:
        return []
    return part.takes()


def _check_input(found: Findings, path: str, item: Takes, given: PartOutputs) -> None:
    _check_channels(found, path, item, given)
    _check_strides(found, path, item, given)
    if item.num_levels not in (None, len(given.outputs)):
        key = item.argument.rpartition('.')[2]
        found.report(
            f'{path}.{item.argument}',
            f'is {item.num_levels}, but {_num_outs(found, given)}; write '
            f'{key}={len(given.outputs)}')


def _check_channels(found: Findings, path: str, item: Takes, given: PartOutputs) -> None:
    argument = f'{path}.{item.argument}'
    if item.is_vector:
        if given.outputs[-1].dim() == 4:
            return found.report(
                'model.neck',
                f'is None, but {_class_of(found, path)} takes one vector per image and {given.kind} gives '
                "maps; write neck=dict(type='GlobalAveragePooling')")
        if item.channels != given.channels[-1]:
            source = _first_source(found, given)
            found.report(
                argument,
                f'is {item.channels}, but {source} gives {given.channels[-1]}; write in_channels={given.channels[-1]}'
            )
    elif isinstance(item.channels, int):
        wrong = sorted({channels for channels in given.channels if channels != item.channels})
        if wrong:
            key = item.argument.rpartition('.')[2]
            found.report(
                argument,
                f'is {item.channels}, but {_out_channels(found, given, wrong[0])}; write {key}={wrong[0]}'
            )
    elif item.channels is not None:
        asked, outputs = list(item.channels), given.channels
        if item.coarsest_first:
            outputs = outputs[::-1]
        used = slice(item.first, None if item.last is None else item.last + 1)
        if len(asked) != len(outputs) or asked[used] != outputs[used]:
            indices = _argument(found, given.path, 'out_indices')
            found.report(
                argument, f'is {asked}, but {given.kind} of {given.path} gives {outputs}'
                f'{f" (out_indices={tuple(indices)})" if indices else ""}; write '
                f'{item.argument.rpartition(".")[2]}={outputs}')


def _class_of(found: Findings, path: str) -> str:
    kind = _settings_of(found, path)['type']
    return kind if isinstance(kind, str) else kind.__name__


def _first_source(found: Findings, given: PartOutputs) -> str:
    """Return the backbone's name, for a neck before a classifier's head that only pools."""
    kind = found.config.model.backbone['type']
    return f'{kind if isinstance(kind, str) else kind.__name__} of model.backbone'


def _settings_of(found: Findings, path: str) -> Dict[str, Any]:
    settings: Any = found.config
    for step in path.split('.'):
        settings = settings[int(step) if step.isdigit() else step]
    return settings


def _argument(found: Findings, path: str, name: str) -> Any:
    """Return an argument of a part, as written or its default; None if it has no such argument."""
    part = _settings_of(found, path)
    parameter = allowed_keys(MODELS.class_of(part)).parameters.get(name)
    default = getattr(parameter, 'default', None)
    return part.get(name, None if default is inspect.Parameter.empty else default)


def _out_channels(found: Findings, given: PartOutputs, channels: int) -> str:
    path = f'{given.path}.out_channels'
    if _argument(found, given.path, 'out_channels') == channels:
        return f'{path} is {channels} ({found.where(path)})'
    return f'{given.kind} of {given.path} gives {channels}'


def _check_strides(found: Findings, path: str, item: Takes, given: PartOutputs) -> None:
    """Compare the number of strides with the number of levels, then the strides themselves.

    Wrong strides only give a warning, because they run too.
    """
    if item.strides is None:
        return
    argument, name = f'{path}.{item.argument}', item.argument.rpartition('.')[2]
    written = [
        stride[0] if isinstance(stride, (list, tuple)) and stride[0] == stride[1] else stride
        for stride in item.strides
    ]
    levels = len(given.outputs)
    if len(written) != levels and not (item.may_be_fewer and len(written) < levels):
        first = written[0] if isinstance(written[0], int) else 4
        right = given.strides or [first * 2**level for level in range(levels)]
        return found.report(
            argument, f'{written} are {len(written)} strides, but {_num_outs(found, given)}; '
            f'write one stride a level, such as {name}={right}')
    strides = given.strides and given.strides[item.first:]
    if not found.mistakes and strides and all(isinstance(stride, int) for stride in written) \
            and strides[:len(written)] != written:
        found.warnings.append(
            f'{argument}={written} ({found.where(argument)}), but a pixel of the levels of {given.path} is '
            f'{strides} pixels of the image: boxes and features would not match')


def _num_outs(found: Findings, given: PartOutputs) -> str:
    """Return the number of maps of a part, with the line that says it."""
    count, path = len(given.outputs), f'{given.path}.num_outs'
    if _argument(found, given.path, 'num_outs') == count:
        return f'{path} is {count} ({found.where(path) or "by default"})'
    return f'{given.kind} of {given.path} gives {count} maps'


def _check_logits(found: Findings, path: str, head: nn.Module, given: PartOutputs) -> None:
    """Refuse a head without layers after a backbone that gives features instead of scores."""
    if (_argument(found, 'model.backbone', 'num_classes') or 0) > 0:
        return
    kind = type(head).__name__
    linear = kind.replace('ClsHead', 'LinearClsHead')
    found.report(
        path,
        f'{kind} has no layer: the {given.channels[-1]} features of {_first_source(found, given).split()[0]} '
        f'would be taken for the scores of as many classes; write head=dict(type={linear!r}, num_classes=..., '
        f'in_channels={given.channels[-1]})')
