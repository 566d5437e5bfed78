"""Detectron2's files: Faster, Mask and Cascade R-CNN and RetinaNet on ResNet-FPN, and their ImageNet backbones."""
from typing import List, Optional, Tuple

import torch

from mmdet_ft.checkpoints.formats.origin import (Converted, File, Origin, Rules, StateDict,
                                                 coco_classes, has, rename, take_rows, without)
from mmdet_ft.checkpoints.input_format import IMAGENET, MSRA, InputFormat


def backbone_rules(theirs: str, ours: str) -> Rules:
    """Build rename rules for a ResNet from prefix `theirs`, a regex, to prefix `ours`."""
    rules: List[Tuple[str, str]] = [
        (theirs + r'stem\.conv1\.weight', ours + 'conv1.weight'),
        (theirs + r'stem\.conv1\.norm\.(.+)', ours + r'bn1.\1'),
        (theirs + r'stem\.fc\.(.+)', ours + r'fc.\1'),
    ]
    for stage in range(1, 5):
        block, layer = theirs + rf'res{stage + 1}\.(\d+)\.', ours + rf'layer{stage}.\1.'
        rules += [
            (block + r'conv(\d)\.weight', layer + r'conv\2.weight'),
            (block + r'conv(\d)\.norm\.(.+)', layer + r'bn\2.\3'),
            (block + r'shortcut\.weight', layer + 'downsample.0.weight'),
            (block + r'shortcut\.norm\.(.+)', layer + r'downsample.1.\2'),
        ]
    return rules


RULES: Rules = (
    *backbone_rules(r'backbone\.bottom_up\.', 'backbone.'),
    *((rf'backbone\.fpn_lateral{i + 2}\.(weight|bias)', rf'neck.lateral_convs.{i}.conv.\1')
      for i in range(4)),
    *((rf'backbone\.fpn_output{i + 2}\.(weight|bias)', rf'neck.fpn_convs.{i}.conv.\1')
      for i in range(4)),
    (r'proposal_generator\.rpn_head\.conv\.(.+)', r'rpn_head.rpn_conv.\1'),
    (r'proposal_generator\.rpn_head\.objectness_logits\.(.+)', r'rpn_head.rpn_cls.\1'),
    (r'proposal_generator\.rpn_head\.anchor_deltas\.(.+)', r'rpn_head.rpn_reg.\1'),
    (r'roi_heads\.box_head\.fc1\.(.+)', r'roi_head.bbox_head.shared_fcs.0.\1'),
    (r'roi_heads\.box_head\.fc2\.(.+)', r'roi_head.bbox_head.shared_fcs.1.\1'),
    (r'roi_heads\.box_predictor\.cls_score\.(.+)', r'roi_head.bbox_head.fc_cls.\1'),
    (r'roi_heads\.box_predictor\.bbox_pred\.(.+)', r'roi_head.bbox_head.fc_reg.\1'),
    *((rf'roi_heads\.mask_head\.mask_fcn{i + 1}\.(weight|bias)',
       rf'roi_head.mask_head.convs.{i}.conv.\1') for i in range(4)),
    (r'roi_heads\.mask_head\.deconv\.(.+)', r'roi_head.mask_head.upsample.\1'),
    (r'roi_heads\.mask_head\.predictor\.(.+)', r'roi_head.mask_head.conv_logits.\1'),
)
NAMES = ('backbone.bottom_up.stem.conv1.weight', 'roi_heads.box_predictor.cls_score.weight')
MASK_PREDICTOR = 'roi_heads.mask_head.predictor.weight'
NOT_WEIGHTS = r'(proposal_generator\.)?anchor_generator\.cell_anchors\.\d|pixel_mean|pixel_std'


def detector(file: File) -> Optional[Converted]:
    """Convert R-CNNs of the model zoo, `.pkl` and `.pth`; the background is last, as in V2."""
    given = file.state_dict
    if not has(given, NAMES):
        return None
    facts = _facts(given)
    has_masks = MASK_PREDICTOR in given
    method = 'mask_rcnn' if has_masks else 'faster_rcnn'
    return rename(without(given, NOT_WEIGHTS),
                  RULES), Origin(f'Detectron2 {"Mask" if has_masks else "Faster"} R-CNN',
                                 ('names as V2 has them', ),
                                 _advise(facts, f'{method}/{method}_r50_caffe_fpn_1x_coco.py'),
                                 _classes_of(given[NAMES[1]]), facts)


