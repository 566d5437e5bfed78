"""Transforms of samples, under V2's names."""
from mmdet_ft.datasets.pipelines.albu import Albu
from mmdet_ft.datasets.pipelines.augment import (AutoContrast, Brightness, ColorTransform, Contrast,
                                                 Cutout, Equalize, Invert, Posterize, Rotate,
                                                 Sharpness, Shear, Solarize, SolarizeAdd, Translate)
from mmdet_ft.datasets.pipelines.by_level import (BrightnessTransform, ColorByLevel,
                                                  ContrastTransform, EqualizeTransform,
                                                  RotateObjects, ShearObjects, TranslateObjects)
from mmdet_ft.datasets.pipelines.classifier_color import (ColorJitter, Lighting, RandomErasing,
                                                          RandomGrayscale)
from mmdet_ft.datasets.pipelines.classifier_crop import (CenterCrop, RandomCropOfSize,
                                                         RandomResizedCrop)
from mmdet_ft.datasets.pipelines.color import (Corrupt, CutOut, DeferredNormalize, Normalize,
                                               PhotoMetricDistortion, YOLOXHSVRandomAug)
from mmdet_ft.datasets.pipelines.compose import Compose
from mmdet_ft.datasets.pipelines.crop import (FilterAnnotations, MinIoURandomCrop,
                                              RandomCenterCropPad, RandomCrop)
from mmdet_ft.datasets.pipelines.formatting import (Collect, DefaultFormatBundle, ImageToTensor,
                                                    ToTensor, Transpose, to_tensor)
from mmdet_ft.datasets.pipelines.geometric import Pad, RandomFlip, Resize, SegRescale
from mmdet_ft.datasets.pipelines.loading import (LoadAnnotations, LoadImageFromFile,
                                                 LoadImageFromWebcam,
                                                 LoadMultiChannelImageFromFiles, LoadProposals)
from mmdet_ft.datasets.pipelines.mix import MixUp, Mosaic
from mmdet_ft.datasets.pipelines.move import Expand, RandomAffine, RandomShift
from mmdet_ft.datasets.pipelines.policies import AutoAugment, RandAugment
from mmdet_ft.datasets.pipelines.test_time import MultiScaleFlipAug

__all__ = [
    'Albu', 'AutoAugment', 'AutoContrast', 'Brightness', 'BrightnessTransform', 'CenterCrop',
    'Collect', 'ColorByLevel', 'ColorJitter', 'ColorTransform', 'Compose', 'Contrast',
    'ContrastTransform', 'Corrupt', 'CutOut', 'Cutout', 'DefaultFormatBundle', 'DeferredNormalize',
    'Equalize', 'EqualizeTransform', 'Expand', 'FilterAnnotations', 'ImageToTensor', 'Invert',
    'Lighting', 'LoadAnnotations', 'LoadImageFromFile', 'LoadImageFromWebcam',
    'LoadMultiChannelImageFromFiles', 'LoadProposals', 'MinIoURandomCrop', 'MixUp', 'Mosaic',
    'MultiScaleFlipAug', 'Normalize', 'Pad', 'PhotoMetricDistortion', 'Posterize', 'RandAugment',
    'RandomAffine', 'RandomCenterCropPad', 'RandomCrop', 'RandomCropOfSize', 'RandomErasing',
    'RandomFlip', 'RandomGrayscale', 'RandomResizedCrop', 'RandomShift', 'Resize', 'Rotate',
    'RotateObjects', 'SegRescale', 'Sharpness', 'Shear', 'ShearObjects', 'Solarize', 'SolarizeAdd',
    'ToTensor', 'Translate', 'TranslateObjects', 'Transpose', 'YOLOXHSVRandomAug', 'to_tensor'
]
