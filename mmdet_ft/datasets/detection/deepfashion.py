"""DeepFashion's In-shop images."""
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.registry import DATASETS


@DATASETS.register_module()
class DeepFashionDataset(CocoDataset):
    """CocoDataset with DeepFashion's classes: clothes, and parts of the body."""

    CLASSES = ('top', 'skirt', 'leggings', 'dress', 'outer', 'pants', 'bag', 'neckwear', 'headwear',
               'eyeglass', 'belt', 'footwear', 'hair', 'skin', 'face')
    PALETTE = [(0, 192, 64), (0, 64, 96), (128, 192, 192), (0, 64, 64), (0, 192, 224),
               (0, 192, 192), (128, 192, 64), (0, 192, 96), (128, 32, 192), (0, 0, 224), (0, 0, 64),
               (0, 160, 192), (128, 0, 96), (128, 0, 192), (0, 32, 192)]
