"""OpenMMLab's files: MMDetection 1, 2 and 3, MMClassification and MMPretrain, and our own."""
import re
from typing import Any, Dict, List, Optional, Tuple

from mmdet_ft.checkpoints.formats.origin import (Converted, File, Origin, Rules, StateDict,
                                                 coco_classes, rename, take_rows, without)
from mmdet_ft.checkpoints.input_format import InputFormat

# Heads of MMDetection 1 that are under roi_head since V2.
ROI_HEADS = 'shared_head|bbox_head|mask_head|semantic_head|grid_head|mask_iou_head'
UPGRADED_FROM = 'upgraded_from'  # in the meta written by upgrade_model_version.py
# Up to version 0.5.3 RetinaNet's convolutions were not ConvModules.
OLD_RETINA: Rules = ((r'(bbox_head\.(?:cls|reg)_convs\.\d)\.(weight|bias)', r'\1.conv.\2'), )
# FCOS named its predictions after itself, up to version 2.2.
OLD_FCOS: Rules = ((r'bbox_head\.fcos_(cls|reg|centerness)\.(.+)', r'bbox_head.conv_\1.\2'), )
# The offset convolution of a deformable convolution was next to it, not inside it.
OLD_OFFSETS: Rules = ((r'(.+\.conv2)_offset\.(weight|bias)', r'\1.conv_offset.\2'), )


def version_of(file: File, package: str) -> Tuple[int, ...]:
    """Return (major, minor) of the package that wrote the file; () if the file does not say."""
    found = re.match(r'(\d+)\.(\d+)', str(file.meta.get(f'{package}_version', '')))
    return tuple(map(int, found.groups())) if found else ()


def mmdet_1(file: File) -> Optional[Converted]:
    """Convert MMDetection 0.x and 1.x: heads at the top level, the background first.

    Weights are reordered as in V2's upgrade script, and here biases always follow their weights. The
    script drops the last class instead of the background from the biases of fc_reg and conv_logits.
    It also rotates the biases of the RPN and of RetinaNet by one.
    """
    version = version_of(file, 'mmdet')
    names = rename(file.state_dict, OLD_OFFSETS)
    in_roi_head = any(name.startswith('rpn_head.') for name in names) and any(
        re.match(f'({ROI_HEADS})\\.', name) for name in names)
    is_fcos = 'bbox_head.fcos_cls.weight' in names
    if not in_roi_head and not (version and version < (2, 0) or is_fcos and not version):
        return None
    rules: List[Tuple[str, str]] = [*OLD_FCOS]
    if in_roi_head:
        rules.append((f'(({ROI_HEADS})\\..+)', r'roi_head.\1'))
    elif 'bbox_head.retina_cls.weight' in names:
        rules.extend(OLD_RETINA)
    converted = swap_rpn_classes(rename(names, rules))
    num_rows = next(
        (len(value)
         for name, value in converted.items() if name.endswith('fc_cls.weight') and in_roi_head), 0)
    foreground = list(range(1, num_rows))
    for name, value in converted.items():
        layer = name.split('.')[-2] if '.' in name else ''
        if not num_rows or not value.dim():
            continue
        if layer == 'fc_cls' and len(value) == num_rows:
            converted[name] = take_rows(value, foreground + [0], num_rows)
        elif name.startswith('roi_head.semantic_head.'):
            continue  # its classes are not those of the boxes
        elif (layer, len(value)) in (('fc_reg', 4 * num_rows), ('conv_logits', num_rows),
                                     ('fc_mask_iou', num_rows)):
            converted[name] = take_rows(value, foreground, num_rows)
    changes = ['heads under roi_head'] if in_roi_head else []
    if num_rows:
        changes.append(f'classes: {num_rows} rows with the background first -> {num_rows - 1} and '
                       'the background last')
    changes += ['conv_cls, conv_reg, conv_centerness: names as V2 has them'] if is_fcos else []
    advice = () if is_fcos else (
        'trained with boxes one pixel wider (LegacyDeltaXYWHBBoxCoder, LegacyAnchorGenerator) '
        'and RoIAlign sampling_ratio=2, aligned=False: configs/legacy_1.x says so', )
    return converted, Origin('MMDetection ' + ('.'.join(map(str, version)) or '1'), tuple(changes),
                             advice,
                             coco_classes()[0] if num_rows == 81 else None)


