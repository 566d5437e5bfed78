"""Whether the parts of a model fit together: channels and numbers of levels, as far as the config alone tells.

    backbone -- channels of each output --> neck -- num_outs levels of out_channels --> rpn_head, roi_head
    backbone -- channels of its last output --> head of a classifier

Of classes of this package only; what a user's own part gives is not known.
"""
import inspect
import warnings
from typing import Any, Dict, List, NamedTuple, Optional

import torch
from torch import Tensor

from mmdet_ft.engine.checks.config.mistakes import Findings
from mmdet_ft.engine.checks.config.vocabulary import vocabulary
from mmdet_ft.models.anchors import AnchorGenerator
from mmdet_ft.models.classifiers.image import ImageClassifier
from mmdet_ft.models.dense_heads.rpn_head import RPNHead
from mmdet_ft.models.detectors.two_stage import TwoStageDetector
from mmdet_ft.models.heads.cls_head import ClsHead, MultiLabelClsHead
from mmdet_ft.models.necks.fpn import FPN
from mmdet_ft.models.necks.gap import GlobalAveragePooling
from mmdet_ft.models.necks.hrfpn import HRFPN
from mmdet_ft.models.roi_heads.roi_extractor import SingleRoIExtractor
from mmdet_ft.models.roi_heads.standard_roi_head import StandardRoIHead
from mmdet_ft.registry import MODELS

IMAGE = 128  # pixels, of the image that a backbone is asked about
_known: Dict[Any, Optional[List[Tensor]]] = {}  # a config is checked more than once


class Part(NamedTuple):
    """A part of the model: where it stands, its class, its arguments as written and with the defaults."""
    path: str
    cls: Any
    written: Dict[str, Any]
    arguments: Dict[str, Any]

    def numbers(self, name: str) -> Optional[List[Any]]:
        """An argument that is a list."""
        value = self.arguments.get(name)
        return list(value) if isinstance(value, (list, tuple)) else None


def check_levels(found: Findings) -> None:
    """The neck against the backbone, and the heads against the neck."""
    _check_classifier(found)
    model = _part(found.config, 'model', TwoStageDetector)
    neck = model and _part(model.arguments, 'model.neck', FPN, HRFPN)
    if not neck:
        return
    backbone = _part(model.arguments, 'model.backbone')
    outputs = backbone and _outputs(backbone)
    if outputs:
        _check_inputs(found, backbone, outputs, neck)
    rpn_head = _part(model.arguments, 'model.rpn_head', RPNHead)
    if rpn_head:
        _check_channels(found, rpn_head, neck)
        anchors = _part(rpn_head.arguments, 'model.rpn_head.anchor_generator', AnchorGenerator)
        _check_strides(found, anchors, 'strides', neck)
        _compare_strides(found, anchors, 'strides', neck, outputs)
    roi_head = _part(model.arguments, 'model.roi_head', StandardRoIHead)
    if not roi_head:
        return
    for kind in ('bbox', 'mask'):
        if roi_head.arguments['shared_head'] is None:
            _check_channels(found, _part(roi_head.arguments, f'model.roi_head.{kind}_head'), neck)
        extractor = _part(roi_head.arguments, f'model.roi_head.{kind}_roi_extractor',
                          SingleRoIExtractor)
        _check_strides(found, extractor, 'featmap_strides', neck, may_be_fewer=True)
        _compare_strides(found, extractor, 'featmap_strides', neck, outputs)


def _part(around: Any, path: str, *kinds: type) -> Optional[Part]:
    """A part of a class of this package that is one of `kinds`; None for any other."""
    value = around.get(path.rpartition('.')[2])
    kind = value.get('type') if isinstance(value, dict) else None
    cls = MODELS.get(kind, value) if isinstance(kind, str) else kind
    if not inspect.isclass(cls) or not cls.__module__.startswith('mmdet_ft.') \
            or not issubclass(cls, kinds or object):
        return None
    parameters = vocabulary(cls).parameters
    written = {name: argument for name, argument in value.items() if name != 'type'}
    return Part(path, cls, written,
                {**{name: parameters[name].default for name in parameters}, **written})


