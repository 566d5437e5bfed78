"""Head of VarifocalNet (VFNet): An IoU-aware Dense Object Detector."""
from typing import Dict, List, Optional, Sequence, Tuple, Union

import torch
from mmcv.cnn import ConvModule, Scale
from torch import Tensor, nn

from mmdet_ft.models.anchors import (AnchorGenerator, MlvlPointGenerator, centers_of,
                                     flatten_to_priors, map_size)
from mmdet_ft.models.base_module import InitCfg, PartConfig
from mmdet_ft.models.coders import DistancePointBBoxCoder
from mmdet_ft.models.deform_conv import DeformConv2d
from mmdet_ft.models.dense_heads.atss_head import AdaptiveHead
from mmdet_ft.models.dense_heads.dense_head import (DenseOutputs, DenseTargets, DenseTestSettings,
                                                    DenseTrainSettings, through, tower)
from mmdet_ft.models.dense_heads.fcos_head import INF, assign_points
from mmdet_ft.models.losses.iou import aligned_iou
from mmdet_ft.models.losses.reduction import mean_over_processes
from mmdet_ft.parts import Rows, Takes
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth


@MODELS.register_module()
class VFNetHead(AdaptiveHead):
    """Every point predicts a box, samples the features along it, refines it, and scores its overlap.

        feature map -> reg_convs -> vfnet_reg_conv -> vfnet_reg: first distances, whose star of 9 points is sampled
                                 -> vfnet_reg_refine_dconv -> vfnet_reg_refine: factors of the first distances
                    -> cls_convs -> vfnet_cls_dconv -> vfnet_cls: K logits

    V2's arguments and state_dict.

    Args:
        regress_ranges: as FCOSHead; their ends are the units of the distances.
        center_sampling, center_sample_radius: as FCOSHead, without `use_atss`.
        sync_num_pos: average the number of positives over processes.
        gradient_mul: share of the gradient that the star gives to the first distances.
        bbox_norm_type: unit of the distances: 'reg_denom' of regress_ranges, or 'stride'.
        loss_cls_fl: the loss without `use_vfl`.
        use_vfl: learn qualities by `loss_cls`.
        loss_bbox, loss_bbox_refine: of the first and of the refined boxes.
        use_atss: match anchors by the assigner, not points as FCOS.
        strides: pixels per cell of each level, those of anchor_generator.
        stacked_convs, feat_channels, dcn_on_last_conv, conv_bias, conv_cfg, norm_cfg: of both towers, as FCOSHead.
        Others: see AnchorHead and DenseHead.
    """
    prediction_rows = dict(vfnet_cls=Rows())
    bbox_coder: DistancePointBBoxCoder  # type: ignore[assignment] # of points, not of anchors

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 regress_ranges: Sequence[Tuple[float, float]] = ((-1, 64), (64, 128), (128, 256),
                                                                  (256, 512), (512, INF)),
                 center_sampling: bool = False,
                 center_sample_radius: float = 1.5,
                 sync_num_pos: bool = True,
                 gradient_mul: float = 0.1,
                 bbox_norm_type: str = 'reg_denom',
                 loss_cls_fl: PartConfig = dict(
                     type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
                 use_vfl: bool = True,
                 loss_cls: PartConfig = dict(
                     type='VarifocalLoss',
                     use_sigmoid=True,
                     alpha=0.75,
                     gamma=2.0,
                     iou_weighted=True,
                     loss_weight=1.0),
                 loss_bbox: PartConfig = dict(type='GIoULoss', loss_weight=1.5),
                 loss_bbox_refine: PartConfig = dict(type='GIoULoss', loss_weight=2.0),
                 norm_cfg: Optional[Dict] = dict(type='GN', num_groups=32, requires_grad=True),
                 use_atss: bool = True,
                 reg_decoded_bbox: bool = True,
                 anchor_generator: Union[Dict, AnchorGenerator] = dict(
                     type='AnchorGenerator',
                     ratios=[1.0],
                     octave_base_scale=8,
                     scales_per_octave=1,
                     center_offset=0.0,
                     strides=[8, 16, 32, 64, 128]),
                 init_cfg: InitCfg = dict(
                     type='Normal',
                     layer='Conv2d',
                     std=0.01,
                     override=dict(type='Normal', name='vfnet_cls', std=0.01, bias_prob=0.01)),
                 feat_channels: int = 256,
                 stacked_convs: int = 4,
                 strides: Sequence[float] = (4, 8, 16, 32, 64),
                 dcn_on_last_conv: bool = False,
                 conv_bias: Union[bool, str] = 'auto',
                 bbox_coder: Union[Dict,
                                   DistancePointBBoxCoder] = dict(type='DistancePointBBoxCoder'),
                 conv_cfg: Optional[Dict] = None,
                 train_cfg: Union[Dict, DenseTrainSettings, None] = None,
                 test_cfg: Union[Dict, DenseTestSettings, None] = None):
        super().__init__(
            num_classes,
            in_channels,
            anchor_generator,
            bbox_coder,  # type: ignore[arg-type]
            reg_decoded_bbox,
            loss_cls if use_vfl else loss_cls_fl,
            loss_bbox,
            train_cfg,
            test_cfg,
            init_cfg)
        self.check_one_anchor()
        if train_cfg is not None and len(regress_ranges) != len(strides):
            raise ValueError(f'VFNetHead: {len(regress_ranges)} regress_ranges for {len(strides)} '
                             'strides; give one a level')
        self.strides, self.units = strides, _units(strides, regress_ranges, bbox_norm_type)
        self.regress_ranges = regress_ranges
        self.radius = center_sample_radius if center_sampling else None
        self.sync_num_pos, self.gradient_mul = sync_num_pos, gradient_mul
        self.use_vfl, self.use_atss = use_vfl, use_atss
        self.points = MlvlPointGenerator(self.anchor_generator.strides)
        self.loss_bbox_refine = MODELS.build(loss_bbox_refine)
        last = dict(type='DCNv2') if dcn_on_last_conv else None
        self.cls_convs, self.reg_convs = (
            tower(stacked_convs, in_channels, feat_channels, conv_cfg, norm_cfg, conv_bias, last)
            for _ in range(2))
        width = feat_channels
        self.vfnet_reg_conv = ConvModule(
            width, width, 3, padding=1, conv_cfg=conv_cfg, norm_cfg=norm_cfg, bias=conv_bias)
        self.vfnet_reg, self.vfnet_reg_refine = (
            nn.Conv2d(width, 4, 3, padding=1) for _ in range(2))
        self.vfnet_cls = nn.Conv2d(width, self.num_logits, 3, padding=1)
        self.vfnet_reg_refine_dconv, self.vfnet_cls_dconv = (
            DeformConv2d(width, width) for _ in range(2))
        self.scales, self.scales_refine = (
            nn.ModuleList(Scale(1.0) for _ in strides) for _ in range(2))

    def takes(self) -> List[Takes]:
        return [*super().takes(), Takes('strides', strides=self.strides)]

    def forward(self, features: Sequence[Tensor]) -> DenseOutputs:
        """Return predictions; boxes are the first and the refined distances in pixels, [B, A_l, 8]."""
        levels = zip(features, self.scales, self.scales_refine, self.strides, self.units)
        logits, boxes = zip(*(self._level(*level) for level in levels))
        return DenseOutputs(list(logits), list(boxes), [map_size(feature) for feature in features])

    def _level(self, x: Tensor, scale: nn.Module, scale_refine: nn.Module, stride: float,
               unit: float) -> Tuple[Tensor, Tensor]:
        of_classes, of_boxes = through(self.cls_convs, x), through(self.reg_convs, x)
        # float32: the exponential overflows float16
        first = scale(self.vfnet_reg(self.vfnet_reg_conv(of_boxes))).float().exp() * unit
        offset = star_offsets(first, stride, self.gradient_mul)
        of_boxes = self.vfnet_reg_refine_dconv(of_boxes, offset).relu()
        factors = scale_refine(self.vfnet_reg_refine(of_boxes)).float().exp()
        of_classes = self.vfnet_cls_dconv(of_classes, offset).relu()
        boxes = torch.cat([first, factors * first.detach()], 1)
        logits = flatten_to_priors(self.vfnet_cls(of_classes), self.num_logits)
        return logits, flatten_to_priors(boxes, 8)

    @property
    def prior_generator(self) -> AnchorGenerator:
        return self.anchor_generator if self.use_atss else self.points

    def distances(self, outputs: DenseOutputs) -> List[Tensor]:
        """Return the refined distances."""
        return [boxes[..., 4:] for boxes in outputs.boxes]

    def decode(self, priors: Tensor, raw: Tensor, sizes: Optional[Tensor] = None) -> Tensor:
        return self.bbox_coder.decode(centers_of(priors), raw, max_shape=sizes)

    @torch.no_grad()
    def targets(self, outputs: DenseOutputs, batch: Batch) -> DenseTargets:
        """Return what each point learns; losses are divided by the mean positives of a process.

        Under `use_vfl` points outside of the image are negatives, as in V2.
        """
        if self.use_atss:
            targets = super().targets(outputs, batch)
        else:
            gt = batch.gt
            assert isinstance(gt, GroundTruth), 'no boxes'
            grid = self.grid(outputs.sizes, gt.boxes.device)
            targets = assign_points(grid, self.points.strides, self.regress_ranges, self.radius, gt,
                                    self.num_classes)
        count = targets.positive.sum().float()
        if self.sync_num_pos:
            count = mean_over_processes(count).clamp(min=1)
        weight = torch.ones_like(targets.weight) if self.use_vfl else targets.weight
        return targets._replace(num_positive=count, weight=weight)

    def loss(self, outputs: DenseOutputs, batch: Batch) -> Dict[str, Tensor]:
        """Return `loss_cls`, `loss_bbox` and `loss_bbox_rf`.

        The quality of a positive is the IoU of its refined box; each box loss is weighted by its IoU.
        """
        targets = self.targets(outputs, batch)
        points = centers_of(self.grid(outputs.sizes, targets.boxes.device).anchors)
        goal = self.bbox_coder.decode(points, self.bbox_coder.encode(points, targets.boxes))
        losses, quality = {}, targets.weight
        for key, function, distances in zip(('loss_bbox', 'loss_bbox_rf'),
                                            (self.loss_bbox, self.loss_bbox_refine),
                                            torch.cat(outputs.boxes, 1).split(4, -1)):
            boxes = self.bbox_coder.decode(points, distances)
            quality = aligned_iou(boxes.detach(), goal).clamp(min=1e-6)
            quality = quality.masked_fill(~targets.positive, 0)  # [B, A]
            losses[key] = function(
                boxes.flatten(0, 1),
                goal.flatten(0, 1),
                quality.flatten(),
                avg_factor=mean_over_processes(quality.sum()).clamp(min=1))
        if self.use_vfl:
            return dict(loss_cls=self.quality_loss(outputs, targets, quality), **losses)
        return dict(loss_cls=self.classification_loss(outputs, targets, targets.labels), **losses)


