"""Datasets, pipelines and loaders, under V2's names."""
from mmdet_ft.datasets import classification, pipelines  # noqa: F401: register types
from mmdet_ft.datasets.annotations import cityscapes_files  # noqa: F401: recognize their layouts
from mmdet_ft.datasets.annotations import mask_files, via, wider_lists
from mmdet_ft.datasets.annotations.masks import BitmapMasks, PolygonMasks
from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.detection import coco_layout  # noqa: F401
from mmdet_ft.datasets.detection.cityscapes import CityscapesDataset
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.datasets.detection.coco_occluded import OccludedSeparatedCocoDataset
from mmdet_ft.datasets.detection.custom import CustomDataset
from mmdet_ft.datasets.detection.cvat import CVATDataset
from mmdet_ft.datasets.detection.deepfashion import DeepFashionDataset
from mmdet_ft.datasets.detection.kitti import KittiDataset
from mmdet_ft.datasets.detection.label_studio import LabelStudioDataset
from mmdet_ft.datasets.detection.labelme import LabelmeDataset
from mmdet_ft.datasets.detection.lvis import LVISDataset, LVISV1Dataset, LVISV05Dataset
from mmdet_ft.datasets.detection.objects365 import Objects365V1Dataset, Objects365V2Dataset
from mmdet_ft.datasets.detection.open_images import OpenImagesChallengeDataset, OpenImagesDataset
from mmdet_ft.datasets.detection.voc import VOCDataset
from mmdet_ft.datasets.detection.wider_face import WIDERFaceDataset
from mmdet_ft.datasets.detection.xml_style import XMLDataset
from mmdet_ft.datasets.detection.yolo import YOLODataset
from mmdet_ft.datasets.loading.collate import collate
from mmdet_ft.datasets.loading.loader import build_dataloader
from mmdet_ft.datasets.loading.samplers import (DistributedGroupSampler, DistributedSampler,
                                                GroupSampler, InfiniteBatchSampler,
                                                InfiniteGroupBatchSampler)
from mmdet_ft.datasets.wrappers import (ClassBalancedDataset, ConcatDataset, MultiImageMixDataset,
                                        RepeatDataset)
from mmdet_ft.old_names import resolve_old_names
from mmdet_ft.registry import DATASETS, PIPELINES

__all__ = [
    'BitmapMasks', 'CVATDataset', 'CityscapesDataset', 'ClassBalancedDataset', 'CocoDataset',
    'ConcatDataset', 'CustomDataset', 'DATASETS', 'DeepFashionDataset', 'DistributedGroupSampler',
    'DistributedSampler', 'GroupSampler', 'InfiniteBatchSampler', 'InfiniteGroupBatchSampler',
    'KittiDataset', 'LVISDataset', 'LVISV05Dataset', 'LVISV1Dataset', 'LabelStudioDataset',
    'LabelmeDataset', 'MultiImageMixDataset', 'Objects365V1Dataset', 'Objects365V2Dataset',
    'OccludedSeparatedCocoDataset', 'OpenImagesChallengeDataset', 'OpenImagesDataset', 'PIPELINES',
    'PolygonMasks', 'RepeatDataset', 'VOCDataset', 'WIDERFaceDataset', 'XMLDataset', 'YOLODataset',
    'build_dataloader', 'build_dataset', 'collate'
]

__getattr__ = resolve_old_names(__name__)  # V2's names
