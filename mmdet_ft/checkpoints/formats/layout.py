"""Search for the weights in a file: by key, under wrapper prefixes, plain or averaged."""
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Tuple

import numpy as np
import torch
from torch import Tensor

from mmdet_ft.checkpoints.formats.origin import StateDict
from mmdet_ft.checkpoints.whole_modules import WHOLE_MODULE

# Averages first: runs that save them evaluate with them. Unlisted keys come last.
KEYS = {
    'state_dict_ema': 'averaged weights (timm)',
    'ema': 'averaged weights',
    'model_ema': 'averaged weights',
    'ema_state_dict': 'averaged weights',
    'params_ema': 'averaged weights',  # BasicSR
    'teacher': 'averaged weights',  # DINO
    'state_dict': '',  # OpenMMLab, Lightning; mmengine has put the averages here
    'model': '',  # torchvision, Detectron2
    'model_state_dict': '',
    'blobs': '',  # Detectron
}
# State of a run, not weights: `gradients` has the same names as the weights.
NO_WEIGHTS = {
    'meta', 'optimizer', 'optimizers', 'optimizer_state_dict', 'optimizer_states', 'gradients',
    'random_state', 'rng_state', 'run_state', 'scheduler', 'lr_scheduler', 'lr_schedulers',
    'param_schedulers', 'message_hub', 'scaler', 'amp', 'callbacks', 'loops', 'hyper_parameters'
}
DEPTH = 8  # levels of nested dicts; a limit for files that contain themselves
# Name parts added by wrappers: torch.compile, FSDP, activation checkpointing, Lightning.
WRAPPERS = ('_orig_mod', '_fsdp_wrapped_module', '_fpw_module', '_checkpoint_wrapped_module',
            '_forward_module')
PARALLEL = 'module.'  # DataParallel, AveragedModel, DeepSpeed


class Candidate(NamedTuple):
    """Weights of a file by their bare names, and notes on what was chosen or removed."""
    weights: StateDict
    notes: Tuple[str, ...]


def weights_in(content: Mapping[str, Any]) -> Tuple[StateDict, List[str]]:
    """Return the tensors of a checkpoint by their bare names, and notes on what was chosen or removed.

    Numpy arrays (Detectron2) count as tensors. Both are empty if there are none. Without a model to compare with,
    this is the first of `candidates_in` with at least half as many weights as the largest.
    """
    candidates = candidates_in(content)
    most = max((len(candidate.weights) for candidate in candidates), default=0)
    for candidate in candidates:
        if 2 * len(candidate.weights) >= most:
            return candidate.weights, list(candidate.notes)
    return {}, []


def candidates_in(content: Mapping[str, Any]) -> List[Candidate]:
    """Return all dicts of a file that hold tensors by name, the likeliest first."""
    found = []
    for path, inner in _dicts(content, ()):
        weights = _tensors(inner)
        if weights:
            key = next((key for key in path if key in KEYS), None)
            rank = list(KEYS).index(key) if key is not None else len(KEYS)
            where = '.'.join(path)
            if KEYS.get(key):
                notes = [f'{KEYS[key]} taken from {key!r}']
            else:
                notes = [] if not path or where in KEYS else [f'weights taken from {where!r}']
            if WHOLE_MODULE in content:
                notes.append(f'weights taken from a whole module ({content[WHOLE_MODULE]})')
            weights, text = strip_wrappers(weights)
            if weights:
                found.append((rank, Candidate(weights, (*notes, *text))))
    return [candidate for _, candidate in sorted(found, key=lambda item: item[0])]


def _dicts(value: object, path: Tuple[str, ...]) -> Iterator[Tuple[Tuple[str, ...], Mapping]]:
    """Yield (path of keys, dict) of a dict and of its nested dicts."""
    if not isinstance(value, Mapping):
        return
    yield path, value
    if len(path) < DEPTH:
        for key, inner in value.items():
            if isinstance(key, str) and key not in NO_WEIGHTS:
                yield from _dicts(inner, (*path, key))


def strip_wrappers(weights: StateDict) -> Tuple[StateDict, List[str]]:
    """Strip what wrappers add to the names of weights; also return notes on what was removed."""
    notes = []
    taken: Dict[str, int] = {}
    named = {}
    for name, value in weights.items():
        parts = name.split('.')
        kept = [part for part in parts if part not in WRAPPERS]
        for part in set(parts) - set(kept):
            taken[part] = taken.get(part, 0) + 1
        named['.'.join(kept)] = value
    notes += [f"'{part}.' taken out of {count} names" for part, count in taken.items()]
    count = named.get('n_averaged')
    if count is not None and all(
            name.startswith(PARALLEL) for name in named if name != 'n_averaged'):
        del named['n_averaged']
        notes.append(f'averaged weights (AveragedModel of {int(count)} updates)')
    while named and all(name.startswith(PARALLEL) for name in named):
        named = {name[len(PARALLEL):]: value for name, value in named.items()}
    return named, notes


def _tensors(content: Mapping[str, Any]) -> Dict[str, Tensor]:
    weights = {}
    for name, value in content.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in 'fiu':
            value = torch.from_numpy(np.ascontiguousarray(value)).view(value.shape)
        if isinstance(value, Tensor) and name not in NO_WEIGHTS:
            weights[str(name)] = value
    return weights
