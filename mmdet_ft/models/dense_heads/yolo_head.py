"""Head of YOLOv3: An Incremental Improvement."""
import dataclasses
from typing import Dict, List, Optional, Sequence, Union

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.models.anchors import (AnchorGenerator, Grid, YOLOAnchorGenerator, flatten_to_priors,
                                     map_size)
from mmdet_ft.models.assigners import GridAssigner, PseudoSampler, sampler_for
from mmdet_ft.models.base_module import (InitCfg, Loader, PartConfig, bias_init_with_prob,
                                         constant_init, normal_init)
from mmdet_ft.models.coders import YOLOBBoxCoder
from mmdet_ft.models.dense_heads.dense_head import (Candidates, DenseHead, DenseOutputs,
                                                    DenseTargets, DenseTestSettings,
                                                    DenseTrainSettings)
from mmdet_ft.models.settings import read_settings
from mmdet_ft.ops.boxes import take
from mmdet_ft.parts import Rows, Takes
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth

BOX_AND_OBJECTNESS = 5  # numbers of an anchor before those of its classes
# V2 suppresses all pairs of anchor and class above the thresholds, up to a million.
MAX_CANDIDATES = 8192
CROSS_ENTROPY = dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0)
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


@dataclasses.dataclass(frozen=True)
class YOLOTestSettings(DenseTestSettings):
    """`test_cfg` of YOLOV3Head. `nms_pre` has no effect, as in V2.

    conf_thr: smallest objectness 0..1.
    """
    conf_thr: float = -1


