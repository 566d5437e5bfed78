"""Where in a file the weights are: under which key, behind which prefix, plain or averaged."""
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
import torch
from torch import Tensor

from mmdet_ft.checkpoints.kinds.origin import StateDict

# Averages first: who saved them beside the weights evaluated with them.
KEYS = {
    'state_dict_ema': 'averaged weights (timm)',
    'ema': 'averaged weights',
    'model_ema': 'averaged weights',
    'state_dict': '',  # OpenMMLab, Lightning; mmengine has put the averages here
    'model': '',  # torchvision, Detectron2
    'model_state_dict': '',
    'blobs': '',  # Detectron
}
PREFIXES = ('module.', '_orig_mod.')  # DataParallel, torch.compile


def weights_in(content: Mapping[str, Any]) -> Tuple[StateDict, List[str]]:
    """The tensors of a checkpoint by their bare names, and what was chosen or cut off on the way.

    Numpy arrays (Detectron2) count as tensors. Empty where there are none.
    """
    notes: List[str] = []
    for key, note in KEYS.items():
        inner = content.get(key)
        if isinstance(inner, Mapping) and isinstance(inner.get('module'), Mapping):
            inner = inner['module']  # {'ema': {'module': ..., 'updates': ...}}
        weights = _tensors(inner) if isinstance(inner, Mapping) else {}
        if weights:
            notes += [f'{note} taken from {key!r}'] if note else []
            break
    else:
        weights = _tensors(content)
    prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in weights)), None)
    while weights and prefix is not None:
        weights = {name[len(prefix):]: value for name, value in weights.items()}
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in weights)), None)
    return weights, notes


def _tensors(content: Mapping[str, Any]) -> Dict[str, Tensor]:
    weights = {}
    for name, value in content.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in 'fiu':
            value = torch.from_numpy(np.ascontiguousarray(value)).view(value.shape)
        if isinstance(value, Tensor):
            weights[str(name)] = value
    return weights
