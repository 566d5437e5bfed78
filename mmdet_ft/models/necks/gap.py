from typing import Tuple, Union

from torch import Tensor, nn

from mmdet_ft.registry import MODELS


@MODELS.register_module()
class GlobalAveragePooling(nn.Module):
    """Global average pooling: [B, C, ...] -> [B, C], for a tensor or each of several stages.

    Args:
        dim: number of averaged dimensions: 1, 2 (images) or 3.
    """

    def __init__(self, dim: int = 2):
        super().__init__()
        if dim not in (1, 2, 3):
            raise ValueError(f'GlobalAveragePooling: dim is {dim!r}; write 1, 2 or 3')
        self.dim = dim

    def forward(self, features: Union[Tensor, Tuple[Tensor, ...]]) -> Union[Tensor, Tuple]:
        if isinstance(features, Tensor):
            return features.mean(tuple(range(-self.dim, 0))).flatten(1)
        return tuple(self(stage) for stage in features)
