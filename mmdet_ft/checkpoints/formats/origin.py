"""Input and output types of the functions that recognize and convert checkpoints, and their helpers."""
import re
from typing import Any, Dict, Iterable, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor

from mmdet_ft.checkpoints.input_format import InputFormat

StateDict = Dict[str, Tensor]


class File(NamedTuple):
    """A checkpoint as read: its weights under their original names, `meta`, and the full content."""
    state_dict: StateDict
    meta: Dict[str, Any]
    content: Dict[str, Any]


class Origin(NamedTuple):
    """The kind of a file and the changes made to its weights, worded for the report."""
    kind: str = 'state_dict'
    # Changes made to get V2's names and order.
    changes: Tuple[str, ...] = ()
    # Training settings of these weights that differ from V2's.
    advice: Tuple[str, ...] = ()
    # Known for the kind, used if the file does not say:
    classes: Optional[Tuple[str, ...]] = None
    facts: InputFormat = InputFormat()


Converted = Tuple[StateDict, Origin]
Rules = Sequence[Tuple[str, str]]


def rename(state_dict: StateDict, rules: Rules) -> StateDict:
    """Rename by the first rule (pattern of the whole name, replacement) that matches; others stay."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    renamed = {}
    for name, value in state_dict.items():
        for pattern, replacement in compiled:
            if pattern.fullmatch(name):
                name = pattern.sub(replacement, name)
                break
        renamed[name] = value
    return renamed


def without(state_dict: StateDict, pattern: str) -> StateDict:
    """Drop the entries whose whole name matches the pattern."""
    compiled = re.compile(pattern)
    return {name: value for name, value in state_dict.items() if not compiled.fullmatch(name)}


def take_rows(value: Tensor, rows: Sequence[int], num_groups: int) -> Tensor:
    """Select from `num_groups` equal groups of rows, in the order given: [num_groups * n, ...] ->
    [len(rows) * n, ...]."""
    grouped = value.unflatten(0, (num_groups, -1))
    return grouped[torch.as_tensor(rows)].flatten(0, 1)


def has(state_dict: StateDict, names: Iterable[str]) -> bool:
    return all(name in state_dict for name in names)


def coco_classes() -> Tuple[Tuple[str, ...], Tuple[int, ...]]:
    """Return COCO's 80 names in V2's order, and the official id of each (1 to 90, with gaps)."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
    categories = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta['categories']
    ids = [number for number, name in enumerate(categories) if number and name != 'N/A']
    return tuple(categories[number] for number in ids), tuple(ids)
