"""Where a file and its model first differ, layer by layer."""
import collections
from typing import Dict, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from mmdet_ft.deploy.export.graphs import Graph, input_names

LAYERS = ('Conv', 'ConvTranspose', 'Gemm', 'BatchNormalization', 'GroupNormalization')
RELATIVE = 1e-3  # of the largest value of a layer; float32 differs by 1e-6


class Layer(NamedTuple):
    """One call of a layer in a file."""
    name: str  # of the module, as in the state_dict
    call: int  # a module may be called several times, as on each level
    output: str  # name of the value in the file


def layers_of(proto: object) -> List[Layer]:
    """Return the calls of the layers of a file, found by the names of their weights, in their order."""
    calls: Dict[str, int] = collections.Counter()
    found = []
    for node in proto.graph.node:  # type: ignore[attr-defined] # onnx.ModelProto
        if node.op_type in LAYERS and node.input[1].startswith('model.'):
            name = node.input[1][len('model.'):].rpartition('.')[0]
            found.append(Layer(name, calls[name], node.output[0]))
            calls[name] += 1
    return found


def first_difference(path: str, graph: Graph, inputs: Dict[str, np.ndarray]) -> Optional[str]:
    """Return the first layer whose output differs between a file and its model, with both; None if none does."""
    import onnx
    import onnxruntime
    proto = onnx.load(path)
    layers = layers_of(proto)
    known = {output.name for output in proto.graph.output}
    proto.graph.output.extend(
        onnx.ValueInfoProto(name=layer.output) for layer in layers if layer.output not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=['CPUExecutionProvider'])
    values = session.run([layer.output for layer in layers], inputs)
    expected = run_recorded(graph, inputs)
    for layer, value in zip(layers, values):
        right = expected.get((layer.name, layer.call))
        if right is None:
            continue
        call = f', call {layer.call + 1}' if layer.call else ''
        if right.shape != value.shape:
            return f'{layer.name}{call}: {list(value.shape)} in the file, {list(right.shape)} in the model'
        if not right.size:
            continue
        difference = float(np.abs(value - right).max())
        if not difference <= RELATIVE * (1 + float(np.abs(right).max())):  # NaN too
            return f'{layer.name}{call}: outputs up to {np.abs(right).max():.4g} differ by {difference:.4g}'
    return None


def run_recorded(graph: Graph, inputs: Dict[str, np.ndarray]) -> Dict[Tuple[str, int], np.ndarray]:
    """Run a graph in PyTorch and return the output of each call of each layer."""
    calls: Dict[str, int] = collections.Counter()
    found: Dict[Tuple[str, int], np.ndarray] = {}

    def record(name: str, output: Tensor) -> None:
        found[name, calls[name]] = output.numpy().copy()  # an activation in place may follow
        calls[name] += 1

    handles = [
        module.register_forward_hook(lambda _, __, output, name=name: record(name, output))
        for name, module in graph.model.named_modules() if isinstance(module, nn.Module)
        and not list(module.children()) and hasattr(module, 'weight')
    ]
    try:
        with torch.no_grad():
            graph(*(torch.from_numpy(inputs[name]) for name in input_names(graph.facts)))
    finally:
        for handle in handles:
            handle.remove()
    return found
