"""Head of FoveaBox: Beyond Anchor-Based Object Detector."""
from typing import Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.models.anchors import AnchorGenerator, MlvlPointGenerator, flatten_to_priors, map_size
from mmdet_ft.models.base_module import BaseModule, InitCfg, PartConfig
from mmdet_ft.models.coders import DistancePointBBoxCoder
from mmdet_ft.models.deform_conv import DeformConv2d
from mmdet_ft.models.dense_heads.dense_head import (DenseHead, DenseOutputs, DenseTargets,
                                                    DenseTestSettings, DenseTrainSettings, through,
                                                    tower)
from mmdet_ft.models.dense_heads.fcos_head import per_point
from mmdet_ft.ops.boxes import take
from mmdet_ft.ops.fovea_matching import match_foveas
from mmdet_ft.parts import Rows, Takes
from mmdet_ft.ranges import Count, Filled, Positive, Share, Whole
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth

FARTHEST = 16  # a learned distance is between 1/16 and 16 base edges


class FeatureAlign(BaseModule):
    """A deformable convolution whose offsets follow the predicted box of each cell (sec. 3.5).

    V2's state_dict.

    Args:
        deform_groups: groups of channels with offsets of their own.
    """

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 deform_groups: int = 4,
                 init_cfg: InitCfg = dict(
                     type='Normal',
                     layer='Conv2d',
                     std=0.1,
                     override=dict(type='Normal', name='conv_adaption', std=0.01))):
        super().__init__(init_cfg)
        self.conv_offset = nn.Conv2d(4, deform_groups * 18, 1, bias=False)
        self.conv_adaption = DeformConv2d(in_channels, out_channels)

    def forward(self, x: Tensor, distances: Tensor) -> Tensor:
        """Return [B, out_channels, H, W] of x [B, C, H, W] and distances [B, 4, H, W] in base edges."""
        return self.conv_adaption(x, self.conv_offset(distances)).relu()


