"""Backbones of torchvision and timm whose names differ from V2's: VGG, RegNet, MobileNetV2, ResNet-D, SE-ResNet."""
import re
from typing import List, Optional, Tuple

from mmdet_ft.checkpoints.formats.origin import Converted, File, Origin, Rules, has, rename
from mmdet_ft.checkpoints.input_format import IMAGENET, InputFormat

NORM = r'(weight|bias|running_mean|running_var|num_batches_tracked)'
CHANGES = ('names as V2 has them', )
# timm normalizes differently for some networks, and the file does not say how.
UNKNOWN = InputFormat()


def vgg(file: File) -> Optional[Converted]:
    """Convert VGG of torchvision or timm, with batch norm or without.

    Both number every layer. V2 numbers a convolution with its norm and activation as one. Pooling counts in both.
    """
    given = file.state_dict
    convolutions = sorted(
        int(match.group(1))
        for match in (re.fullmatch(r'features\.(\d+)\.weight', name) for name in given)
        if match and given[match.group(0)].dim() == 4)
    if len(convolutions) not in (8, 10, 13, 16) or any(
            given[f'features.{index}.weight'].shape[2:] != (3, 3) for index in convolutions):
        return None
    has_norm = f'features.{convolutions[0] + 1}.running_mean' in given
    own = 3 if has_norm else 2  # layers per convolution, without the pooling after it
    rules: List[Tuple[str, str]] = [(r'head\.fc\.(.+)', r'fc.\1')]
    index = 0
    for number, conv in enumerate(convolutions):
        rules.append((rf'features\.{conv}\.(weight|bias)', rf'features.{index}.conv.\1'))
        if has_norm:
            rules.append((rf'features\.{conv + 1}\.{NORM}', rf'features.{index}.bn.\1'))
        following = convolutions[number + 1] if number + 1 < len(convolutions) else None
        index += 2 if following is not None and following - conv > own else 1
    # Without a classifier it may be Caffe's (open-mmlab://vgg16_caffe), for gray levels.
    is_whole = any(name.startswith(('classifier.', 'head.', 'pre_logits.')) for name in given)
    facts = IMAGENET if is_whole else UNKNOWN
    return rename(given, rules), Origin('VGG of torchvision or timm', CHANGES, facts=facts)


REGNET_OF_TORCHVISION: Rules = (
    (r'stem\.0\.weight', 'conv1.weight'),
    (r'stem\.1\.' + NORM, r'bn1.\1'),
)
REGNET_OF_TIMM: Rules = (
    (r'stem\.conv\.weight', 'conv1.weight'),
    (r'stem\.bn\.' + NORM, r'bn1.\1'),
    (r'head\.fc\.(.+)', r'fc.\1'),
    (r's(\d)\.b\d+\.downsample\.conv\.weight', r'layer\1.0.downsample.0.weight'),
    (r's(\d)\.b\d+\.downsample\.bn\.' + NORM, r'layer\1.0.downsample.1.\2'),
)


def regnet(file: File) -> Optional[Converted]:
    """Convert RegNetX of torchvision or timm; blocks count from 1 in timm, from 0 in torchvision and V2."""
    given = file.state_dict
    rules: List[Tuple[str, str]]
    if has(given, ('stem.0.weight', 'trunk_output.block1.block1-0.f.a.0.weight')):
        kind, rules = 'torchvision RegNet', list(REGNET_OF_TORCHVISION)
        for name in given:
            match = re.match(r'trunk_output\.block(\d)\.block\d-(\d+)\.', name)
            if match:
                start, ours = re.escape(match.group(0)), f'layer{match.group(1)}.{match.group(2)}.'
                rules += [(start + r'proj\.0\.weight', f'{ours}downsample.0.weight'),
                          (start + r'proj\.1\.' + NORM, ours + r'downsample.1.\1')]
                for number, part in enumerate('abc', 1):
                    rules += [(start + rf'f\.{part}\.0\.weight', f'{ours}conv{number}.weight'),
                              (start + rf'f\.{part}\.1\.{NORM}', ours + rf'bn{number}.\1')]
    elif has(given, ('stem.conv.weight', 's1.b1.conv1.conv.weight')):
        kind, rules = 'timm RegNet', list(REGNET_OF_TIMM)
        for name in given:
            match = re.match(r's(\d)\.b(\d+)\.', name)
            if match:
                start, ours = re.escape(
                    match.group(0)), f'layer{match.group(1)}.{int(match.group(2)) - 1}.'
                rules += [(start + r'conv(\d)\.conv\.weight', ours + r'conv\1.weight'),
                          (start + r'conv(\d)\.bn\.' + NORM, ours + r'bn\1.\2')]
    else:
        return None
    rules = list(dict.fromkeys(rules))
    return rename(given, rules), Origin(kind, CHANGES, facts=IMAGENET)


def mobilenet_v2(file: File) -> Optional[Converted]:
    """Convert timm's MobileNetV2 to the backbone names of our classifiers."""
    given = file.state_dict
    if not has(given,
               ('conv_stem.weight', 'blocks.0.0.conv_dw.weight', 'blocks.1.0.conv_pwl.weight',
                'conv_head.weight')) or 'blocks.0.0.se.conv_reduce.weight' in given:
        return None
    rules: List[Tuple[str, str]] = [
        (r'conv_stem\.weight', 'conv1.conv.weight'),
        (r'bn1\.' + NORM, r'conv1.bn.\1'),
        (r'conv_head\.weight', 'conv2.conv.weight'),
        (r'bn2\.' + NORM, r'conv2.bn.\1'),
        (r'classifier\.(weight|bias)', r'fc.\1'),
    ]
    for stage, steps in [(0, ('dw', 'pw'))] + [(stage, ('pw', 'dw', 'pwl'))
                                               for stage in range(1, 7)]:
        start, ours = rf'blocks\.{stage}\.(\d+)\.', rf'layer{stage + 1}.\1.conv.'
        for number, step in enumerate(steps):
            rules += [(start + rf'conv_{step}\.weight', f'{ours}{number}.conv.weight'),
                      (start + rf'bn{number + 1}\.{NORM}', rf'{ours}{number}.bn.\2')]
    return rename(given, rules), Origin('timm MobileNetV2', CHANGES, facts=IMAGENET)


def resnet(file: File) -> Optional[Converted]:
    """Convert ResNets of timm with a stem of three convolutions (-C, -D), or with SE layers."""
    given = file.state_dict
    is_deep = has(given, ('conv1.0.weight', 'conv1.1.running_mean', 'conv1.3.weight',
                          'conv1.6.weight', 'bn1.running_mean', 'layer1.0.conv1.weight'))
    squeezes = 'layer1.0.se.fc1.weight' in given
    if not is_deep and not squeezes:
        return None
    rules: List[Tuple[str, str]] = [(r'(layer\d\.\d+)\.se\.fc(\d)\.(weight|bias)',
                                     r'\1.se_layer.conv\2.conv.\3')]
    if is_deep:
        rules += [(r'conv1\.([0-6])\.(.+)', r'stem.\1.\2'), (r'bn1\.' + NORM, r'stem.7.\1')]
    kind = ' '.join(
        ['timm', *(['SE'] if squeezes else []), f'ResNet{" with a deep stem" if is_deep else ""}'])
    return rename(given, rules), Origin(kind, CHANGES, facts=UNKNOWN)
