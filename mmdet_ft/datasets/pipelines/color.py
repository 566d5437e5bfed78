"""Transforms of pixel values."""
from typing import Any, Dict, Sequence

import mmcv
import numpy as np

from mmdet_ft.registry import PIPELINES


@PIPELINES.register_module()
class Normalize:
    """(image - mean) / std, channel by channel, in float32.

    Args:
        mean, std: one value a channel, in 0..255, in the order after `to_rgb`.
        to_rgb: swap BGR to RGB first.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], to_rgb: bool = True):
        self.mean = np.array(mean, dtype=np.float32)
        self.std = np.array(std, dtype=np.float32)
        self.to_rgb = to_rgb

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        for key in results.get('img_fields', ['img']):
            results[key] = mmcv.imnormalize(results[key], self.mean, self.std, self.to_rgb)
        results['img_norm_cfg'] = dict(mean=self.mean, std=self.std, to_rgb=self.to_rgb)
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(mean={self.mean}, std={self.std}, to_rgb={self.to_rgb})'


class DeferredNormalize(Normalize):
    """Normalize, put off to the device: the image stays uint8, mean and std travel with it.

    Compose puts it in the place of a Normalize (see defer_normalize). What makes the image a tensor swaps the channels
    where `to_rgb` asks for it; Collect adds `img_mean` and `img_std`. An image that is not three channels of uint8
    is normalised here, as written.
    """

    def __call__(self, results: Dict[str, Any]) -> Dict[str, Any]:
        img = results['img']
        if results.get('img_fields',
                       ['img']) != ['img'] or img.dtype != np.uint8 or img.shape[2:] != (3, ):
            return super().__call__(results)
        results['img_norm_cfg'] = dict(mean=self.mean, std=self.std, to_rgb=self.to_rgb)
        results['deferred_normalize'] = results['img_norm_cfg']
        return results