def _units(strides: Sequence[float], ranges: Sequence[Tuple[float, float]],
           kind: str) -> Sequence[float]:
    """Return the unit of the distances of each level, in pixels; the last range ends at twice the previous end."""
    if kind not in ('reg_denom', 'stride'):
        raise ValueError(f"VFNetHead: bbox_norm_type is {kind!r}; write 'reg_denom' or 'stride'")
    ends = [end for _, end in ranges[:-1]]
    return strides if kind == 'stride' else [*ends, 2 * ends[-1]]


def star_offsets(distances: Tensor, stride: float, share: float) -> Tensor:
    """Return offsets that move a 3x3 grid to the center, corners and side middles of a box (sec. 3.3).

    distances [B, 4, H, W] to left, top, right, bottom, in pixels, which get that share of the gradient.
    Returns [B, 18, H, W]: y and x of each point, row by row, relative to the grid's, in cells.
    """
    distances = ((1 - share) * distances.detach() + share * distances) / stride
    left, top, right, bottom = distances.unbind(1)
    middle = torch.zeros_like(left)
    y = torch.stack([1 - top, middle, bottom - 1], 1)[:, :, None].expand(-1, -1, 3, -1, -1)
    x = torch.stack([1 - left, middle, right - 1], 1)[:, None].expand(-1, 3, -1, -1, -1)
    return torch.stack([y, x], 3).flatten(1, 3)
