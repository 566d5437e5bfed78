from mmdet_ft.models.backbones.lenet import LeNet5
from mmdet_ft.models.backbones.resnet import ResNet, ResNetV1c, ResNetV1d
from mmdet_ft.models.backbones.resnet_cifar import ResNet_CIFAR
from mmdet_ft.models.backbones.resnext import ResNeXt

__all__ = ['LeNet5', 'ResNeXt', 'ResNet', 'ResNetV1c', 'ResNetV1d', 'ResNet_CIFAR']
