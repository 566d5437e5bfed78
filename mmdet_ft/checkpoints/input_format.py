"""Image and layer settings of a config, read without running it."""
import ast
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from torch import Tensor

Numbers = Tuple[float, ...]

READ_AS_RGB = ('CIFAR10', 'CIFAR100')  # datasets whose files hold RGB

# If the input was divided by its std, the first layer's gain (see input_scale) is near 1: measured 0.7 in a
# ResNet-20 for CIFAR-10, 3.1 in a MobileNetV2 for ImageNet. For inputs in gray levels it is about 58 times smaller.
ANSWER_TO_GREY_LEVELS = .1  # at most


class InputFormat(NamedTuple):
    """Image and layer settings that weights were trained with; None if unknown."""
    to_rgb: Optional[bool] = None  # the network's channels are RGB, else BGR
    mean: Optional[Numbers] = None  # of the channels in the order of the network, in 0..255
    std: Optional[Numbers] = None
    style: Optional[str] = None  # of a ResNet: 'pytorch' or 'caffe'


IMAGENET = InputFormat(True, (123.675, 116.28, 103.53), (58.395, 57.12, 57.375), 'pytorch')
MSRA = InputFormat(False, (103.53, 116.28, 123.675), (1., 1., 1.), 'caffe')


def read_input_format(config: Mapping[str, Any]) -> InputFormat:
    """Extract facts from a config of MMDetection 1 to 3 or MMClassification, merged or not."""
    model = config.get('model')
    backbone = model.get('backbone') if isinstance(model, Mapping) else None
    style = backbone.get('style') if isinstance(backbone, Mapping) else None
    data = config.get('data')
    train = data.get('train') if isinstance(data, Mapping) else None
    # `to_rgb` reverses the channels, and most images are read as BGR.
    read_as_rgb = any(part.get('type') in READ_AS_RGB for part in _dicts(train))
    for part in (train, config.get('train_pipeline'), data):
        for step in _dicts(part):
            if step.get('type', 'Normalize') == 'Normalize' and 'mean' in step and 'std' in step:
                return InputFormat(
                    bool(step.get('to_rgb', True)) != read_as_rgb, _numbers(step['mean']),
                    _numbers(step['std']), style)
    for key in ('bgr_to_rgb', 'to_rgb'):  # MMDetection 3, MMPretrain
        for step in _dicts([model, config.get('data_preprocessor')]):
            if key in step and step.get('mean') is not None:
                return InputFormat(
                    bool(step[key]), _numbers(step['mean']), _numbers(step.get('std')), style)
    return InputFormat(style=style)


def _numbers(values: object) -> Optional[Numbers]:
    is_list = isinstance(values, (list, tuple))
    if not is_list or not all(isinstance(value, (int, float)) for value in values):
        return None
    return tuple(map(float, values))


def _dicts(tree: object) -> Iterator[Mapping[str, Any]]:
    """Yield all dicts of a tree, outer ones first, and shared ones only once."""
    waiting, seen = [tree], set()
    while waiting:
        value = waiting.pop()
        if not isinstance(value, (Mapping, list, tuple)) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            yield value
        waiting += reversed(list(value.values() if isinstance(value, Mapping) else value))


def input_scale(state_dict: Mapping[str, Tensor]) -> Optional[float]:
    """Return the gain of the first layer of a ResNet, alone or in a model, per unit of its input; None without one.

    The gain is the root mean square over the filters of norm(weights) times the batch norm's gain.
    """
    prefix = 'backbone.' if any(name.startswith('backbone.') for name in state_dict) else ''
    for conv, norm in (('conv1', 'bn1'), ('stem.0', 'stem.1'), ('conv1.conv', 'conv1.bn')):
        names = [f'{prefix}{conv}.weight', f'{prefix}{norm}.weight', f'{prefix}{norm}.running_var']
        if all(name in state_dict for name in names):
            weight, gain, variance = (state_dict[name].float() for name in names)
            if weight.dim() != 4 or len(weight) != len(gain):
                return None
            gain = gain / (variance + 1e-5).sqrt() * weight.flatten(1).norm(dim=1)
            return float(gain.square().mean().sqrt())
    return None


LONGEST_SUM = 10_000  # items: a config could double a list on every line


class _Unknown(Exception):
    """Raised for an expression that is not plain data."""


def read_literals(text: str) -> Dict[str, Any]:
    """Read the top-level assignments of a python config as data, without running it.

    Supports numbers, strings, lists, dicts, `dict(...)`, `**`, sums and names assigned before. Others are left out.
    """
    body = _statements(text) or _statements(text.partition('\n')[2])  # mmcv 0.x put a path first
    names: Dict[str, Any] = {}
    for node in body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(
                node.targets[0], ast.Name):
            try:
                names[node.targets[0].id] = _value(node.value, names)
            except (_Unknown, TypeError, RecursionError):
                names.pop(node.targets[0].id, None)
    return names


def _statements(text: str) -> List[ast.stmt]:
    try:
        return ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []


def _value(node: ast.expr, names: Dict[str, Any]) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, (ast.List, ast.Tuple)):
        items: List[Any] = [_evaluate_item(item, names) for item in node.elts]
        return items if isinstance(node, ast.List) else tuple(items)
    if isinstance(node, ast.Dict):
        result: Dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values):
            result.update({_value(key, names): _evaluate_item(value, names)}
                          if key else _evaluate_item(value, names))
        return result
    if isinstance(node, ast.Call) and isinstance(
            node.func, ast.Name) and node.func.id == 'dict' and not node.args:
        result = {}
        for keyword in node.keywords:
            value = _evaluate_item(keyword.value, names)
            result.update(value if keyword.arg is None else {keyword.arg: value})
        return result
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, names)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _value(node.left, names), _value(node.right, names)
        if isinstance(left, (str, list, tuple)) and len(left) + len(right) > LONGEST_SUM:
            raise _Unknown
        return left + right
    raise _Unknown


def _evaluate_item(node: ast.expr, names: Dict[str, Any]) -> Any:
    """Evaluate an item of a list or dict; an unreadable item becomes {} or None, so that the rest is kept."""
    try:
        return _value(node, names)
    except _Unknown:
        return {} if isinstance(node, (ast.Dict, ast.Call)) else None
