from typing import Dict, Optional, Sequence, Union

from torch import nn

from mmdet_ft.models.base_module import PartConfig, Sequential
from mmdet_ft.registry import MODELS


def build_necks(neck: Union[PartConfig, Sequence[Dict], None]) -> Optional[nn.Module]:
    """Build a neck; of a list, each takes the maps of the one before it (`neck.0`, `neck.1`, ...)."""
    if isinstance(neck, (list, tuple)):
        return Sequential(*(MODELS.build(part) for part in neck))
    return MODELS.build(neck)
