"""torchvision's files: Faster and Mask R-CNN, RetinaNet and FCOS on ResNet-FPN, SSD300, the ResNets, and
MobileNetV2."""
from typing import List, Optional, Tuple

import torch

from mmdet_ft.checkpoints.formats.origin import (Converted, File, Origin, Rules, coco_classes, has,
                                                 rename, take_rows)
from mmdet_ft.checkpoints.input_format import (ANSWER_TO_GREY_LEVELS, IMAGENET, MSRA, InputFormat,
                                               input_scale)

NORM = r'(weight|bias|running_mean|running_var|num_batches_tracked)'
# torchvision's name -> V2's. Before 0.14 a convolution without norm and activation was not a list of layers, and
# those of the mask head were numbered from 1. The published files still have these names.
BACKBONE: Rules = (
    (r'backbone\.body\.(.+)', r'backbone.\1'),
    (r'backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.(weight|bias)', r'neck.lateral_convs.\1.conv.\2'),
    (r'backbone\.fpn\.inner_blocks\.(\d)\.1\.' + NORM, r'neck.lateral_convs.\1.bn.\2'),
    (r'backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.(weight|bias)', r'neck.fpn_convs.\1.conv.\2'),
    (r'backbone\.fpn\.layer_blocks\.(\d)\.1\.' + NORM, r'neck.fpn_convs.\1.bn.\2'),
)
RULES: Rules = (
    *BACKBONE,
    (r'rpn\.head\.cls_logits\.(.+)', r'rpn_head.rpn_cls.\1'),
    (r'rpn\.head\.bbox_pred\.(.+)', r'rpn_head.rpn_reg.\1'),
    (r'roi_heads\.box_head\.fc6\.(.+)', r'roi_head.bbox_head.shared_fcs.0.\1'),
    (r'roi_heads\.box_head\.fc7\.(.+)', r'roi_head.bbox_head.shared_fcs.1.\1'),
    (r'roi_heads\.box_head\.(\d)\.0\.weight', r'roi_head.bbox_head.shared_convs.\1.conv.weight'),
    (r'roi_heads\.box_head\.(\d)\.1\.' + NORM, r'roi_head.bbox_head.shared_convs.\1.bn.\2'),
    (r'roi_heads\.box_head\.5\.(weight|bias)', r'roi_head.bbox_head.shared_fcs.0.\1'),
    (r'roi_heads\.box_predictor\.cls_score\.(.+)', r'roi_head.bbox_head.fc_cls.\1'),
    (r'roi_heads\.box_predictor\.bbox_pred\.(.+)', r'roi_head.bbox_head.fc_reg.\1'),
    *((rf'roi_heads\.mask_head\.mask_fcn{i + 1}\.(.+)', rf'roi_head.mask_head.convs.{i}.conv.\1')
      for i in range(4)),
    (r'roi_heads\.mask_head\.(\d)\.0\.(weight|bias)', r'roi_head.mask_head.convs.\1.conv.\2'),
    (r'roi_heads\.mask_head\.(\d)\.1\.' + NORM, r'roi_head.mask_head.convs.\1.bn.\2'),
    (r'roi_heads\.mask_predictor\.conv5_mask\.(.+)', r'roi_head.mask_head.upsample.\1'),
    (r'roi_heads\.mask_predictor\.mask_fcn_logits\.(.+)', r'roi_head.mask_head.conv_logits.\1'),
)
ONE_RPN_CONVOLUTION: Rules = ((r'rpn\.head\.conv(?:\.0\.0)?\.(weight|bias)',
                               r'rpn_head.rpn_conv.\1'), )
SEVERAL: Rules = ((r'rpn\.head\.conv\.(\d)\.0\.(weight|bias)', r'rpn_head.rpn_conv.\1.conv.\2'), )
CLASSES = 'roi_heads.box_predictor.cls_score.weight'