CASCADE_RULES: Rules = (
    (r'roi_heads\.box_head\.(\d)\.fc1\.(.+)', r'roi_head.bbox_head.\1.shared_fcs.0.\2'),
    (r'roi_heads\.box_head\.(\d)\.fc2\.(.+)', r'roi_head.bbox_head.\1.shared_fcs.1.\2'),
    (r'roi_heads\.box_predictor\.(\d)\.cls_score\.(.+)', r'roi_head.bbox_head.\1.fc_cls.\2'),
    (r'roi_heads\.box_predictor\.(\d)\.bbox_pred\.(.+)', r'roi_head.bbox_head.\1.fc_reg.\2'),
    *RULES,
)
CASCADE_NAMES = (NAMES[0], 'roi_heads.box_predictor.0.cls_score.weight')


def cascade(file: File) -> Optional[Converted]:
    """Convert Cascade R-CNN of the model zoo. Its one mask head is copied to every stage: V2 takes their mean."""
    given = file.state_dict
    if not has(given, CASCADE_NAMES):
        return None
    num_stages = sum(name.endswith('.cls_score.weight') for name in given)
    converted: StateDict = {}
    for name, value in rename(without(given, NOT_WEIGHTS), CASCADE_RULES).items():
        start, found, layer = name.partition('roi_head.mask_head.')
        own = [f'{start}{found}{stage}.{layer}' for stage in range(num_stages)] if found else [name]
        converted.update(dict.fromkeys(own, value))
    facts, has_masks = _facts(given), MASK_PREDICTOR in given
    changes = ['names as V2 has them'] + ['the mask head is copied to every stage'] * has_masks
    method = 'cascade_mask_rcnn' if has_masks else 'cascade_rcnn'
    advice = (*_advise(facts, f'cascade_rcnn/{method}_r50_caffe_fpn_1x_coco.py'),
              'Detectron2 averages the scores of the stages and V2 their logits: scores differ')
    return converted, Origin('Detectron2 Cascade R-CNN', tuple(changes), advice,
                             _classes_of(given[CASCADE_NAMES[1]]), facts)


def _advise(facts: InputFormat, config: str) -> Tuple[str, ...]:
    """Return the advice to use the settings of a config for weights that were trained as Caffe's."""
    return () if facts.style != 'caffe' else (
        "trained on BGR images in 0..255 less their mean, with style='caffe': "
        f'configs/{config} says so', )


def _classes_of(scores: torch.Tensor) -> Optional[Tuple[str, ...]]:
    """Return COCO's classes for a layer with their number of rows, and one for the background."""
    return coco_classes()[0] if len(scores) == 81 else None


RETINANET: Rules = (
    *backbone_rules(r'backbone\.bottom_up\.', 'backbone.'),
    *((rf'backbone\.fpn_lateral{i + 3}\.(weight|bias)', rf'neck.lateral_convs.{i}.conv.\1')
      for i in range(3)),
    *((rf'backbone\.fpn_output{i + 3}\.(weight|bias)', rf'neck.fpn_convs.{i}.conv.\1')
      for i in range(3)),
    *((rf'backbone\.top_block\.p{i + 3}\.(weight|bias)', rf'neck.fpn_convs.{i}.conv.\1')
      for i in (3, 4)),
    *((rf'head\.{theirs}\.{2 * i}\.(weight|bias)', rf'bbox_head.{ours}.{i}.conv.\1')
      for theirs, ours in (('cls_subnet', 'cls_convs'), ('bbox_subnet', 'reg_convs'))
      for i in range(4)),
    (r'head\.cls_score\.(.+)', r'bbox_head.retina_cls.\1'),
    (r'head\.bbox_pred\.(.+)', r'bbox_head.retina_reg.\1'),
)
RETINANET_NAMES = ('backbone.bottom_up.stem.conv1.weight', 'head.cls_score.weight',
                   'head.bbox_pred.weight', 'head.cls_subnet.0.weight')


