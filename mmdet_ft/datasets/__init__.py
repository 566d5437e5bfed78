"""Datasets, pipelines and loaders, under V2's names."""
from mmdet_ft.datasets import classification, pipelines  # noqa: F401: register types
from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.cityscapes import CityscapesDataset
from mmdet_ft.datasets.coco import CocoDataset
from mmdet_ft.datasets.custom import CustomDataset
from mmdet_ft.datasets.kitti import KittiDataset
from mmdet_ft.datasets.labelme import LabelmeDataset
from mmdet_ft.datasets.loader import build_dataloader, collate
from mmdet_ft.datasets.lvis import LVISDataset, LVISV1Dataset, LVISV05Dataset
from mmdet_ft.datasets.masks import BitmapMasks, PolygonMasks
from mmdet_ft.datasets.samplers import (DistributedGroupSampler, DistributedSampler, GroupSampler,
                                        InfiniteBatchSampler, InfiniteGroupBatchSampler)
from mmdet_ft.datasets.voc import VOCDataset
from mmdet_ft.datasets.wider_face import WIDERFaceDataset
from mmdet_ft.datasets.wrappers import (ClassBalancedDataset, ConcatDataset, MultiImageMixDataset,
                                        RepeatDataset)
from mmdet_ft.datasets.xml_style import XMLDataset
from mmdet_ft.old_names import face
from mmdet_ft.registry import DATASETS, PIPELINES

__all__ = [
    'BitmapMasks', 'CityscapesDataset', 'ClassBalancedDataset', 'CocoDataset', 'ConcatDataset',
    'CustomDataset', 'DATASETS', 'DistributedGroupSampler', 'DistributedSampler', 'GroupSampler',
    'InfiniteBatchSampler', 'InfiniteGroupBatchSampler', 'KittiDataset', 'LVISDataset',
    'LVISV05Dataset', 'LVISV1Dataset', 'LabelmeDataset', 'MultiImageMixDataset', 'PIPELINES',
    'PolygonMasks', 'RepeatDataset', 'VOCDataset', 'WIDERFaceDataset', 'XMLDataset',
    'build_dataloader', 'build_dataset', 'collate'
]

__getattr__ = face(__name__)  # V2's names