def detector(file: File) -> Optional[Converted]:
    """Convert `fasterrcnn_resnet50_fpn`, `maskrcnn_resnet50_fpn` and their `_v2`, also fine-tuned ones."""
    given = file.state_dict
    if not has(given, (CLASSES, 'backbone.body.conv1.weight', 'rpn.head.cls_logits.weight')):
        return None
    num_rows = len(given[CLASSES])
    second = 'backbone.fpn.inner_blocks.0.1.weight' in given
    has_masks = 'roi_heads.mask_predictor.mask_fcn_logits.weight' in given
    classes, foreground = _foreground(num_rows)
    of_rpn = SEVERAL if 'rpn.head.conv.1.0.weight' in given else ONE_RPN_CONVOLUTION
    converted = rename(given, (*RULES, *of_rpn))
    for name, value in converted.items():
        layer = name.split('.')[-2]
        if layer == 'fc_cls':
            converted[name] = take_rows(value, foreground + [0], num_rows)
        elif layer in ('fc_reg', 'conv_logits'):
            converted[name] = take_rows(value, foreground, num_rows)
    version = '_v2' if second else ''
    norm = ', batch norm everywhere' if second else ', frozen batch norm with eps=0'
    config = f'{"mask" if has_masks else "faster"}_rcnn_r50_fpn{version}_coco.py'
    changes = ('names as V2 has them', f'classes: {num_rows} rows with the background first -> '
               f'{len(foreground)} and the background last')
    advice = ('trained with RoIAlign sampling_ratio=2, aligned=False, anchors on whole pixels'
              f'{norm}: configs/torchvision/{config} says so (RGB, mean and std as in V2)', )
    kind = f'torchvision {"Mask" if has_masks else "Faster"} R-CNN{" v2" if second else ""}'
    return converted, Origin(kind, changes, advice, classes, IMAGENET)


def _foreground(num_rows: int) -> Tuple[Optional[Tuple[str, ...]], List[int]]:
    """Return the names of the classes, if they are COCO's, and the rows of the classes; row 0 is the background."""
    if num_rows == 91:  # COCO by its official ids, some of which are unused
        classes, ids = coco_classes()
        return classes, list(ids)
    return None, list(range(1, num_rows))


def _towers(conv: str, norm: str) -> Rules:
    """Build rename rules for both towers of a one-stage head, `conv` and `norm` being the names in layer \\1."""
    towers = (('classification_head', 'cls_convs'), ('regression_head', 'reg_convs'))
    return tuple(
        (rf'head\.{theirs}\.conv\.{pattern}\.(weight|bias)', rf'bbox_head.{ours}.\1.{layer}.\2')
        for theirs, ours in towers for pattern, layer in ((conv, 'conv'), (norm, 'gn')))


def _numbered(step: int) -> Rules:
    """Build rename rules for towers that number their layers through, `step` of them for each convolution."""
    towers = (('classification_head', 'cls_convs'), ('regression_head', 'reg_convs'))
    return tuple((rf'head\.{theirs}\.conv\.{step * number + offset}\.(weight|bias)',
                  rf'bbox_head.{ours}.{number}.{layer}.\1') for theirs, ours in towers
                 for number in range(4) for offset, layer in enumerate(('conv', 'gn')[:step - 1]))


EXTRA_LEVELS: Rules = ((r'backbone\.fpn\.extra_blocks\.p6\.(.+)', r'neck.fpn_convs.3.conv.\1'),
                       (r'backbone\.fpn\.extra_blocks\.p7\.(.+)', r'neck.fpn_convs.4.conv.\1'))
# Before 0.13 the convolutions of RetinaNet's towers and their ReLUs were numbered through.
RETINANET: Rules = (*BACKBONE, *EXTRA_LEVELS, *_towers(r'(\d)\.0', r'(\d)\.1'), *_numbered(2),
                    (r'head\.classification_head\.cls_logits\.(.+)', r'bbox_head.retina_cls.\1'),
                    (r'head\.regression_head\.bbox_reg\.(.+)', r'bbox_head.retina_reg.\1'))
