"""Transforms of samples, under V2's names."""
from mmdet_ft.datasets.pipelines.albu import Albu
from mmdet_ft.datasets.pipelines.color import (Corrupt, CutOut, DeferredNormalize, Normalize,
                                               PhotoMetricDistortion, YOLOXHSVRandomAug)
from mmdet_ft.datasets.pipelines.compose import Compose
from mmdet_ft.datasets.pipelines.crop import MinIoURandomCrop, RandomCenterCropPad, RandomCrop
from mmdet_ft.datasets.pipelines.formatting import (Collect, DefaultFormatBundle, ImageToTensor,
                                                    ToTensor, Transpose, to_tensor)
from mmdet_ft.datasets.pipelines.geometric import Pad, RandomFlip, Resize, SegRescale
from mmdet_ft.datasets.pipelines.loading import (LoadAnnotations, LoadImageFromFile,
                                                 LoadImageFromWebcam,
                                                 LoadMultiChannelImageFromFiles, LoadProposals)
from mmdet_ft.datasets.pipelines.mix import MixUp, Mosaic
from mmdet_ft.datasets.pipelines.move import Expand, RandomAffine, RandomShift
from mmdet_ft.datasets.pipelines.test_time import MultiScaleFlipAug

__all__ = [
    'Albu', 'Collect', 'Compose', 'Corrupt', 'CutOut', 'DefaultFormatBundle', 'DeferredNormalize',
    'Expand', 'ImageToTensor', 'LoadAnnotations', 'LoadImageFromFile', 'LoadImageFromWebcam',
    'LoadMultiChannelImageFromFiles', 'LoadProposals', 'MinIoURandomCrop', 'MixUp', 'Mosaic',
    'MultiScaleFlipAug', 'Normalize', 'Pad', 'PhotoMetricDistortion', 'RandomAffine',
    'RandomCenterCropPad', 'RandomCrop', 'RandomFlip', 'RandomShift', 'Resize', 'SegRescale',
    'ToTensor', 'Transpose', 'YOLOXHSVRandomAug', 'to_tensor'
]
