"""Turn the .npz arrays of a classifier into a checkpoint."""
import os
import re
from argparse import Namespace
from typing import Dict, List, Tuple

import numpy as np
import torch
from torch import Tensor

from mmdet_ft.errors import UserError
from mmdet_ft.outputs import Inputs

EPS = 1e-5  # of BatchNorm2d
NUM_IMAGENET = 1000
# Blocks per stage of MobileNetV2: torchvision numbers them through, V2 restarts in each stage.
BLOCKS = (1, 2, 3, 4, 3, 3, 1)
STEPS = ('expand_conv', 'depthwise_conv', 'linear_conv')

Arrays = Dict[str, np.ndarray]
Weights = Dict[str, Tensor]


def mobilenet_v2(arrays: Arrays, layout: str) -> Tuple[Weights, List[str]]:
    """Return the state_dict of ImageClassifier(MobileNetV2, LinearClsHead), and notes for the user."""
    state_dict: Weights = {}
    for name in arrays:
        match = re.fullmatch(r'(features\..*)\.weight', name)
        if match:
            target = 'backbone.' + _mobilenet_name(match.group(1), layout)
            state_dict.update(_with_norm(target, arrays, match.group(1)))
    notes = ['batch norm was folded into the convolutions: write norm_eval=True for the backbone']
    weight, bias = arrays['classifier.1.weight'], arrays['classifier.1.bias']
    if len(weight) == NUM_IMAGENET + 1:
        weight, bias = weight[1:], bias[1:]
        notes.append(
            "class 0, TensorFlow's background, is left out: 1000 classes in ImageNet's order")
    state_dict.update({'head.fc.weight': _tensor(weight), 'head.fc.bias': _tensor(bias)})
    return state_dict, notes


def _mobilenet_name(name: str, layout: str) -> str:
    """Map features.4.conv.1.0 to the ConvModule layer3.0.conv.1 ('mmcls') or layer3.0.depthwise_conv ('mmdet')."""
    number = int(name.split('.')[1])
    if number in (0, 1 + sum(BLOCKS)):
        return 'conv1' if number == 0 else 'conv2'
    index, stage = number - 1, 1
    while index >= BLOCKS[stage - 1]:
        index -= BLOCKS[stage - 1]
        stage += 1
    step = int(name.split('.')[3])
    # The first block does not expand: it lacks the first step.
    kind = f'conv.{step}' if layout == 'mmcls' else STEPS[step + (number == 1)]
    return f'layer{stage}.{index}.{kind}'


def _with_norm(target: str, arrays: Arrays, source: str) -> Weights:
    """Split a convolution with a bias into one without and a batch norm that adds the bias."""
    bias = _tensor(arrays[f'{source}.bias'])
    return {
        f'{target}.conv.weight': _tensor(arrays[f'{source}.weight']),
        f'{target}.bn.weight': torch.ones_like(bias),
        f'{target}.bn.bias': bias,
        f'{target}.bn.running_mean': torch.zeros_like(bias),
        f'{target}.bn.running_var': torch.full_like(bias, 1 - EPS),
        f'{target}.bn.num_batches_tracked': torch.zeros((), dtype=torch.long),
    }


def thin_resnet(arrays: Arrays) -> Tuple[Weights, List[str]]:
    """Return the state_dict of ImageClassifier(ThinResNet_CIFAR, LinearClsHead), and notes."""
    names = {
        name:
        name.replace('linear.', 'head.fc.') if name.startswith('linear.') else 'backbone.' + name
        for name in arrays
    }
    blocks = len({name.split('.')[1] for name in arrays if name.startswith('layer1.')})
    return {
        names[name]: _tensor(value)
        for name, value in arrays.items()
    }, [f'ThinResNet_CIFAR of depth {6 * blocks + 2}']


def _tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value))


def convert(arrays: Arrays, layout: str = 'mmcls') -> Tuple[Weights, List[str]]:
    """Return the state_dict of a classifier, and notes on it.

    Raises ValueError for arrays of another kind.
    """
    if 'features.18.0.weight' in arrays and 'features.18.0.bias' in arrays:
        return mobilenet_v2(arrays, layout)
    if 'layer1.0.conv1.weight' in arrays and 'linear.weight' in arrays:
        return thin_resnet(arrays)
    raise ValueError(
        f'neither a folded MobileNetV2 nor a CIFAR ResNet; its arrays are {", ".join(list(arrays)[:4])} ...'
    )


def main(args: Namespace) -> None:
    Inputs([args.source]).require_free(args.target, 'target')
    try:
        with np.load(args.source, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        state_dict, notes = convert(arrays, args.layout)
        os.makedirs(os.path.dirname(os.path.abspath(args.target)), exist_ok=True)
        torch.save(dict(meta={}, state_dict=state_dict), args.target)
    except (OSError, ValueError) as error:
        raise UserError(f'{args.source}: {error}') from error
    print(f'{args.target}: {len(state_dict)} weights')
    for note in notes:
        print(f'  {note}')