FCOS: Rules = (*BACKBONE, *EXTRA_LEVELS, *_numbered(3),
               (r'head\.classification_head\.cls_logits\.(.+)', r'bbox_head.conv_cls.\1'),
               (r'head\.regression_head\.bbox_reg\.(.+)', r'bbox_head.conv_reg.\1'),
               (r'head\.regression_head\.bbox_ctrness\.(.+)', r'bbox_head.conv_centerness.\1'))
ONE_STAGE = ('backbone.body.conv1.weight', 'head.classification_head.cls_logits.weight',
             'head.regression_head.bbox_reg.weight')
# Kind -> its config in configs/torchvision, and what it was trained with.
ONE_STAGE_KINDS = {
    'RetinaNet': ('retinanet_r50_fpn_coco.py', 'anchors on whole pixels, P6 from P5, a ReLU before '
                  'P7, frozen batch norm with eps=0'),
    'RetinaNet v2': ('retinanet_r50_fpn_v2_coco.py', 'anchors on whole pixels, a ReLU before P7, '
                     'group norm in the head'),
    'FCOS': ('fcos_r50_fpn_coco.py', 'points at the corners of the cells, distances in strides, P6 '
             'from P5, a ReLU before P7, frozen batch norm'),
}


def one_stage_detector(file: File) -> Optional[Converted]:
    """Convert `retinanet_resnet50_fpn`, its `_v2` and `fcos_resnet50_fpn`, also fine-tuned ones.

    A class is a row within each anchor, and the background, which has a row but no use, goes.
    """
    given = file.state_dict
    if not has(given, ONE_STAGE):
        return None
    kind = 'RetinaNet'
    if 'head.regression_head.bbox_ctrness.weight' in given:
        kind = 'FCOS'
    elif 'head.classification_head.conv.0.1.weight' in given:
        kind = 'RetinaNet v2'
    num_anchors = len(given[ONE_STAGE[2]]) // 4
    num_rows = len(given[ONE_STAGE[1]]) // num_anchors
    classes, foreground = _foreground(num_rows)
    rows = [anchor * num_rows + row for anchor in range(num_anchors) for row in foreground]
    converted = rename(given, FCOS if kind == 'FCOS' else RETINANET)
    for name, value in converted.items():
        if name.split('.')[-2] in ('retina_cls', 'conv_cls'):
            converted[name] = take_rows(value, rows, len(value))
    if kind == 'FCOS':  # V2 scales the distances of each of the five levels
        one = given[ONE_STAGE[2]].new_ones(())
        converted.update({f'bbox_head.scales.{level}.scale': one for level in range(5)})
    config, trained_with = ONE_STAGE_KINDS[kind]
    changes = ('names as V2 has them', f'classes: {num_rows} rows with the background first -> '
               f'{len(foreground)} without it')
    advice = (
        f'trained with {trained_with}: configs/torchvision/{config} says so (RGB, mean and std '
        'as in V2)', )
    return converted, Origin(f'torchvision {kind}', changes, advice, classes, IMAGENET)


SSD_RULES: Rules = (
    (r'backbone\.scale_weight', 'neck.l2_norm.weight'),
    *((rf'backbone\.extra\.0\.{i}\.(.+)', rf'backbone.features.{i + 23}.\1') for i in (1, 3, 5)),
    *((rf'backbone\.extra\.0\.7\.{i}\.(.+)', rf'backbone.features.{i + 30}.\1') for i in (1, 3)),
    *((rf'backbone\.extra\.{level + 1}\.{2 * i}\.(.+)', rf'neck.extra_layers.{level}.{i}.conv.\1')
      for level in range(5) for i in range(2)),
    (r'head\.classification_head\.module_list\.(\d)\.(.+)', r'bbox_head.cls_convs.\1.0.\2'),
    (r'head\.regression_head\.module_list\.(\d)\.(.+)', r'bbox_head.reg_convs.\1.0.\2'),
)
# RGB, 0..255; torchvision writes mean / 255 and std=1/255.
SSD_IMAGES = InputFormat(True, (122.99925, 116.9991, 103.9992), (1., 1., 1.))


