"""Transforms of samples, under V2's names."""
from mmdet_ft.datasets.pipelines.classification.augment import (AutoContrast, Brightness,
                                                                ColorTransform, Contrast, Cutout,
                                                                Equalize, Invert, Posterize, Rotate,
                                                                Sharpness, Shear, Solarize,
                                                                SolarizeAdd, Translate)
from mmdet_ft.datasets.pipelines.classification.color import (ColorJitter, Lighting, RandomErasing,
                                                              RandomGrayscale)
from mmdet_ft.datasets.pipelines.classification.crop import (CenterCrop, RandomCropOfSize,
                                                             RandomResizedCrop)
from mmdet_ft.datasets.pipelines.detection.affine import Expand, RandomAffine, RandomShift
from mmdet_ft.datasets.pipelines.detection.by_level import (BrightnessTransform, ColorByLevel,
                                                            ContrastTransform, EqualizeTransform,
                                                            RotateObjects, ShearObjects,
                                                            TranslateObjects)
from mmdet_ft.datasets.pipelines.detection.copy_paste import CopyPaste
from mmdet_ft.datasets.pipelines.detection.crop import (FilterAnnotations, MinIoURandomCrop,
                                                        RandomCenterCropPad, RandomCrop)
from mmdet_ft.datasets.pipelines.detection.mix import MixUp, Mosaic
from mmdet_ft.datasets.pipelines.shared.albu import Albu
from mmdet_ft.datasets.pipelines.shared.color import (Corrupt, CutOut, DeferredNormalize, Normalize,
                                                      PhotoMetricDistortion, YOLOXHSVRandomAug)
from mmdet_ft.datasets.pipelines.shared.compose import Compose
from mmdet_ft.datasets.pipelines.shared.formatting import (Collect, DefaultFormatBundle,
                                                           ImageToTensor, ToDataContainer, ToTensor,
                                                           Transpose, to_tensor)
from mmdet_ft.datasets.pipelines.shared.loading import (LoadAnnotations, LoadImageFromFile,
                                                        LoadImageFromWebcam,
                                                        LoadMultiChannelImageFromFiles,
                                                        LoadProposals)
from mmdet_ft.datasets.pipelines.shared.policies import AutoAugment, RandAugment
from mmdet_ft.datasets.pipelines.shared.resize_flip import Pad, RandomFlip, Resize, SegRescale
from mmdet_ft.datasets.pipelines.shared.views import MultiScaleFlipAug

__all__ = [
    'Albu', 'AutoAugment', 'AutoContrast', 'Brightness', 'BrightnessTransform', 'CenterCrop',
    'Collect', 'ColorByLevel', 'ColorJitter', 'ColorTransform', 'Compose', 'Contrast',
    'ContrastTransform', 'CopyPaste', 'Corrupt', 'CutOut', 'Cutout', 'DefaultFormatBundle',
    'DeferredNormalize', 'Equalize', 'EqualizeTransform', 'Expand', 'FilterAnnotations',
    'ImageToTensor', 'Invert', 'Lighting', 'LoadAnnotations', 'LoadImageFromFile',
    'LoadImageFromWebcam', 'LoadMultiChannelImageFromFiles', 'LoadProposals', 'MinIoURandomCrop',
    'MixUp', 'Mosaic', 'MultiScaleFlipAug', 'Normalize', 'Pad', 'PhotoMetricDistortion',
    'Posterize', 'RandAugment', 'RandomAffine', 'RandomCenterCropPad', 'RandomCrop',
    'RandomCropOfSize', 'RandomErasing', 'RandomFlip', 'RandomGrayscale', 'RandomResizedCrop',
    'RandomShift', 'Resize', 'Rotate', 'RotateObjects', 'SegRescale', 'Sharpness', 'Shear',
    'ShearObjects', 'Solarize', 'SolarizeAdd', 'ToDataContainer', 'ToTensor', 'Translate',
    'TranslateObjects', 'Transpose', 'YOLOXHSVRandomAug', 'to_tensor'
]
