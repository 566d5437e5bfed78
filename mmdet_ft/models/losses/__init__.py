from mmdet_ft.models.losses.entropy import (CrossEntropyLoss, binary_cross_entropy, cross_entropy,
                                            mask_cross_entropy, soft_cross_entropy)
from mmdet_ft.models.losses.focal import FocalLoss, sigmoid_focal_loss
from mmdet_ft.models.losses.gfocal import DistributionFocalLoss, QualityFocalLoss
from mmdet_ft.models.losses.ghm import GHMC, GHMR
from mmdet_ft.models.losses.iou import BoundedIoULoss, CIoULoss, DIoULoss, GIoULoss, IoULoss
from mmdet_ft.models.losses.label_smooth import LabelSmoothLoss
from mmdet_ft.models.losses.reduction import masked, reduce_loss, weight_reduce_loss, weighted_loss
from mmdet_ft.models.losses.seesaw import SeesawLoss, seesaw_cross_entropy
from mmdet_ft.models.losses.smooth_l1 import BalancedL1Loss, L1Loss, MSELoss, SmoothL1Loss
from mmdet_ft.models.losses.top_k_accuracy import Accuracy, accuracy
from mmdet_ft.models.losses.varifocal import VarifocalLoss

__all__ = [
    'Accuracy', 'BalancedL1Loss', 'BoundedIoULoss', 'CIoULoss', 'CrossEntropyLoss', 'DIoULoss',
    'DistributionFocalLoss', 'FocalLoss', 'GHMC', 'GHMR', 'GIoULoss', 'IoULoss', 'L1Loss',
    'LabelSmoothLoss', 'MSELoss', 'QualityFocalLoss', 'SeesawLoss', 'SmoothL1Loss', 'VarifocalLoss',
    'accuracy', 'binary_cross_entropy', 'cross_entropy', 'mask_cross_entropy', 'masked',
    'reduce_loss', 'seesaw_cross_entropy', 'sigmoid_focal_loss', 'soft_cross_entropy',
    'weight_reduce_loss', 'weighted_loss'
]