def swap_rpn_classes(state_dict: StateDict) -> StateDict:
    """Swap the classes of an RPN with softmax: (background, object) before V2.5, then (object,
    background). An RPN with sigmoid has one number per anchor and is unchanged."""
    changed = dict(state_dict)
    deltas = state_dict.get('rpn_head.rpn_reg.weight')
    for name in ('rpn_head.rpn_cls.weight', 'rpn_head.rpn_cls.bias'):
        value = state_dict.get(name)
        if value is not None and deltas is not None and 2 * len(value) == len(deltas):
            changed[name] = value.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    return changed


def mmdet_3(file: File) -> Optional[Converted]:
    """Convert MMDetection 3 and MMPretrain 1: V2's names, and buffers of the data preprocessor."""
    from_mmengine = 'mmengine_version' in file.meta or any(
        key in file.content for key in ('message_hub', 'param_schedulers'))
    if not from_mmengine and not any(
            name.startswith('data_preprocessor.') for name in file.state_dict):
        return None
    converted = without(file.state_dict, r'data_preprocessor\..*')
    changes = ('data_preprocessor left out: the pipeline normalizes', ) if len(converted) < len(
        file.state_dict) else ()
    return converted, Origin('MMPretrain 1' if is_classifier(file) else 'MMDetection 3', changes)


def mmcls(file: File) -> Optional[Converted]:
    """Accept MMClassification 0.x, whose names our classifiers have too."""
    version = version_of(file, 'mmcls')
    if not version:
        return None
    return file.state_dict, Origin('MMClassification ' + '.'.join(map(str, version)))


def is_classifier(file: File) -> bool:
    """Check for a classifier: a backbone, perhaps a neck, and a head."""
    parts = {name.split('.')[0] for name in file.state_dict if not name.startswith('ema_')}
    parts.discard('data_preprocessor')
    return {'backbone', 'head'} <= parts <= {'backbone', 'neck', 'head'}


def upgrade_meta(meta: Dict[str, Any], origin: Origin, version: str) -> Dict[str, Any]:
    """Return `meta` for a converted file: written by us, with a record of the original kind."""
    facts = origin.facts._asdict()
    source = dict(kind=origin.kind, advice=list(origin.advice), facts=facts)
    return {**meta, 'mmdet_version': f'mmdet_ft {version}', UPGRADED_FROM: source}


def _as_upgraded(written_by: str, source: object) -> Origin:
    if not isinstance(source, dict):
        return Origin(written_by)
    facts = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in (source.get('facts') or {}).items() if key in InputFormat._fields
    }
    return Origin(
        f'{source.get("kind")}, upgraded', (),
        tuple(source.get('advice') or ()),
        facts=InputFormat(**facts))


def mmdet_2(file: File) -> Optional[Converted]:
    """Convert MMDetection 2 and our own files."""
    written_by = str(file.meta.get('mmdet_version', ''))
    if written_by.startswith('mmdet_ft'):
        return file.state_dict, _as_upgraded(written_by, file.meta.get(UPGRADED_FROM))
    version = version_of(file, 'mmdet')
    if not version:
        return None
    kind = 'MMDetection ' + written_by.split('+')[0]
    named = rename(file.state_dict, OLD_FCOS)
    if version >= (2, 5):
        return named, Origin(kind)
    converted = swap_rpn_classes(named)
    same = all(converted[name] is value for name, value in named.items())
    return converted, Origin(kind, () if same else
                             ('RPN: background and object exchanged, as of V2.5', ))
