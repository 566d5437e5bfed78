from mmdet_ft.models.backbones.resnet import ResNet, ResNetV1d
from mmdet_ft.models.backbones.resnext import ResNeXt

__all__ = ['ResNeXt', 'ResNet', 'ResNetV1d']
