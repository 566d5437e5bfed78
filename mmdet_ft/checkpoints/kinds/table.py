"""All kinds of checkpoints, the most telling first.

A kind is one function: it looks at a file's content and returns the weights under V2's names, in
V2's order, with the words for the report; or None where the file is of another kind.
"""
from typing import Any, Callable, Dict, Optional, Tuple

from mmdet_ft.checkpoints.kinds import torchvision
from mmdet_ft.checkpoints.kinds.origin import Converted, File, Origin, StateDict

KINDS: Tuple[Callable[[File], Optional[Converted]], ...] = (
    torchvision.detector,
    torchvision.classifier,
)


def convert(state_dict: StateDict, meta: Dict[str, Any], content: Dict[str, Any]) -> Converted:
    """Weights as V2 names and orders them, whoever saved them; names that no kind knows stay."""
    file = File(state_dict, meta, content)
    for kind in KINDS:
        converted = kind(file)
        if converted is not None:
            return converted
    return state_dict, Origin()
