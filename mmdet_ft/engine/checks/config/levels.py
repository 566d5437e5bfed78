"""Whether the parts of a detector fit together: channels and numbers of levels, as far as the config alone tells.

    backbone -- channels of each output --> neck -- num_outs levels of out_channels --> rpn_head, roi_head

Of classes of this package only, whose outputs follow from their arguments; what a user's own part gives is not known.
"""
import inspect
from typing import Any, Dict, List, NamedTuple, Optional

from mmdet_ft.engine.checks.config.mistakes import Findings
from mmdet_ft.engine.checks.config.vocabulary import vocabulary
from mmdet_ft.models.anchors import AnchorGenerator
from mmdet_ft.models.backbones.resnet import ResNet
from mmdet_ft.models.dense_heads.rpn_head import RPNHead
from mmdet_ft.models.detectors.two_stage import TwoStageDetector
from mmdet_ft.models.necks.fpn import FPN
from mmdet_ft.models.necks.hrfpn import HRFPN
from mmdet_ft.models.roi_heads.roi_extractor import SingleRoIExtractor
from mmdet_ft.models.roi_heads.standard_roi_head import StandardRoIHead
from mmdet_ft.registry import MODELS


class Part(NamedTuple):
    """A part of the model: where it stands, its class, and its arguments with the defaults."""
    path: str
    cls: Any
    arguments: Dict[str, Any]

    def numbers(self, name: str) -> Optional[List[Any]]:
        """An argument that is a list."""
        value = self.arguments.get(name)
        return list(value) if isinstance(value, (list, tuple)) else None


def check_levels(found: Findings) -> None:
    """The neck against the backbone, and the heads against the neck."""
    model = _part(found.config, 'model', TwoStageDetector)
    neck = model and _part(model.arguments, 'model.neck', FPN, HRFPN)
    if not neck:
        return
    _check_inputs(found, _part(model.arguments, 'model.backbone', ResNet), neck)
    anchors = None
    rpn_head = _part(model.arguments, 'model.rpn_head', RPNHead)
    if rpn_head:
        _check_channels(found, rpn_head, neck)
        anchors = _part(rpn_head.arguments, 'model.rpn_head.anchor_generator', AnchorGenerator)
        _check_strides(found, anchors, 'strides', neck)
    roi_head = _part(model.arguments, 'model.roi_head', StandardRoIHead)
    if not roi_head:
        return
    for kind in ('bbox', 'mask'):
        if roi_head.arguments['shared_head'] is None:
            _check_channels(found, _part(roi_head.arguments, f'model.roi_head.{kind}_head'), neck)
        extractor = _part(roi_head.arguments, f'model.roi_head.{kind}_roi_extractor',
                          SingleRoIExtractor)
        _check_strides(found, extractor, 'featmap_strides', neck, may_be_fewer=True)
        _compare_strides(found, extractor, anchors)


def _part(around: Any, path: str, *kinds: type) -> Optional[Part]:
    """A part of a class of this package that is one of `kinds`; None for any other."""
    value = around.get(path.rpartition('.')[2])
    kind = value.get('type') if isinstance(value, dict) else None
    cls = MODELS.get(kind, value) if isinstance(kind, str) else kind
    if not inspect.isclass(cls) or not cls.__module__.startswith('mmdet_ft.') \
            or not issubclass(cls, kinds or object):
        return None
    parameters = vocabulary(cls).parameters
    return Part(path, cls, {**{name: parameters[name].default for name in parameters}, **value})


def _check_inputs(found: Findings, backbone: Optional[Part], neck: Part) -> None:
    asked, given = neck.numbers('in_channels'), backbone and _channels(backbone)
    if asked is None or not given:
        return
    first, last = neck.arguments.get('start_level', 0), neck.arguments.get('end_level', -1)
    used = slice(first, None if last == -1 else last + 1)
    if len(asked) != len(given) or asked[used] != given[used]:
        found.say(
            f'{neck.path}.in_channels',
            f'is {asked}, but {backbone.cls.__name__} of model.backbone gives {given} '
            f'(out_indices={tuple(backbone.numbers("out_indices"))}); write in_channels={given}')


def _channels(backbone: Part) -> Optional[List[int]]:
    """Of each output of a ResNet whose stages double the width; None for another one."""
    if backbone.cls.plan is not ResNet.plan:
        return None
    depth, stages = backbone.arguments['depth'], backbone.numbers('out_indices')
    if stages is None or depth not in list(backbone.cls.arch_settings):
        return None
    expansion = backbone.arguments['expansion'] or backbone.cls.arch_settings[depth][0].expansion
    return [
        backbone.arguments['base_channels'] * 2**stage * expansion for stage in sorted(set(stages))
    ]


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


def _compare_strides(found: Findings, extractor: Optional[Part], anchors: Optional[Part]) -> None:
    """Both are pixels of the image a pixel of the level. It runs with others too, so it is no mistake."""
    ours, theirs = (extractor and extractor.numbers('featmap_strides'), anchors
                    and anchors.numbers('strides'))
    if not found.mistakes and ours and theirs and all(
            isinstance(stride, int) for stride in theirs) and theirs[:len(ours)] != ours:
        places = [f'{extractor.path}.featmap_strides', f'{anchors.path}.strides']
        found.warnings.append(
            f'{places[0]}={ours} ({found.where(places[0])}) are other strides than those of the anchors '
            f'of the same levels, {places[1]}={theirs} ({found.where(places[1])})')
