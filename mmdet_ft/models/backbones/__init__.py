from mmdet_ft.models.backbones.csp_darknet import CSPDarknet
from mmdet_ft.models.backbones.darknet import Darknet
from mmdet_ft.models.backbones.hrnet import HRNet
from mmdet_ft.models.backbones.lenet import LeNet5
from mmdet_ft.models.backbones.mobilenet_v2 import MobileNetV2
from mmdet_ft.models.backbones.regnet import RegNet
from mmdet_ft.models.backbones.resnet import ResNet, ResNetV1c, ResNetV1d
from mmdet_ft.models.backbones.resnet_cifar import ResNet_CIFAR, ThinResNet_CIFAR
from mmdet_ft.models.backbones.resnext import ResNeXt
from mmdet_ft.models.backbones.seresnet import SEResNet, SEResNeXt
from mmdet_ft.models.backbones.ssd_vgg import SSDVGG
from mmdet_ft.models.backbones.vgg import VGG

__all__ = [
    'CSPDarknet', 'Darknet', 'HRNet', 'LeNet5', 'MobileNetV2', 'RegNet', 'ResNeXt', 'ResNet',
    'ResNetV1c', 'ResNetV1d', 'ResNet_CIFAR', 'SEResNeXt', 'SEResNet', 'SSDVGG', 'ThinResNet_CIFAR',
    'VGG'
]