@MODELS.register_module()
class FoveaHead(DenseHead):
    """Every cell in the inner part of an object predicts the distances to the object's sides.

        feature map -> reg_convs -> conv_reg: logarithms of distances in base edges
                    -> cls_convs -> conv_cls: K logits
        with_deform: feature_adaption (by those distances) comes before two wider cls_convs

    Objects are learned by levels whose scale range holds them: by several where ranges overlap.

    V2's arguments and state_dict.

    Args:
        num_classes, in_channels, loss_cls, train_cfg, test_cfg: see DenseHead.
        loss_bbox: compares logarithms of distances; V2's default, an IoU loss, compares boxes.
        base_edge_list: unit of the distances of each level, in pixels.
        scale_ranges: smallest and largest root of an object's area that each level learns, in pixels.
        sigma: width of the inner part, as a share of the object's.
        with_deform, deform_groups: align features of classes with boxes, see FeatureAlign.
        feat_channels, stacked_convs: of both towers; stacked_convs of the boxes' alone under with_deform.
        Others: see FCOSHead.
    """
    prediction_rows = dict(conv_cls=Rows())

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 base_edge_list: Filled[Sequence[Positive]] = (16, 32, 64, 128, 256),
                 scale_ranges: Sequence[Tuple[float, float]] = ((8, 32), (16, 64), (32, 128),
                                                                (64, 256), (128, 512)),
                 sigma: Share = 0.4,
                 with_deform: bool = False,
                 deform_groups: Count = 4,
                 init_cfg: InitCfg = dict(
                     type='Normal',
                     layer='Conv2d',
                     std=0.01,
                     override=dict(type='Normal', name='conv_cls', std=0.01, bias_prob=0.01)),
                 feat_channels: Count = 256,
                 stacked_convs: Whole = 4,
                 strides: Filled[Sequence[Positive]] = (4, 8, 16, 32, 64),
                 dcn_on_last_conv: bool = False,
                 conv_bias: Union[bool, str] = 'auto',
                 loss_cls: PartConfig = dict(
                     type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
                 loss_bbox: PartConfig = dict(type='SmoothL1Loss', beta=0.11, loss_weight=1.0),
                 bbox_coder: Union[Dict,
                                   DistancePointBBoxCoder] = dict(type='DistancePointBBoxCoder'),
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None,
                 train_cfg: Union[Dict, DenseTrainSettings, None] = None,
                 test_cfg: Union[Dict, DenseTestSettings, None] = None):
        super().__init__(num_classes, in_channels, loss_cls, loss_bbox, train_cfg, test_cfg,
                         init_cfg)
        _check_loss(self.loss_bbox)
        _check_levels(strides, base_edge_list, scale_ranges)
        self.strides, self.base_edges = strides, base_edge_list
        self.scale_ranges, self.sigma = scale_ranges, sigma
        self.points = MlvlPointGenerator(strides)
        self.bbox_coder: DistancePointBBoxCoder = MODELS.build(bbox_coder)
        last = dict(type='DCNv2') if dcn_on_last_conv else None
        self.reg_convs = tower(stacked_convs, in_channels, feat_channels, conv_cfg, norm_cfg,
                               conv_bias, last)
        width = feat_channels if stacked_convs else in_channels
        self.conv_reg = nn.Conv2d(width, 4, 3, padding=1)
        self.feature_adaption: Optional[FeatureAlign] = None
        if with_deform:
            self.feature_adaption = FeatureAlign(in_channels, feat_channels, deform_groups)
            width = 4 * feat_channels
            self.cls_convs = aligned_tower(feat_channels, conv_cfg, norm_cfg)
        else:
            self.cls_convs = tower(stacked_convs, in_channels, feat_channels, conv_cfg, norm_cfg,
                                   conv_bias, last)
        self.conv_cls = nn.Conv2d(width, self.num_logits, 3, padding=1)

    def takes(self) -> List[Takes]:
        return [Takes('in_channels', self.in_channels), Takes('strides', strides=self.strides)]

    def forward(self, features: Sequence[Tensor]) -> DenseOutputs:
        """Return predictions; boxes are logarithms of distances in base edges."""
        logits, boxes = zip(*(self._level(feature) for feature in features))
        return DenseOutputs(list(logits), list(boxes), [map_size(feature) for feature in features])

    def _level(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        raw = self.conv_reg(through(self.reg_convs, x)).float()
        if self.feature_adaption is not None:
            x = self.feature_adaption(x, raw.exp())
        logits = self.conv_cls(through(self.cls_convs, x))
        return flatten_to_priors(logits, self.num_logits), flatten_to_priors(raw, 4)

    @property
    def prior_generator(self) -> AnchorGenerator:
        return self.points

    def distances(self, outputs: DenseOutputs) -> List[Tensor]:
        """Return distances in pixels."""
        return [raw.exp() * edge for raw, edge in zip(outputs.boxes, self.base_edges)]

    def decode(self, priors: Tensor, raw: Tensor, sizes: Optional[Tensor] = None) -> Tensor:
        """Return boxes; they end in the last pixel of the image, as in V2."""
        limit = None if sizes is None else sizes - 1
        return self.bbox_coder.decode(priors[..., :2], raw, max_shape=limit)

    @torch.no_grad()
    def targets(self, outputs: DenseOutputs, batch: Batch) -> DenseTargets:
        """Return what each cell learns; the loss of classes is divided by positives plus images."""
        gt = batch.gt
        assert isinstance(gt, GroundTruth), 'no boxes'
        levels = zip(outputs.sizes, self.strides, self.scale_ranges)
        matches = [match_foveas(*level, self.sigma, gt.boxes, gt.valid) for level in levels]
        gt_index = torch.cat([match.gt_index for match in matches], 1)
        positive = torch.cat([match.label for match in matches], 1) == 1
        labels = take(gt.labels, gt_index).masked_fill(~positive, self.num_classes)
        return DenseTargets(labels, torch.ones_like(labels, dtype=torch.float32), positive,
                            take(gt.boxes, gt_index),
                            positive.sum().float() + len(positive))

    def box_losses(self, outputs: DenseOutputs, targets: DenseTargets) -> Dict[str, Tensor]:
        """Return `loss_bbox`, divided by the number of positives."""
        grid = self.grid(outputs.sizes, targets.boxes.device)
        points = grid.anchors[:, :2]
        edges = per_point(self.base_edges, grid, points)
        goal = self.bbox_coder.encode(points, targets.boxes) / edges[:, None]
        goal = torch.where(targets.positive[..., None], goal, torch.ones_like(goal))
        goal = goal.clamp(1 / FARTHEST, FARTHEST).log()
        loss = self.loss_bbox(
            torch.cat(outputs.boxes, 1).flatten(0, 1),
            goal.flatten(0, 1),
            targets.positive.flatten()[:, None].expand(-1, 4).float(),
            avg_factor=targets.positive.sum().clamp(min=1).float())
        return dict(loss_bbox=loss)


def aligned_tower(channels: int, conv_cfg: Optional[Dict],
                  norm_cfg: Optional[Dict]) -> nn.ModuleList:
    """Return the two convolutions that follow FeatureAlign: channels -> 4 * channels."""
    wide = 4 * channels
    return nn.ModuleList(
        ConvModule(before, wide, size, padding=size // 2, conv_cfg=conv_cfg, norm_cfg=norm_cfg)
        for before, size in ((channels, 3), (wide, 1)))


def _check_loss(loss: nn.Module) -> None:
    """Raise ValueError for a loss of boxes."""
    if getattr(loss, 'compares_boxes', False):
        raise ValueError(f'FoveaHead: loss_bbox is {type(loss).__name__}, which compares boxes, '
                         "not distances; write dict(type='SmoothL1Loss', beta=0.11)")


def _check_levels(strides: Sequence[float], edges: Sequence[float],
                  ranges: Sequence[Tuple[float, float]]) -> None:
    """Raise ValueError unless each level has an edge and a range, the smaller scale first."""
    for key, values in (('base_edge_list', edges), ('scale_ranges', ranges)):
        if len(values) != len(strides):
            raise ValueError(f'FoveaHead: {key} has {len(values)} items for {len(strides)} '
                             'strides; give one a level')
    for low, high in ranges:
        if not low < high:
            raise ValueError(f'FoveaHead: scale_ranges has ({low}, {high}); write the smaller '
                             'scale first, such as (32, 128)')