@MODELS.register_module()
class YOLOV3Head(DenseHead):
    """Every anchor predicts a box in its cell, whether there is an object, and the object's classes.

        feature map -> convs_bridge -> convs_pred: x, y, w, h, objectness, K logits of each anchor

    The objectness scales the scores. V2's arguments and state_dict.

    Args:
        num_classes, train_cfg, test_cfg: see DenseHead.
        in_channels, out_channels: before and after the convolution of each level, coarsest first.
        anchor_generator, bbox_coder: parts or their configs.
        featmap_strides: pixels per cell of each level, coarsest first.
        one_hot_smoother: share of the class target that is spread over all classes.
        conv_cfg, norm_cfg, act_cfg: layers in mmcv's form.
        loss_cls, loss_conf, loss_xy, loss_wh: losses or their configs.

    Raises ValueError for other numbers of levels.
    """
    prediction_rows = dict(convs_pred=Rows('anchor and class', first=BOX_AND_OBJECTNESS))

    def __init__(self,
                 num_classes: int,
                 in_channels: Sequence[int],
                 out_channels: Sequence[int] = (1024, 512, 256),
                 anchor_generator: Union[Dict, YOLOAnchorGenerator] = dict(
                     type='YOLOAnchorGenerator',
                     base_sizes=[[(116, 90), (156, 198), (373, 326)], [(30, 61), (62, 45),
                                                                       (59, 119)],
                                 [(10, 13), (16, 30), (33, 23)]],
                     strides=[32, 16, 8]),
                 bbox_coder: Union[Dict, YOLOBBoxCoder] = dict(type='YOLOBBoxCoder'),
                 featmap_strides: Sequence[int] = (32, 16, 8),
                 one_hot_smoother: float = 0.,
                 conv_cfg: Optional[Dict] = None,
                 norm_cfg: Dict = dict(type='BN', requires_grad=True),
                 act_cfg: Dict = dict(type='LeakyReLU', negative_slope=0.1),
                 loss_cls: PartConfig = CROSS_ENTROPY,
                 loss_conf: PartConfig = CROSS_ENTROPY,
                 loss_xy: PartConfig = CROSS_ENTROPY,
                 loss_wh: PartConfig = dict(type='MSELoss', loss_weight=1.0),
                 train_cfg: Union[Dict, DenseTrainSettings, None] = None,
                 test_cfg: Union[Dict, YOLOTestSettings, None] = None,
                 init_cfg: InitCfg = dict(
                     type='Normal', std=0.01, override=dict(name='convs_pred'))):
        if test_cfg is not None:
            test_cfg = read_settings(YOLOTestSettings, test_cfg, 'test_cfg')
        super().__init__(num_classes, in_channels, loss_cls, None, train_cfg, test_cfg, init_cfg)
        self.loss_conf, self.loss_xy, self.loss_wh = (
            MODELS.build(loss) for loss in (loss_conf, loss_xy, loss_wh))
        self.anchor_generator: YOLOAnchorGenerator = MODELS.build(anchor_generator)
        self.bbox_coder: YOLOBBoxCoder = MODELS.build(bbox_coder)
        self.featmap_strides, self.one_hot_smoother = list(featmap_strides), one_hot_smoother
        self._check_levels(in_channels, out_channels)
        self.num_anchors = self.anchor_generator.num_base_priors[0]  # of a cell
        numbers = self.num_anchors * (BOX_AND_OBJECTNESS + num_classes)
        layers = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.convs_bridge = nn.ModuleList(
            ConvModule(before, after, 3, padding=1, **layers)
            for before, after in zip(in_channels, out_channels))
        self.convs_pred = nn.ModuleList(nn.Conv2d(width, numbers, 1) for width in out_channels)
        if self.train_settings is not None and self.train_settings.assigner is not None:
            self.assigner: GridAssigner = MODELS.build(self.train_settings.assigner)
            self._check_sampler(self.train_settings)

    def _check_levels(self, in_channels: Sequence[int], out_channels: Sequence[int]) -> None:
        count = len(self.featmap_strides)
        given = dict(
            in_channels=len(in_channels),
            out_channels=len(out_channels),
            anchor_generator=self.anchor_generator.num_levels)
        for name, number in given.items():
            if number != count:
                raise ValueError(f'YOLOV3Head: {name} is for {number} levels, featmap_strides for '
                                 f'{count}; give one a level')

    def _check_sampler(self, settings: DenseTrainSettings) -> None:
        sampler = sampler_for(settings.sampler, self.loss_cls, 'YOLOV3Head: train_cfg')
        if not isinstance(sampler, PseudoSampler):
            raise ValueError('YOLOV3Head: every anchor counts; remove sampler from train_cfg')

    def takes(self) -> List[Takes]:
        assert not isinstance(self.in_channels, int), self.in_channels
        return [
            Takes('in_channels', self.in_channels),
            Takes('featmap_strides', strides=self.featmap_strides),
            Takes('anchor_generator.strides', strides=self.anchor_generator.strides)
        ]

    def init_weights(self, load: Optional[Loader] = None) -> None:
        """Initialize convolutions with std 0.01, classes at 0.01, objectness at 8 anchors of a 608 x 608 image."""
        super().init_weights(load)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                normal_init(layer, std=0.01)
            elif isinstance(layer, NORMS):
                constant_init(layer, 1)
        for conv, stride in zip(self.convs_pred, self.featmap_strides):
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None
            bias = conv.bias.data.view(self.num_anchors, -1)
            bias[:, 4] = bias_init_with_prob(8 / (608 / stride)**2)
            bias[:, BOX_AND_OBJECTNESS:] = bias_init_with_prob(0.01)

    def forward(self, features: Sequence[Tensor]) -> DenseOutputs:
        """Return predictions; boxes are x and y before the sigmoid, and logarithms of w and h in anchors."""
        levels = zip(features, self.convs_bridge, self.convs_pred)
        maps = [
            flatten_to_priors(pred(bridge(x)), BOX_AND_OBJECTNESS + self.num_classes)
            for x, bridge, pred in levels
        ]
        return DenseOutputs([x[..., BOX_AND_OBJECTNESS:] for x in maps], [x[..., :4] for x in maps],
                            [map_size(feature) for feature in features], [x[..., 4] for x in maps])

    @property
    def prior_generator(self) -> AnchorGenerator:
        return self.anchor_generator

    def _strides(self, grid: Grid) -> Tensor:
        """Return the stride of each anchor: [A, 1]."""
        return torch.cat([
            grid.anchors.new_full((count, 1), float(stride))
            for stride, count in zip(self.featmap_strides, grid.counts)
        ])

    # Training

    @torch.no_grad()
    def targets(self, outputs: DenseOutputs, batch: Batch) -> DenseTargets:
        """Return what each anchor learns; those of weight 0 overlap an object that another one learns."""
        gt = batch.gt
        assert isinstance(gt, GroundTruth), 'no boxes'
        grid = self.grid(outputs.sizes, gt.boxes.device)
        responsible = self.anchor_generator.responsible_flags(outputs.sizes, gt)
        match = self.assigner(grid.anchors, responsible, gt)
        positive = match.label == 1
        labels = take(gt.labels, match.gt_index).masked_fill(~positive, self.num_classes)
        boxes = torch.where(positive[..., None], take(gt.boxes, match.gt_index), grid.anchors)
        return DenseTargets(labels, (match.label >= 0).float(), positive, boxes,
                            positive.sum().float())

    def loss(self, outputs: DenseOutputs, batch: Batch) -> Dict[str, Tensor]:
        """Return V2's losses, summed over the levels; nothing waits for the device."""
        targets = self.targets(outputs, batch)
        grid = self.grid(outputs.sizes, targets.boxes.device)
        goal = self.bbox_coder.encode(grid.anchors, targets.boxes, self._strides(grid))
        assert outputs.quality is not None
        split = [
            x.split(grid.counts, 1)
            for x in (goal, targets.labels, targets.weight, targets.positive.float())
        ]
        levels = zip(outputs.logits, outputs.boxes, outputs.quality, *split)
        losses = [self._loss_of_level(*level) for level in levels]
        return {key: torch.stack([level[key] for level in losses]).sum() for key in losses[0]}

    def _loss_of_level(self, logits: Tensor, boxes: Tensor, objectness: Tensor, goal: Tensor,
                       labels: Tensor, weight: Tensor, positive: Tensor) -> Dict[str, Tensor]:
        """Return the four losses of [B, A_l, ...]; a negative anchor has an objectness only."""
        own = positive[..., None]
        return dict(
            loss_cls=self.loss_cls(logits, self._class_targets(labels), weight=own),
            loss_conf=self.loss_conf(objectness, positive, weight=weight),
            loss_xy=self.loss_xy(boxes[..., :2], goal[..., :2], weight=own),
            loss_wh=self.loss_wh(boxes[..., 2:], goal[..., 2:], weight=own))

    def _class_targets(self, labels: Tensor) -> Tensor:
        """Return the probability of each class: labels [B, A] -> float32 [B, A, K]."""
        classes = torch.arange(self.num_classes, device=labels.device)
        target = (labels[..., None] == classes).float()
        smoother = self.one_hot_smoother
        return target * (1 - smoother) + smoother / self.num_classes if smoother else target

    # Testing

    def candidates_in(self, outputs: DenseOutputs, sizes: Tensor) -> Candidates:
        """Return the best pairs of anchor and class above the thresholds, in input pixels."""
        settings = self.test_settings
        assert isinstance(settings, YOLOTestSettings) and outputs.quality is not None
        anchors = self.priors(outputs.sizes, outputs.boxes[0].device)
        strides = torch.cat([
            torch.full_like(part[:, :1], float(stride))
            for part, stride in zip(anchors, self.featmap_strides)
        ])
        raw = torch.cat(outputs.boxes, 1).float()
        raw = torch.cat([raw[..., :2].sigmoid(), raw[..., 2:]], -1)
        boxes = self.bbox_coder.decode(torch.cat(anchors), raw, strides)
        scores = torch.cat(outputs.logits, 1).float().sigmoid()
        objectness = torch.cat(outputs.quality, 1).float().sigmoid()[..., None]
        valid = scores > settings.score_thr
        if settings.conf_thr > 0:
            valid = valid & (objectness >= settings.conf_thr)
        return self._best_pairs(boxes, scores * objectness, valid)

    def _best_pairs(self, boxes: Tensor, scores: Tensor, valid: Tensor) -> Candidates:
        """Return the MAX_CANDIDATES best pairs of box and class, in the order of the boxes.

        boxes [B, A, 4]; scores, valid [B, A, K].
        """
        num_classes = scores.shape[2]
        scores, valid = scores.flatten(1), valid.flatten(1)
        index, _ = self.best(scores.masked_fill(~valid, -1.), None, MAX_CANDIDATES)
        index = index.sort(1).values
        prior = torch.div(index, num_classes, rounding_mode='floor')
        return Candidates(
            take(boxes, prior), take(scores, index), index - prior * num_classes,
            take(valid, index))
