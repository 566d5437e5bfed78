"""Head of YOLOX: Exceeding YOLO Series in 2021."""
import dataclasses
from typing import Dict, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from mmdet_ft.models.anchors import AnchorGenerator, MlvlPointGenerator, flatten_to_priors, map_size
from mmdet_ft.models.assigners import SimOTAAssigner
from mmdet_ft.models.base_module import InitCfg, Loader, PartConfig, bias_init_with_prob
from mmdet_ft.models.csp_layer import ACTIVATION, NORM, UNIFORM, convolution
from mmdet_ft.models.dense_heads.dense_head import (Candidates, DenseHead, DenseOutputs,
                                                    DenseTestSettings, DenseTrainSettings)
from mmdet_ft.models.losses.reduction import mean_over_processes
from mmdet_ft.models.settings import read_settings
from mmdet_ft.ops.boxes import take
from mmdet_ft.ops.cost_matching import CostMatch
from mmdet_ft.parts import Rows, Takes
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth

ENTROPY = dict(type='CrossEntropyLoss', use_sigmoid=True, reduction='sum', loss_weight=1.0)


@dataclasses.dataclass(frozen=True)
class YOLOXTestSettings(DenseTestSettings):
    """`test_cfg` of YOLOXHead. There is no limit of detections unless it is given, as in V2."""
    max_per_img: int = -1


