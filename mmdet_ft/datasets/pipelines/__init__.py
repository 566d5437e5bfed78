"""Transforms of samples, under V2's names."""
from mmdet_ft.datasets.pipelines.color import DeferredNormalize, Normalize
from mmdet_ft.datasets.pipelines.compose import Compose
from mmdet_ft.datasets.pipelines.formatting import (Collect, DefaultFormatBundle, ImageToTensor,
                                                    ToTensor, Transpose, to_tensor)
from mmdet_ft.datasets.pipelines.geometric import Pad, RandomFlip, Resize
from mmdet_ft.datasets.pipelines.loading import (LoadAnnotations, LoadImageFromFile,
                                                 LoadImageFromWebcam,
                                                 LoadMultiChannelImageFromFiles, LoadProposals)
from mmdet_ft.datasets.pipelines.test_time import MultiScaleFlipAug

__all__ = [
    'Collect', 'Compose', 'DefaultFormatBundle', 'DeferredNormalize', 'ImageToTensor',
    'LoadAnnotations', 'LoadImageFromFile', 'LoadImageFromWebcam', 'LoadMultiChannelImageFromFiles',
    'LoadProposals', 'MultiScaleFlipAug', 'Normalize', 'Pad', 'RandomFlip', 'Resize', 'ToTensor',
    'Transpose', 'to_tensor'
]