def _check_classifier(found: Findings) -> None:
    model = _part(found.config, 'model', ImageClassifier)
    head = model and _part(model.arguments, 'model.head', ClsHead, MultiLabelClsHead)
    if not head or model.arguments['neck'] and not _part(model.arguments, 'model.neck',
                                                         GlobalAveragePooling):
        return
    backbone = _part(model.arguments, 'model.backbone')
    outputs = backbone and _outputs(backbone)
    if not outputs:
        return
    given = outputs[-1].shape[1]
    if 'in_channels' not in head.arguments:  # it takes what the backbone gives for scores
        if not (backbone.arguments.get('num_classes') or 0) > 0:
            linear = head.cls.__name__.replace('ClsHead', 'LinearClsHead')
            found.say(
                head.path, f'{head.cls.__name__} has no layer: the {given} features of '
                f'{backbone.cls.__name__} would be taken for the scores of as many classes; write '
                f"head=dict(type={linear!r}, num_classes=..., in_channels={given})")
        return
    if outputs[-1].dim() == 4 and not model.arguments['neck']:
        return found.say(
            'model.neck', f'is None, but {head.cls.__name__} takes one vector an image and '
            f"{backbone.cls.__name__} gives maps; write neck=dict(type='GlobalAveragePooling')")
    asked = head.arguments['in_channels']
    if asked != given and outputs[-1].dim() == (4 if model.arguments['neck'] else 2):
        found.say(
            f'{head.path}.in_channels',
            f'is {asked}, but {backbone.cls.__name__} of model.backbone gives {given}; write in_channels={given}'
        )


def _outputs(backbone: Part) -> Optional[List[Tensor]]:
    """Without values: what a backbone makes of an image [1, 3, IMAGE, IMAGE]; None where its arguments are wrong
    or it takes other images. Some 0.05 s for a ResNet-50, once."""
    key = (backbone.cls, repr(backbone.written))
    if key not in _known:
        try:
            with torch.device('meta'), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter('ignore')
                outputs = backbone.cls(**backbone.written).eval()(torch.empty(1, 3, IMAGE, IMAGE))
            _known[key] = [outputs] if isinstance(outputs, Tensor) else list(outputs)
        except Exception:  # of many kinds; others tell of it
            _known[key] = None
    return _known[key]


def _check_inputs(found: Findings, backbone: Part, outputs: List[Tensor], neck: Part) -> None:
    asked, given = neck.numbers('in_channels'), [output.shape[1] for output in outputs]
    if asked is None:
        return
    used = _used(neck)
    if len(asked) != len(given) or asked[used] != given[used]:
        indices = backbone.numbers('out_indices')
        found.say(
            f'{neck.path}.in_channels',
            f'is {asked}, but {backbone.cls.__name__} of model.backbone gives {given}'
            f'{f" (out_indices={tuple(indices)})" if indices else ""}; write in_channels={given}')


def _used(neck: Part) -> slice:
    """The backbone's outputs that the neck takes."""
    first, last = neck.arguments.get('start_level', 0), neck.arguments.get('end_level', -1)
    return slice(first, None if last == -1 else last + 1)


def _check_channels(found: Findings, head: Optional[Part], neck: Part) -> None:
    asked, given = head and head.arguments.get('in_channels'), neck.arguments['out_channels']
    if isinstance(asked, int) and asked != given:
        where = found.where(f'{neck.path}.out_channels')
        found.say(
            f'{head.path}.in_channels',
            f'is {asked}, but {neck.path}.out_channels is {given} ({where}); write in_channels={given}'
        )


def _check_strides(found: Findings,
                   part: Optional[Part],
                   name: str,
                   neck: Part,
                   may_be_fewer: bool = False) -> None:
    """One stride a level; a RoI extractor may leave the coarsest levels alone."""
    strides, levels = part and part.numbers(name), neck.arguments['num_outs']
    if not strides or len(strides) == levels or may_be_fewer and len(strides) < levels:
        return
    first = strides[0] if isinstance(strides[0], int) else 4
    doubled = [first * 2**level for level in range(levels)]
    found.say(
        f'{part.path}.{name}', f'{strides} are {len(strides)} strides, but {neck.path}.num_outs is '
        f'{levels} ({found.where(f"{neck.path}.num_outs") or "by default"}); write one stride a level, '
        f'such as {name}={doubled}')


def _compare_strides(found: Findings, part: Optional[Part], name: str, neck: Part,
                     outputs: Optional[List[Tensor]]) -> None:
    """With those of the levels, in pixels of the image a pixel. It runs with others too, so it is no mistake."""
    written = part and part.numbers(name)
    given = outputs and _strides(neck, outputs)
    if not found.mistakes and written and given and all(
            isinstance(stride, int) for stride in written) and given[:len(written)] != written:
        place = f'{part.path}.{name}'
        found.warnings.append(
            f'{place}={written} ({found.where(place)}), but a pixel of the levels of {neck.path} is '
            f'{given} pixels of the image: boxes and features would not meet')


def _strides(neck: Part, outputs: List[Tensor]) -> List[int]:
    """Of the neck's levels: the backbone's, then each twice the one before; an HRFPN's all double."""
    strides = [round(IMAGE / output.shape[-1]) for output in outputs][_used(neck)]
    if neck.cls is HRFPN:
        strides = [strides[0] * neck.arguments['stride']]
    while len(strides) < neck.arguments['num_outs']:
        strides.append(2 * strides[-1])
    return strides