@MODELS.register_module()
class YOLOXHead(DenseHead):
    """Every cell predicts classes, a box around its corner, and whether there is an object.

        feature map -> multi_level_cls_convs -> multi_level_conv_cls: K logits
                    -> multi_level_reg_convs -> multi_level_conv_reg: x, y, log w, log h in strides
                                             -> multi_level_conv_obj: factor of the scores

    Each level has its own layers. V2's arguments and state_dict.

    Args:
        num_classes, in_channels, train_cfg, test_cfg: see DenseHead.
        feat_channels, stacked_convs: of both towers.
        strides: pixels per cell of each level.
        use_depthwise: 3x3 convolutions are depthwise separable.
        dcn_on_last_conv: the last convolution of each tower is deformable (DCNv2).
        conv_bias: 'auto' is a bias only without a norm layer.
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.
        loss_cls, loss_bbox, loss_obj, loss_l1: losses or their configs, with reduction='sum'.

    `use_l1` adds the L1 loss; YOLOXModeSwitchHook sets it. Raises ValueError for another reduction.
    """
    prediction_rows = dict(multi_level_conv_cls=Rows())

    def __init__(self,
                 num_classes: int,
                 in_channels: int,
                 feat_channels: int = 256,
                 stacked_convs: int = 2,
                 strides: Sequence[int] = (8, 16, 32),
                 use_depthwise: bool = False,
                 dcn_on_last_conv: bool = False,
                 conv_bias: Union[bool, str] = 'auto',
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Optional[Dict] = NORM,
                 act_cfg: Dict = ACTIVATION,
                 loss_cls: PartConfig = ENTROPY,
                 loss_bbox: PartConfig = dict(
                     type='IoULoss', mode='square', eps=1e-16, reduction='sum', loss_weight=5.0),
                 loss_obj: PartConfig = ENTROPY,
                 loss_l1: PartConfig = dict(type='L1Loss', reduction='sum', loss_weight=1.0),
                 train_cfg: Union[Dict, DenseTrainSettings, None] = None,
                 test_cfg: Union[Dict, YOLOXTestSettings, None] = None,
                 init_cfg: InitCfg = UNIFORM):
        if test_cfg is not None:
            test_cfg = read_settings(YOLOXTestSettings, test_cfg, 'test_cfg')
        super().__init__(num_classes, in_channels, loss_cls, loss_bbox, train_cfg, test_cfg,
                         init_cfg)
        self.loss_obj, self.loss_l1 = MODELS.build(loss_obj), MODELS.build(loss_l1)
        self._check_reductions()
        self.use_l1 = False
        self.strides = list(strides)
        self.points = MlvlPointGenerator(strides, offset=0)

        def towers() -> nn.ModuleList:
            return nn.ModuleList(
                nn.Sequential(*(convolution(use_depthwise)(
                    feat_channels if i else in_channels,
                    feat_channels,
                    3,
                    padding=1,
                    conv_cfg=dict(
                        type='DCNv2') if dcn_on_last_conv and i == stacked_convs - 1 else conv_cfg,
                    norm_cfg=norm_cfg,
                    act_cfg=act_cfg,
                    bias=conv_bias) for i in range(stacked_convs))) for _ in self.strides)

        def last(channels: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(feat_channels, channels, 1) for _ in self.strides)

        self.multi_level_cls_convs, self.multi_level_reg_convs = towers(), towers()
        self.multi_level_conv_cls, self.multi_level_conv_reg, self.multi_level_conv_obj = map(
            last, (self.num_logits, 4, 1))
        if self.train_settings is not None and self.train_settings.assigner is not None:
            self.assigner: SimOTAAssigner = MODELS.build(self.train_settings.assigner)

    def _check_reductions(self) -> None:
        for name in ('loss_cls', 'loss_bbox', 'loss_obj', 'loss_l1'):
            reduction = getattr(getattr(self, name), 'reduction', 'sum')
            if reduction != 'sum':
                raise ValueError(
                    f'YOLOXHead: {name}.reduction is {reduction!r}; the sum is divided '
                    "by the positives: write reduction='sum'")

    def takes(self) -> List[Takes]:
        return [Takes('in_channels', self.in_channels), Takes('strides', strides=self.strides)]

    def init_weights(self, load: Optional[Loader] = None) -> None:
        """Initialize by `init_cfg`, with scores and objectness at 0.01."""
        super().init_weights(load)
        for conv in (*self.multi_level_conv_cls, *self.multi_level_conv_obj):
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            nn.init.constant_(conv.bias, bias_init_with_prob(0.01))

    def forward(self, features: Sequence[Tensor]) -> DenseOutputs:
        """Return predictions; boxes are x, y, log w, log h in strides."""
        levels = zip(features, self.multi_level_cls_convs, self.multi_level_reg_convs,
                     self.multi_level_conv_cls, self.multi_level_conv_reg,
                     self.multi_level_conv_obj)
        logits, boxes, objectness = [], [], []
        for x, cls_convs, reg_convs, conv_cls, conv_reg, conv_obj in levels:
            of_boxes = reg_convs(x)
            logits.append(flatten_to_priors(conv_cls(cls_convs(x)), self.num_logits))
            boxes.append(flatten_to_priors(conv_reg(of_boxes), 4))
            objectness.append(flatten_to_priors(conv_obj(of_boxes), 1).squeeze(-1))
        return DenseOutputs(logits, boxes, [map_size(x) for x in features], objectness)

    @property
    def prior_generator(self) -> AnchorGenerator:
        return self.points

    def _joined(self, outputs: DenseOutputs) -> Tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return logits [B, A, K], boxes [B, A, 4], objectness [B, A], corners [A, 2] and strides [A, 1]."""
        assert outputs.quality is not None
        corners = self.priors(outputs.sizes, outputs.boxes[0].device)
        strides = torch.cat([
            torch.full_like(part[:, :1], float(stride))
            for part, stride in zip(corners, self.strides)
        ])
        corner = torch.cat(corners)[:, :2]
        logits, boxes, objectness = (
            torch.cat(part, 1).float() for part in (outputs.logits, outputs.boxes, outputs.quality))
        return logits, boxes, objectness, corner, strides

    # Training

    def loss(self, outputs: DenseOutputs, batch: Batch) -> Dict[str, Tensor]:
        """Return V2's losses, divided by the mean positives of a process; nothing waits for the device."""
        gt = batch.gt
        assert isinstance(gt, GroundTruth), 'no boxes'
        logits, raw, objectness, corner, strides = self._joined(outputs)
        boxes = decode(corner, strides, raw)
        match = self.match(logits, objectness, boxes, corner, strides, gt)
        own = match.positive.float()
        goal = torch.where(match.positive[..., None], take(gt.boxes, match.gt_index),
                           torch.zeros_like(boxes))
        classes = torch.arange(self.num_classes, device=logits.device)
        target = take(gt.labels, match.gt_index)[..., None] == classes
        count = mean_over_processes(own.sum()).clamp(min=1)
        losses = dict(
            loss_cls=self.loss_cls(
                logits, target * match.overlap[..., None], weight=own[..., None]),
            loss_bbox=self.loss_bbox(boxes, goal, weight=own),
            loss_obj=self.loss_obj(objectness, own))
        if self.use_l1:
            losses['loss_l1'] = self.loss_l1(raw, encode(corner, strides, goal), weight=own)
        return {key: value / count for key, value in losses.items()}

    @torch.no_grad()
    def match(self, logits: Tensor, objectness: Tensor, boxes: Tensor, corner: Tensor,
              strides: Tensor, gt: GroundTruth) -> CostMatch:
        """Match the middles of the cells to ground truths by their predictions."""
        scores = logits.sigmoid() * objectness.sigmoid()[..., None]
        return self.assigner(corner + strides / 2, strides, scores, boxes, gt)

    # Testing

    def candidates_in(self, outputs: DenseOutputs, sizes: Tensor) -> Candidates:
        """Return the box and the best class of each cell, in input pixels."""
        settings = self.test_settings
        assert settings is not None, 'no test_cfg'
        logits, raw, objectness, corner, strides = self._joined(outputs)
        scores, labels = logits.sigmoid().max(-1)
        scores = scores * objectness.sigmoid()
        return Candidates(
            decode(corner, strides, raw), scores, labels, scores >= settings.score_thr)


def decode(corner: Tensor, strides: Tensor, raw: Tensor) -> Tensor:
    """Return boxes [B, A, 4] of predictions [B, A, 4] around corners [A, 2]; strides [A, 1]."""
    center = raw[..., :2] * strides + corner
    half = raw[..., 2:].exp() * strides / 2
    return torch.cat([center - half, center + half], -1)


def encode(corner: Tensor, strides: Tensor, boxes: Tensor, eps: float = 1e-8) -> Tensor:
    """Return the predictions [B, A, 4] that `decode` to boxes [B, A, 4]; sizes of 0 are `eps` strides."""
    center = (boxes[..., :2] + boxes[..., 2:]) / 2
    size = boxes[..., 2:] - boxes[..., :2]
    return torch.cat([(center - corner) / strides, torch.log(size / strides + eps)], -1)