def ssd300(file: File) -> Optional[Converted]:
    """Convert `ssd300_vgg16`, also fine-tuned."""
    given = file.state_dict
    boxes = 'head.regression_head.module_list.0.bias'
    scores = 'head.classification_head.module_list.0.bias'
    if not has(given, (boxes, scores, 'backbone.scale_weight', 'backbone.extra.0.7.1.weight')):
        return None
    num_rows = 4 * len(given[scores]) // len(given[boxes])  # of an anchor
    classes, foreground = _foreground(num_rows)
    converted = rename(given, SSD_RULES)
    order = torch.tensor(foreground + [0])
    for name, value in converted.items():
        if name.startswith('bbox_head.cls_convs.'):
            converted[name] = value.unflatten(0, (-1, num_rows))[:, order].flatten(0, 1)
    changes = ('names as V2 has them', f'classes: {num_rows} rows of an anchor with the background '
               f'first -> {len(foreground)} and the background last')
    advice = ('trained with anchors no longer than the image and another mean: '
              'configs/torchvision/ssd300_vgg16_coco.py says so', )
    return converted, Origin('torchvision SSD300', changes, advice, classes, SSD_IMAGES)


def classifier(file: File) -> Optional[Converted]:
    """Accept a ResNet or ResNeXt, which has V2's names; `fc` is the classifier's last layer."""
    names = ('conv1.weight', 'bn1.weight', 'layer1.0.conv1.weight', 'layer4.0.conv1.weight',
             'fc.weight')
    if not has(file.state_dict, names) or file.meta:
        return None
    scale = input_scale(file.state_dict)
    if scale is not None and scale <= ANSWER_TO_GREY_LEVELS:  # Caffe's weights with OpenMMLab's names
        return file.state_dict, Origin('ResNet for gray levels', facts=MSRA)
    return file.state_dict, Origin('torchvision ResNet', facts=IMAGENET)


# Blocks per stage of MobileNetV2: torchvision numbers them through, V2 restarts in each stage.
MOBILE_BLOCKS = (1, 2, 3, 4, 3, 3, 1)


def mobilenet_v2(file: File) -> Optional[Converted]:
    """Convert MobileNetV2 of any width to the backbone names of our classifiers."""
    names = ('features.0.0.weight', 'features.1.conv.1.weight', 'features.18.0.weight',
             'classifier.1.weight')
    if not has(file.state_dict, names):
        return None
    rules: List[Tuple[str, str]] = [(r'classifier\.1\.(.+)', r'fc.\1')]

    def conv_and_norm(conv: str, norm: str, ours: str) -> None:
        rules.append((conv.replace('.', r'\.') + r'\.weight', f'{ours}.conv.weight'))
        rules.append((norm.replace('.', r'\.') + r'\.' + NORM, ours + r'.bn.\1'))

    conv_and_norm('features.0.0', 'features.0.1', 'conv1')
    conv_and_norm('features.18.0', 'features.18.1', 'conv2')
    blocks = [(stage + 1, block) for stage, count in enumerate(MOBILE_BLOCKS)
              for block in range(count)]
    for number, (stage, block) in enumerate(blocks, 1):
        theirs, ours = f'features.{number}.conv.', f'layer{stage}.{block}.conv.'
        last = 1 if number == 1 else 2  # the first block does not expand
        for step in range(last):
            conv_and_norm(f'{theirs}{step}.0', f'{theirs}{step}.1', f'{ours}{step}')
        conv_and_norm(f'{theirs}{last}', f'{theirs}{last + 1}', f'{ours}{last}')
    return rename(file.state_dict, rules), Origin(
        'torchvision MobileNetV2', ('names as V2 has them', ), facts=IMAGENET)
