"""Datasets with one label per image."""
from mmdet_ft.datasets.classification.base import ClassificationDataset
from mmdet_ft.datasets.classification.cifar import CIFAR10, CIFAR100
from mmdet_ft.datasets.classification.folder import ClassFolders, ImageNet
from mmdet_ft.datasets.classification.mnist import MNIST, FashionMNIST

__all__ = [
    'CIFAR10', 'CIFAR100', 'ClassFolders', 'ClassificationDataset', 'FashionMNIST', 'ImageNet',
    'MNIST'
]
