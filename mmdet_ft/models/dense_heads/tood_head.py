"""Head of TOOD: Task-aligned One-stage Object Detection."""
import dataclasses
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule, Scale
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchvision.ops import deform_conv2d

from mmdet_ft.models.anchors import (AnchorGenerator, Grid, centers_of, flatten_to_priors, map_size,
                                     usable_anchors)
from mmdet_ft.models.assigners import ATSSAssigner, TaskAlignedAssigner
from mmdet_ft.models.base_module import (InitCfg, Loader, PartConfig, bias_init_with_prob,
                                         normal_init)
from mmdet_ft.models.coders import DeltaXYWHBBoxCoder
from mmdet_ft.models.dense_heads.atss_head import AdaptiveHead
from mmdet_ft.models.dense_heads.dense_head import (AnchorHead, DenseOutputs, DenseTargets,
                                                    DenseTestSettings, DenseTrainSettings,
                                                    centerness_of, loss_by_level)
from mmdet_ft.models.layers import is_exported
from mmdet_ft.models.losses.reduction import mean_over_processes
from mmdet_ft.ops.boxes import take
from mmdet_ft.ops.matching import Match
from mmdet_ft.parts import Rows
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth


@dataclasses.dataclass(frozen=True)
class TOODTrainSettings(DenseTrainSettings):
    """`train_cfg` of TOOD: until `initial_epoch` anchors are matched by `initial_assigner`, then by `assigner`.

    alpha, beta: exponents of score and IoU.
    """
    initial_epoch: int = 4
    initial_assigner: Any = None
    alpha: float = 1
    beta: float = 6


