"""mmcv's GeneralizedAttention without waiting for the device."""
from typing import Tuple

import torch
from mmcv.cnn.bricks import generalized_attention
from torch import Tensor


class GeneralizedAttention(generalized_attention.GeneralizedAttention):
    """Attention with relative positions (An Empirical Study of Spatial Attention Mechanisms).

    mmcv computes positions on the host and copies them at every call.
    """

    def get_position_embedding(self,
                               h: int,
                               w: int,
                               h_kv: int,
                               w_kv: int,
                               q_stride: int,
                               kv_stride: int,
                               device: torch.device,
                               dtype: torch.dtype,
                               feat_dim: int,
                               wave_length: int = 1000) -> Tuple[Tensor, Tensor]:
        """Return sines and cosines of distances between queries and keys, [w, w_kv, feat_dim / 2] in x
        and [h, h_kv, feat_dim / 2] in y.
        """

        def numbers(count: float) -> Tensor:
            return torch.arange(0, count, device=device, dtype=dtype)

        waves = torch.pow(float(wave_length), numbers(feat_dim / 4) * (4 / feat_dim))

        def embedding(size: int, size_kv: int) -> Tensor:
            distance = numbers(size)[:, None] * q_stride - numbers(size_kv) * kv_stride
            angle = distance[..., None] * self.position_magnitude / waves
            return torch.cat([angle.sin(), angle.cos()], 2)

        return embedding(w, w_kv), embedding(h, h_kv)


generalized_attention.MODELS.register_module(
    'GeneralizedAttention', module=GeneralizedAttention, force=True)
