"""Scores of masks by their predicted IoU (Mask Scoring R-CNN, Huang et al. 2019)."""
import dataclasses
from typing import Dict, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_ft.errors import DataError
from mmdet_ft.models.base_module import BaseModule, InitCfg, PartConfig
from mmdet_ft.models.roi_heads.base import RCNNTestSettings, RCNNTrainSettings
from mmdet_ft.models.roi_heads.regions import Positives, pack_detections, unpack
from mmdet_ft.models.roi_heads.standard_roi_head import StandardRoIHead
from mmdet_ft.ops.masks import area_inside
from mmdet_ft.parts import Rows, Takes, takes_of
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, Detections, GroundTruth, Masks


@MODELS.register_module()
class MaskIoUHead(BaseModule):
    """Predict the IoU of a mask with its object, for each class.

        features + mask, pooled to their size -> convs, the last with stride 2 -> fcs -> fc_mask_iou

    V2's arguments and state_dict.
    """
    prediction_rows = dict(fc_mask_iou=Rows())
    learns_from = ('gt_masks', )

    def __init__(self,
                 num_convs: int = 4,
                 num_fcs: int = 2,
                 roi_feat_size: Union[int, Tuple[int, int]] = 14,
                 in_channels: int = 256,
                 conv_out_channels: int = 256,
                 fc_out_channels: int = 1024,
                 num_classes: int = 80,
                 loss_iou: PartConfig = dict(type='MSELoss', loss_weight=0.5),
                 init_cfg: InitCfg = [
                     dict(type='Kaiming', override=dict(name='convs')),
                     dict(type='Caffe2Xavier', override=dict(name='fcs')),
                     dict(type='Normal', std=0.01, override=dict(name='fc_mask_iou'))
                 ]):
        super().__init__(init_cfg)
        self.in_channels, self.num_classes = in_channels, num_classes
        height, width = (roi_feat_size,
                         roi_feat_size) if isinstance(roi_feat_size, int) else roi_feat_size
        self.convs = nn.ModuleList(
            nn.Conv2d(
                conv_out_channels if i else in_channels + 1,
                conv_out_channels,
                3,
                stride=2 if i == num_convs - 1 else 1,
                padding=1) for i in range(num_convs))
        flat = conv_out_channels * (height // 2) * (width // 2)
        self.fcs = nn.ModuleList(
            nn.Linear(fc_out_channels if i else flat, fc_out_channels) for i in range(num_fcs))
        self.fc_mask_iou = nn.Linear(fc_out_channels, num_classes)
        self.loss_iou = MODELS.build(loss_iou)

    def takes(self) -> List[Takes]:
        return [Takes('in_channels', self.in_channels)]

    def forward(self, x: Tensor, logits: Tensor) -> Tensor:
        """Return the IoU [R, K] of masks, logits [R, 28, 28], with region features x [R, C, 14, 14]."""
        masks = F.max_pool2d(logits.sigmoid()[:, None], 2, 2)
        x = torch.cat([x, masks.to(x.dtype)], 1)
        for conv in self.convs:
            x = conv(x).relu()
        x = x.flatten(1)
        for fc in self.fcs:
            x = fc(x).relu()
        return self.fc_mask_iou(x).float()

    def loss(self, pred: Tensor, target: Tensor, valid: Tensor) -> Dict[str, Tensor]:
        """Return `loss_mask_iou`, the mean over the valid regions whose target is above 0.

        pred and target [T], valid bool [T].
        """
        counted = valid & (target > 0)
        loss = self.loss_iou(
            pred, target, counted.float(), avg_factor=counted.sum().clamp(min=1).float())
        return dict(loss_mask_iou=loss)


@torch.no_grad()
def mask_iou_targets(logits: Tensor, targets: Tensor, found: Positives, masks: Masks,
                     threshold: float) -> Tensor:
    """Return the IoU [T] of predicted masks with their whole objects; NaN for 0 / 0.

    Both masks are compared inside the box, logits and targets [T, 28, 28]. The area of the whole object is that of
    the target, divided by the share of the object inside the box. As in V2 `threshold` is that of the logit.
    """
    pred = (logits > threshold).float()
    overlap, inside = (pred * targets).sum((1, 2)), targets.sum((1, 2))
    part, whole = area_inside(masks, found.image_index, found.gt_index, found.boxes)
    whole_inside = inside / (part / (whole + 1e-7) + 1e-7)
    return overlap / (pred.sum((1, 2)) + whole_inside - overlap)


@dataclasses.dataclass(frozen=True)
class MaskScoringTrainSettings(RCNNTrainSettings):
    """`train_cfg.rcnn` of MaskScoringRoIHead."""
    mask_thr_binary: float = .5


@MODELS.register_module()
class MaskScoringRoIHead(StandardRoIHead):
    """StandardRoIHead with a branch that predicts the IoU of each mask.

        positives -> mask_head -> mask of the class -> mask_iou_head -> loss_mask_iou

    A mask's score is that of its box times its predicted IoU. With test-time views it is the box's, as in V2.

    V2's arguments and state_dict.
    """
    train_record = MaskScoringTrainSettings

    def __init__(self,
                 mask_iou_head: PartConfig,
                 bbox_roi_extractor: Optional[PartConfig] = None,
                 bbox_head: Optional[PartConfig] = None,
                 mask_roi_extractor: Optional[PartConfig] = None,
                 mask_head: Optional[PartConfig] = None,
                 shared_head: Optional[PartConfig] = None,
                 train_cfg: Union[Dict, MaskScoringTrainSettings, None] = None,
                 test_cfg: Union[Dict, RCNNTestSettings, None] = None,
                 pretrained: Optional[str] = None,
                 init_cfg: InitCfg = None):
        super().__init__(bbox_roi_extractor, bbox_head, mask_roi_extractor, mask_head, shared_head,
                         train_cfg, test_cfg, pretrained, init_cfg)
        if mask_iou_head is None or mask_head is None:
            raise ValueError(
                'MaskScoringRoIHead scores the masks of its mask_head by its mask_iou_head; '
                'write both, or StandardRoIHead')
        self.mask_iou_head: MaskIoUHead = MODELS.build(mask_iou_head)

    def takes(self) -> List[Takes]:
        """Return the inputs of StandardRoIHead and of the mask IoU head."""
        found = super().takes()
        return found if self.shared_head else found + takes_of(self.mask_iou_head, 'mask_iou_head')

    def mask_iou_loss(self, pooled: Tensor, logits: Tensor, targets: Tensor, found: Positives,
                      gt: GroundTruth) -> Dict[str, Tensor]:
        assert self.mask_head is not None and isinstance(self.train_settings,
                                                         MaskScoringTrainSettings)
        if not isinstance(gt.masks, Masks):
            raise DataError(
                'MaskScoringRoIHead compares masks by their pixels, and the batch has polygons. To fix: '
                'write poly2mask=True in LoadAnnotations')
        logits = self.mask_head.select_class(logits, found.labels)
        pred = self.mask_iou_head(pooled, logits).gather(1, found.labels[:, None])[:, 0]
        goal = mask_iou_targets(logits, targets, found, gt.masks,
                                self.train_settings.mask_thr_binary)
        return self.mask_iou_head.loss(pred, goal, found.valid)

    def add_masks(self, features: Sequence[Tensor], detections: Detections,
                  batch: Batch) -> Detections:
        """Return the detections with their masks and the scores of these."""
        head = self.mask_head
        assert head is not None
        packed = pack_detections(detections, batch)
        pooled = self.pool(self.mask_extractor, features, packed.rois)
        logits = head.select_class(head(pooled), packed.labels)
        iou = self.mask_iou_head(pooled, logits).gather(1, packed.labels[:, None])[:, 0]
        return detections._replace(
            masks=unpack(logits.sigmoid(), packed, detections),
            mask_scores=unpack(iou, packed, detections) * detections.scores)