class GeometricMean(torch.autograd.Function):
    """Geometric mean of two sigmoids, of logits of any shapes that broadcast; its slope is finite at 0."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return (a.sigmoid() * b.sigmoid()).sqrt()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        p, q = a.sigmoid(), b.sigmoid()
        grad = grad * (p * q).sqrt() / 2
        return ((1 - p) * grad).sum_to_size(a.shape), ((1 - q) * grad).sum_to_size(b.shape)


def geometric_mean(a: Tensor, b: Tensor) -> Tensor:
    """Return the geometric mean of two sigmoids; exporters do not record autograd functions."""
    return (a.sigmoid() * b.sigmoid()).sqrt() if is_exported() else GeometricMean.apply(a, b)


class TaskDecomposition(nn.Module):
    """Weigh the maps of all convolutions by what one task needs, and reduce them (sec. 3.2).

    V2's arguments and state_dict; as there, a bias of `reduction_conv` (without norm_cfg) has no effect.
    """

    def __init__(self,
                 feat_channels: int,
                 stacked_convs: int,
                 la_down_rate: int = 8,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = None):
        super().__init__()
        self.feat_channels, self.stacked_convs = feat_channels, stacked_convs
        channels = feat_channels * stacked_convs
        self.layer_attention = nn.Sequential(
            nn.Conv2d(channels, channels // la_down_rate, 1), nn.ReLU(),
            nn.Conv2d(channels // la_down_rate, stacked_convs, 1), nn.Sigmoid())
        self.reduction_conv = ConvModule(
            channels, feat_channels, 1, conv_cfg=conv_cfg, norm_cfg=norm_cfg, bias=norm_cfg is None)

    def init_weights(self) -> None:
        """Draw small weights, as V2 does."""
        normal_init(self.layer_attention[0], std=0.001)
        normal_init(self.layer_attention[2], std=0.001)
        normal_init(self.reduction_conv.conv, std=0.01)

    def forward(self, maps: Tensor, mean: Tensor) -> Tensor:
        """Return [B, C, H, W] of maps [B, C * convolutions, H, W] and their mean over H and W.

        The weights scale those of the convolution, which is smaller than the maps.
        """
        share = self.layer_attention(mean).view(-1, 1, self.stacked_convs, 1)
        weight = self.reduction_conv.conv.weight.view(self.feat_channels, self.stacked_convs, -1)
        reduced = torch.bmm((share * weight).flatten(2), maps.flatten(2))
        # reshape: exporters record these sizes, and those of unflatten as numbers
        reduced = reduced.reshape(maps.shape[0], self.feat_channels, maps.shape[2], maps.shape[3])
        if self.reduction_conv.with_norm:
            reduced = self.reduction_conv.norm(reduced)
        return self.reduction_conv.activate(reduced)


@MODELS.register_module()
class TOODHead(AdaptiveHead):
    """Classes and boxes from the same features, both adjusted to each other.

        feature map -> inter_convs: maps of all -> cls_decomp -> tood_cls: K logits
                                                -> cls_prob_module: a logit, whose sigmoid scales the scores
                                                -> reg_decomp -> tood_reg * scale of the level: a box
                                                -> reg_offset_module: where each side of the box is sampled

    V2's arguments and state_dict; `pred_kernel_size`, `reg_decoded_bbox`, `loss_centerness` and `init_cfg` have
    no effect, as in V2.

    Args:
        num_dcn: number of deformable convolutions, the first of inter_convs.
        anchor_type: 'anchor_free' predicts distances from the point, 'anchor_based' deltas of the anchor.
        initial_loss_cls: the loss of the scores until train_cfg.initial_epoch; then loss_cls.
        stacked_convs, conv_cfg, norm_cfg, feat_channels: of inter_convs.
        Others: see AnchorHead and DenseHead.
    """
    prediction_rows = dict(tood_cls=Rows())
    sample_at = staticmethod(deform_conv2d)
    takes = AnchorHead.takes  # by this forward
    train_record = TOODTrainSettings
    train_settings: Optional[TOODTrainSettings]
    assigner: TaskAlignedAssigner

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 num_dcn: int = 0,
                 anchor_type: str = 'anchor_free',
                 initial_loss_cls: PartConfig = dict(
                     type='FocalLoss',
                     use_sigmoid=True,
                     activated=True,
                     gamma=2.0,
                     alpha=0.25,
                     loss_weight=1.0),
                 pred_kernel_size: int = 3,
                 stacked_convs: int = 4,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = dict(type='GN', num_groups=32, requires_grad=True),
                 reg_decoded_bbox: bool = True,
                 loss_centerness: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
                 init_cfg: InitCfg = None,
                 feat_channels: int = 256,
                 anchor_generator: Union[Dict, AnchorGenerator] = dict(
                     type='AnchorGenerator',
                     scales=[8, 16, 32],
                     ratios=[0.5, 1.0, 2.0],
                     strides=[4, 8, 16, 32, 64]),
                 bbox_coder: Union[Dict, DeltaXYWHBBoxCoder] = dict(
                     type='DeltaXYWHBBoxCoder',
                     clip_border=True,
                     target_means=(.0, .0, .0, .0),
                     target_stds=(1.0, 1.0, 1.0, 1.0)),
                 loss_cls: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
                 loss_bbox: PartConfig = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0),
                 train_cfg: Union[Dict, TOODTrainSettings, None] = None,
                 test_cfg: Union[Dict, DenseTestSettings, None] = None):
        super().__init__(num_classes, in_channels, anchor_generator, bbox_coder, reg_decoded_bbox,
                         loss_cls, loss_bbox, train_cfg, test_cfg, init_cfg)
        self.check_one_anchor()
        if anchor_type not in ('anchor_free', 'anchor_based'):
            raise ValueError(
                f"TOODHead: anchor_type is {anchor_type!r}; write 'anchor_free' or 'anchor_based'")
        self.is_anchor_free = anchor_type == 'anchor_free'
        self.is_initial = True
        self.initial_loss_cls = MODELS.build(initial_loss_cls)
        if self.train_settings is not None:
            self.initial_assigner: ATSSAssigner = MODELS.build(self.train_settings.initial_assigner)
            self.set_epoch(0)
        self._build_layers(num_dcn, stacked_convs, feat_channels, conv_cfg, norm_cfg)

    def _build_layers(self, num_dcn: int, stacked_convs: int, width: int, conv_cfg: Optional[Dict],
                      norm_cfg: Optional[Dict]) -> None:
        deformable = dict(type='DCNv2', deform_groups=4)
        self.inter_convs = nn.ModuleList(
            ConvModule(
                width if i else self.in_channels,
                width,
                3,
                padding=1,
                conv_cfg=deformable if i < num_dcn else conv_cfg,
                norm_cfg=norm_cfg) for i in range(stacked_convs))
        self.cls_decomp, self.reg_decomp = (
            TaskDecomposition(width, stacked_convs, stacked_convs * 8, conv_cfg, norm_cfg)
            for _ in range(2))
        self.tood_cls = nn.Conv2d(width, self.num_logits, 3, padding=1)
        self.tood_reg = nn.Conv2d(width, 4, 3, padding=1)
        self.cls_prob_module, self.reg_offset_module = (
            nn.Sequential(
                nn.Conv2d(width * stacked_convs, width // 4, 1), nn.ReLU(),
                nn.Conv2d(width // 4, channels, 3, padding=1)) for channels in (1, 8))
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.anchor_generator.strides)

    def init_weights(self, load: Optional[Loader] = None) -> None:
        """Draw weights as V2 does; scores begin at 0.01."""
        bias = bias_init_with_prob(0.01)
        convs = [layer.get_submodule('conv') for layer in self.inter_convs]
        for conv in (*convs, self.cls_prob_module[0], self.tood_reg):
            normal_init(conv, std=0.01)
        for conv in (self.cls_prob_module[2], self.tood_cls):
            normal_init(conv, std=0.01, bias=bias)
        for conv in (self.reg_offset_module[0], self.reg_offset_module[2]):
            normal_init(conv, std=0.001)
        self.cls_decomp.init_weights()
        self.reg_decomp.init_weights()
        self.is_init = True

    def set_epoch(self, epoch: int) -> None:
        """Match anchors by their shapes before `initial_epoch`, by predictions from it on."""
        if self.train_settings is not None:
            self.is_initial = epoch < self.train_settings.initial_epoch

    def forward(self, features: Sequence[Tensor]) -> DenseOutputs:
        """Return predictions; logits are scores in 0..1, boxes x y x y in strides of their level."""
        sizes = [map_size(feature) for feature in features]
        levels = zip(features, self.scales, self.priors(sizes, features[0].device),
                     self.anchor_generator.strides)
        scores, boxes = zip(*(self._level(*level) for level in levels))
        return DenseOutputs(list(scores), list(boxes), sizes)

    def _level(self, x: Tensor, scale: nn.Module, anchors: Tensor,
               stride: Tuple[float, float]) -> Tuple[Tensor, Tensor]:
        stages: List[Tensor] = []
        for conv in self.inter_convs:
            x = conv(x)
            stages.append(x)
        maps = torch.cat(stages, 1)
        mean = F.adaptive_avg_pool2d(maps, (1, 1))
        logits = self.tood_cls(self.cls_decomp(maps, mean)).float()
        scores = geometric_mean(logits, self.cls_prob_module(maps).float())
        raw = self.tood_reg(self.reg_decomp(maps, mean)).float()
        boxes = self._boxes(raw, scale, anchors, stride[0])
        boxes = sample_sides(boxes, self.reg_offset_module(maps).float(), self.sample_at)
        return flatten_to_priors(scores, self.num_logits), flatten_to_priors(boxes, 4)

    def _boxes(self, raw: Tensor, scale: nn.Module, anchors: Tensor, stride: float) -> Tensor:
        """Return boxes in strides of predictions, [B, 4, H, W] each."""
        # float32: the exponential overflows float16
        raw = scale(raw.exp() if self.is_anchor_free else raw)
        size, raw = raw.shape[2:], flatten_to_priors(raw, 4)
        if self.is_anchor_free:
            points = centers_of(anchors) / stride
            boxes = torch.cat([points - raw[..., :2], points + raw[..., 2:]], -1)
        else:
            boxes = self.bbox_coder.decode(anchors, raw) / stride
        return boxes.transpose(1, 2).reshape(boxes.shape[0], 4, size[0], size[1])

    def scores(self, logits: Tensor) -> Tensor:
        return logits

    def distances(self, outputs: DenseOutputs) -> List[Tensor]:
        """Return boxes in pixels."""
        strides = self.anchor_generator.strides
        return [boxes * stride[0] for boxes, stride in zip(outputs.boxes, strides)]

    def decode(self, priors: Tensor, raw: Tensor, sizes: Optional[Tensor] = None) -> Tensor:
        """Return `raw`, which are boxes already, and are not clipped, as in V2."""
        return raw

    def match(self, grid: Grid, gt: GroundTruth, usable: Tensor) -> Match:
        return self.initial_assigner(grid.anchors, grid.counts, gt, usable)

    @torch.no_grad()
    def aligned_targets(self, outputs: DenseOutputs, batch: Batch) -> Tuple[DenseTargets, Tensor]:
        """Return what each anchor learns by the predictions, and the qualities [B, A], whose sum divides the losses."""
        settings, gt = self.train_settings, batch.gt
        assert settings is not None and isinstance(gt, GroundTruth), 'no train_cfg, or no boxes'
        grid = self.grid(outputs.sizes, gt.boxes.device)
        usable = usable_anchors(self.anchor_generator, outputs.sizes, batch,
                                settings.allowed_border)
        (gt_index, label, _), quality = self.assigner(
            torch.cat(outputs.logits, 1), torch.cat(self.distances(outputs), 1), grid.anchors, gt,
            usable, settings.alpha, settings.beta)
        positive, weight = label == 1, (label >= 0).float()
        if settings.pos_weight > 0:
            weight = weight.masked_fill(positive, settings.pos_weight)
        labels = take(gt.labels, gt_index).masked_fill(~positive, self.num_classes)
        boxes = torch.where(positive[..., None], take(gt.boxes, gt_index), grid.anchors)
        count = mean_over_processes(quality.sum()).clamp(min=1)
        return DenseTargets(labels, weight, positive, boxes, count), quality

    def loss(self, outputs: DenseOutputs, batch: Batch) -> Dict[str, Tensor]:
        """Return `loss_cls` and `loss_bbox`.

        Boxes of positives are weighted by centerness at first, then by quality, which scores learn too.
        """
        if self.is_initial:
            targets = self.targets(outputs, batch)
            count = mean_over_processes(targets.positive.sum().float()).clamp(min=1)
            targets = targets._replace(num_positive=count)
            weight = self._centerness(outputs, targets)
            loss_cls = loss_by_level(self.initial_loss_cls, outputs, targets, targets.labels)
        else:
            targets, weight = self.aligned_targets(outputs, batch)
            loss_cls = self.quality_loss(outputs, targets, weight)
        stride = self.strides_of(self.grid(outputs.sizes, weight.device))
        loss_bbox = self.loss_bbox(
            torch.cat(outputs.boxes, 1).flatten(0, 1), (targets.boxes / stride).flatten(0, 1),
            weight.flatten(),
            avg_factor=mean_over_processes(weight.sum()).clamp(min=1))
        return dict(loss_cls=loss_cls, loss_bbox=loss_bbox)

    def _centerness(self, outputs: DenseOutputs, targets: DenseTargets) -> Tensor:
        points = centers_of(self.grid(outputs.sizes, targets.boxes.device).anchors)
        goal = targets.boxes  # where not positive, the anchor itself
        sides = torch.cat([points - goal[..., :2], goal[..., 2:] - points], -1)
        return centerness_of(sides).masked_fill(~targets.positive, 0.)


def sample_sides(boxes: Tensor,
                 offsets: Tensor,
                 sample_at: Callable[..., Tensor] = deform_conv2d) -> Tensor:
    """Return boxes with each side taken from another cell (sec. 3.2).

    boxes [B, 4, H, W] x y x y; offsets [B, 8, H, W]: y and x in cells, for each side. Where the result would
    end before its start the box stays. sample_at: torchvision's deform_conv2d, or a form of it.
    """
    moved = sample_at(boxes, offsets, boxes.new_ones(4, 1, 1, 1))
    is_flipped = (moved[:, :2] > moved[:, 2:]).any(1, keepdim=True)
    return torch.where(is_flipped, boxes, moved)