def retinanet(file: File) -> Optional[Converted]:
    """Convert RetinaNet of the model zoo, `.pkl` and `.pth`; its anchors are ordered by size, V2's by ratio."""
    given = file.state_dict
    if not has(given, RETINANET_NAMES) or 'head.ctrness.weight' in given:
        return None
    num_anchors = len(given['head.bbox_pred.weight']) // 4
    converted = rename(without(given, NOT_WEIGHTS), RETINANET)
    changes = ['names as V2 has them']
    if num_anchors == 9:  # three sizes with three ratios each
        order = [3 * size + ratio for ratio in range(3) for size in range(3)]
        for name, value in converted.items():
            if name.split('.')[-2] in ('retina_cls', 'retina_reg'):
                converted[name] = take_rows(value, order, num_anchors)
        changes.append('anchors of a cell: by size and ratio -> by ratio and size')
    facts = _facts(given)
    of_input = '' if facts.style != 'caffe' else (
        "on BGR images in 0..255 less their mean, with style='caffe', as in "
        'configs/retinanet/retinanet_r50_caffe_fpn_1x_coco.py, and ')
    advice = (f'trained {of_input}with a ReLU before P7: write '
              'model = dict(neck=dict(relu_before_extra_convs=True))', )
    num_rows = len(given['head.cls_score.weight']) // num_anchors
    return converted, Origin('Detectron2 RetinaNet', tuple(changes), advice,
                             coco_classes()[0] if num_rows == 80 else None, facts)


def _facts(given: StateDict) -> InputFormat:
    """Return the input format of a detector: that of its buffers, or of the MSRA weights."""
    if not has(given, ('pixel_mean', 'pixel_std')):
        return MSRA
    mean, std = (_numbers(given[name]) for name in ('pixel_mean', 'pixel_std'))
    # MSRA weights take gray levels and have strides as in Caffe; BGR if the mean of blue is first.
    return InputFormat(mean[0] > mean[-1], mean, std, 'caffe' if max(std) == 1 else 'pytorch')


def _numbers(value: torch.Tensor) -> Tuple[float, ...]:
    return tuple(round(float(number), 3) for number in value.flatten())


def torch_backbone(file: File) -> Optional[Converted]:
    """Convert `ImageNetPretrained/torchvision/R-50.pkl` and similar: Detectron2's names without a detector."""
    if not has(file.state_dict, ('stem.conv1.weight', 'res2.0.conv1.weight')):
        return None
    return rename(file.state_dict, backbone_rules('', '')), Origin(
        'Detectron2 ImageNet ResNet', ('names as V2 has them', ), facts=IMAGENET)


STEM = {
    'conv1_w': 'stem.conv1.weight',
    'res_conv1_bn_s': 'stem.conv1.norm.weight',
    'res_conv1_bn_b': 'stem.conv1.norm.bias',
    'res_conv1_bn_rm': 'stem.conv1.norm.running_mean',
    'res_conv1_bn_riv': 'stem.conv1.norm.running_var',
    'fc1000_w': 'stem.fc.weight',
    'fc1000_b': 'stem.fc.bias',
    'pred_w': 'stem.fc.weight',
    'pred_b': 'stem.fc.bias',
}
BLOCK = {'branch1': 'shortcut', 'branch2a': 'conv1', 'branch2b': 'conv2', 'branch2c': 'conv3'}
PART = {
    'w': 'weight',
    'bn_s': 'norm.weight',
    'bn_b': 'norm.bias',
    'bn_rm': 'norm.running_mean',
    'bn_riv': 'norm.running_var'
}


def msra_backbone(file: File) -> Optional[Converted]:
    """Convert `ImageNetPretrained/MSRA/R-50.pkl`, with Caffe2's names; most batch norms are a scale
    and a shift, and the convolutions' biases (`_b`) are zero."""
    given = file.state_dict
    if not has(given, ('conv1_w', 'res_conv1_bn_s', 'res2_0_branch2a_w')):
        return None
    named = {}
    for name, value in given.items():
        pieces = name.split('_', 3)
        if name in STEM:
            named[STEM[name]] = value
        elif len(pieces) == 4 and pieces[2] in BLOCK and pieces[3] in PART:
            named[f'{pieces[0]}.{pieces[1]}.{BLOCK[pieces[2]]}.{PART[pieces[3]]}'] = value
    for name in [name for name in named if name.endswith('norm.weight')]:
        layer = name[:-len('weight')]
        named.setdefault(layer + 'running_mean', torch.zeros_like(named[name]))
        # With batch norm's eps of 1e-5, the gain equals the scale.
        named.setdefault(layer + 'running_var', torch.ones_like(named[name]) - 1e-5)
    return rename(named, backbone_rules('', '')), Origin(
        'Detectron2 MSRA ResNet', ('names as V2 has them', ), facts=MSRA)
