"""Region proposal network (Faster R-CNN, sec. 3.1)."""
import contextlib
import dataclasses
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.models.anchors import AnchorGenerator, flatten_to_priors, map_size, usable_anchors
from mmdet_ft.models.assigners import MaxIoUAssigner, PseudoSampler, RandomSampler, sampler_for
from mmdet_ft.models.base_module import BaseModule, InitCfg, PartConfig
from mmdet_ft.models.coders import DeltaXYWHBBoxCoder
from mmdet_ft.models.losses.iou import require_boxes
from mmdet_ft.models.losses.reduction import full_precision
from mmdet_ft.models.settings import NMSSettings, ReadsNMS, read_settings
from mmdet_ft.models.suppression import suppress
from mmdet_ft.ops.boxes import take
from mmdet_ft.ops.patches import take_patches
from mmdet_ft.ops.topk import rank_boxes, top_k
from mmdet_ft.parts import Rows, Takes
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth


class RPNOutputs(NamedTuple):
    """Predictions of the head for every anchor, by level (A_l = H_l * W_l * anchors per cell)."""
    logits: List[Tensor]  # float32 [B, A_l, 1], or 2 under softmax (object, background)
    deltas: List[Tensor]  # float32 [B, A_l, 4]
    sizes: List[Tuple[int, int]]  # (H_l, W_l)


class Proposals(NamedTuple):
    boxes: Tensor  # float32 [B, P, 4], detached
    scores: Tensor  # float32 [B, P]
    valid: Tensor  # bool [B, P]


@dataclasses.dataclass(frozen=True)
class RPNTrainSettings:
    """`train_cfg.rpn`."""
    assigner: Any
    sampler: Any = None
    allowed_border: float = 0
    pos_weight: float = -1
    debug: bool = False  # V2 reads it nowhere either


@dataclasses.dataclass(frozen=True)
class ProposalSettings(ReadsNMS):
    """`train_cfg.rpn_proposal` and `test_cfg.rpn`. Of the deprecated V2 keys, `nms_post` and
    `nms_across_levels` have no effect.
    """
    nms_pre: int = -1
    max_per_img: int = None  # type: ignore[assignment] # read from max_num, or 1000
    nms: NMSSettings = None  # type: ignore[assignment] # or its dict; read from nms_thr
    min_bbox_size: float = 0
    max_num: Optional[int] = None
    nms_thr: Optional[float] = None
    nms_post: Optional[int] = None
    nms_across_levels: bool = False

    def __post_init__(self):
        if self.max_per_img is None:
            object.__setattr__(self, 'max_per_img',
                               self.max_num if self.max_num is not None else 1000)
        if self.nms is None:
            object.__setattr__(self, 'nms',
                               dict(iou_threshold=.7 if self.nms_thr is None else self.nms_thr))
        super().__post_init__()


@MODELS.register_module()
class RPNHead(BaseModule):
    """Classify every anchor as object or background, and regress its box.

        feature map -> 3x3 convolution(s) -> 1x1: object or not, for each anchor of the cell
                                          -> 1x1: four deltas, for each anchor of the cell

    V2's arguments and state_dict (`rpn_conv`, `rpn_cls`, `rpn_reg`).

    Proposals are detached and the loss uses few sampled anchors. So in training the maps are
    computed without gradients, and recomputed with gradients only at sampled anchors: the same
    gradients for a third of the head's work.
    """
    prediction_rows = dict(rpn_cls=Rows('anchor'), rpn_reg=Rows('anchor', 4))
    learns_from = ('gt_bboxes', )
    counts_classes = False  # one class, object or background

    def __init__(self,
                 in_channels: int,
                 feat_channels: int = 256,
                 num_convs: int = 1,
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
                 reg_decoded_bbox: bool = False,
                 loss_cls: PartConfig = dict(
                     type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
                 loss_bbox: PartConfig = dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0),
                 train_cfg: Union[Dict, RPNTrainSettings, None] = None,
                 test_cfg: Union[Dict, ProposalSettings, None] = None,
                 init_cfg: InitCfg = dict(type='Normal', layer='Conv2d', std=0.01)):
        super().__init__(init_cfg)
        self.anchor_generator: AnchorGenerator = MODELS.build(anchor_generator)
        self.bbox_coder: DeltaXYWHBBoxCoder = MODELS.build(bbox_coder)
        self.reg_decoded_bbox = reg_decoded_bbox
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.use_sigmoid = getattr(self.loss_cls, 'use_sigmoid', False)
        require_boxes(self.loss_bbox, reg_decoded_bbox, type(self).__name__)
        self.train_settings: Optional[RPNTrainSettings] = None
        if train_cfg is not None:
            self.train_settings = read_settings(RPNTrainSettings, train_cfg, 'train_cfg.rpn')
            self.assigner: MaxIoUAssigner = MODELS.build(self.train_settings.assigner)
            self.sampler = sampler_for(self.train_settings.sampler, self.loss_cls,
                                       'RPNHead: train_cfg.rpn')
        self.test_settings: Optional[ProposalSettings] = None
        if test_cfg is not None:
            self.test_settings = read_settings(ProposalSettings, test_cfg, 'test_cfg.rpn')

        self.in_channels = in_channels
        num_anchors = self.anchor_generator.num_base_priors[0]
        self.rpn_conv: nn.Module
        if num_convs > 1:
            self.rpn_conv = nn.Sequential(*(ConvModule(
                in_channels if i == 0 else feat_channels,
                feat_channels,
                3,
                padding=1,
                inplace=False) for i in range(num_convs)))
        else:
            self.rpn_conv = nn.Conv2d(in_channels, feat_channels, 3, padding=1)
        self.rpn_cls = nn.Conv2d(feat_channels, num_anchors * self.num_logits, 1)
        self.rpn_reg = nn.Conv2d(feat_channels, num_anchors * 4, 1)

    def takes(self) -> List[Takes]:
        return [
            Takes('in_channels', self.in_channels),
            Takes('anchor_generator.strides', strides=self.anchor_generator.strides)
        ]

    def forward(self, features: Sequence[Tensor]) -> RPNOutputs:
        """Return the maps of all levels, without gradients if `at` recomputes sampled anchors."""
        if not (self.recomputes_sampled and torch.is_grad_enabled()):
            return self._maps(features)
        with torch.no_grad(), _without_autocast_cache():
            return self._maps(features)

    def _maps(self, features: Sequence[Tensor]) -> RPNOutputs:
        logits: List[Tensor] = []
        deltas: List[Tensor] = []
        for feature in features:
            hidden = F.relu(self.rpn_conv(feature))
            for branch, out, width in ((self.rpn_cls, logits, self.num_logits), (self.rpn_reg,
                                                                                 deltas, 4)):
                out.append(full_precision(flatten_to_priors(branch(hidden),
                                                            width)))  # [B, A_l, width]
        return RPNOutputs(logits, deltas, [map_size(feature) for feature in features])

    @property
    def num_logits(self) -> int:
        return 1 if self.use_sigmoid else 2

    @property
    def recomputes_sampled(self) -> bool:
        """Return whether the loss uses few anchors, each with one 3x3 patch of the features."""
        return (self.train_settings is not None and isinstance(self.sampler, RandomSampler)
                and isinstance(self.rpn_conv, nn.Conv2d))

    def predict_at(self, features: Sequence[Tensor], sizes: Sequence[Tuple[int, int]],
                   index: Tensor) -> Tuple[Tensor, Tensor]:
        """Return logits [B, S, 1 or 2] and deltas [B, S, 4] of some anchors, index [B, S].

        They equal those of `forward`; nothing else is computed.
        """
        assert isinstance(self.rpn_conv, nn.Conv2d), 'patches have one convolution'
        num_anchors = self.anchor_generator.num_base_priors[0]
        grid = self.anchor_generator.grid(sizes, device=index.device)
        cell = torch.div(index, num_anchors, rounding_mode='floor')
        patches = take_patches(features, grid.neighbours[cell])
        hidden = F.relu(F.linear(patches, self.rpn_conv.weight.flatten(1), self.rpn_conv.bias))
        position = (index - cell * num_anchors)[..., None, None]  # index of the anchor in its cell

        def select_anchor(branch: nn.Conv2d, width: int) -> Tensor:
            text = full_precision(F.linear(hidden, branch.weight.flatten(1), branch.bias))
            text = text.unflatten(2, (num_anchors, width))  # [B, S, anchors, width]
            return text.gather(2, position.expand(-1, -1, 1, width)).squeeze(2)

        return select_anchor(self.rpn_cls, self.num_logits), select_anchor(self.rpn_reg, 4)

    def loss(self, features: Sequence[Tensor], outputs: RPNOutputs,
             batch: Batch) -> Dict[str, Tensor]:
        """Return `loss_rpn_cls` and `loss_rpn_bbox`, on the sampled anchors of each image.

        Both are divided by the sum over images of max(positives, 1) + max(negatives, 1), as in V2:
        an image without objects still counts one. Without sampling, by that of max(positives, 1).
        """
        settings, gt = self.train_settings, batch.gt
        assert settings is not None and isinstance(gt, GroundTruth), 'no train_cfg, or no boxes'
        anchors = self.anchors(outputs.sizes, gt.boxes.device)
        inside = usable_anchors(self.anchor_generator, outputs.sizes, batch,
                                settings.allowed_border)

        match = self.assigner(anchors, gt, inside)  # [B, A]
        drawn = self.sampler.draw(match)
        num_pos = drawn.positive.sum(1)
        counted = num_pos.clamp(min=1)
        if not isinstance(self.sampler, PseudoSampler):
            counted = counted + (drawn.valid.sum(1) - num_pos).clamp(min=1)
        normaliser = counted.sum()

        if self.recomputes_sampled and torch.is_grad_enabled():
            logits, deltas = self.predict_at(features, outputs.sizes,
                                             drawn.index)  # [B, S, 1], [B, S, 4]
        else:
            logits, deltas = (
                take(torch.cat(part, 1), drawn.index) for part in (outputs.logits, outputs.deltas))

        num_pos_slots, num_slots = drawn.positive.shape[1], drawn.index.shape[1]
        positive = F.pad(drawn.positive, [0, num_slots - num_pos_slots])  # [B, S]
        weight = drawn.valid.float()
        if settings.pos_weight > 0:
            weight = weight.masked_fill(positive, settings.pos_weight)
        loss_cls = self.loss_cls(
            logits.flatten(0, 1),  # [B*S, 1]
            (~positive).long().flatten(),  # one class: 0 is an object, 1 the background
            weight.flatten(),
            avg_factor=normaliser)

        # Only the leading P slots can be positive; the other slots use their own anchor as target.
        index, positive = drawn.index[:, :num_pos_slots], drawn.positive
        start = anchors[index]  # [B, P, 4]
        goal = torch.where(positive[..., None], take(gt.boxes, take(match.gt_index, index)), start)
        pred = deltas[:, :num_pos_slots]
        if self.reg_decoded_bbox:
            pred = self.bbox_coder.decode(start, pred)
        else:
            goal = self.bbox_coder.encode(start, goal)
        loss_bbox = self.loss_bbox(
            pred.flatten(0, 1),
            goal.flatten(0, 1),
            positive.flatten()[:, None].expand(-1, 4).float(),
            avg_factor=normaliser)
        return dict(loss_rpn_cls=loss_cls, loss_rpn_bbox=loss_bbox)

    def anchors(self, sizes: Sequence[Tuple[int, int]], device: torch.device) -> Tensor:
        """Return the anchors of all levels, concatenated: [A, 4]."""
        return self.anchor_generator.grid(sizes, device=device).anchors

    @torch.no_grad()
    def proposals(self,
                  outputs: RPNOutputs,
                  batch: Batch,
                  settings: Optional[ProposalSettings] = None) -> Proposals:
        """Return the best boxes of each image: the best `nms_pre` of each level, decoded, clipped,
        and suppressed level by level.
        """
        settings = settings or self.test_settings
        assert settings is not None, 'no test_cfg'
        grid = self.anchor_generator.grid(outputs.sizes, device=outputs.deltas[0].device)
        logits, deltas = torch.cat(outputs.logits, 1), torch.cat(outputs.deltas, 1)
        likely = logits.sigmoid() if self.use_sigmoid else logits.softmax(-1)
        levels, start = [], 0
        for scores in likely[..., 0].split(grid.counts, 1):  # [B, A_l]
            end = start + scores.shape[1]
            if 0 < settings.nms_pre < scores.shape[1]:
                scores, index = top_k(scores, settings.nms_pre)
                levels.append((scores, index + start))
            else:
                index = torch.arange(start, end, device=scores.device)
                levels.append((scores, index.expand(len(scores), -1)))
            start = end
        counts = [scores.shape[1] for scores, _ in levels]
        scores, index = (torch.cat(parts, 1) for parts in zip(*levels))  # [B, sum of counts]
        boxes = self.bbox_coder.decode(
            grid.anchors[index], take(deltas, index), max_shape=batch.sizes)
        valid = torch.ones_like(scores)
        if settings.min_bbox_size >= 0:
            valid = ((boxes[..., 2:] - boxes[..., :2]) > settings.min_bbox_size).all(-1).to(scores)

        # One suppression problem per level and image, padded to the longest.
        packed = torch.cat([boxes, scores[..., None], valid[..., None]], -1)
        longest = max(counts)
        packed = torch.stack([_pad(part, longest) for part in packed.split(counts, 1)], 1)
        boxes, scores = packed[..., :4], packed[..., 4]  # [B, L, longest, 4], [B, L, longest]
        valid = packed[..., 5] > 0
        limit = settings.nms.limit(settings.max_per_img, scores[0].numel())
        order = rank_boxes(scores.flatten(1), valid.flatten(1)).view_as(scores)
        scores, order = suppress(boxes, scores, order, valid, settings.nms, limit)
        index = order.flatten(1).topk(limit, 1).indices
        scores = take(scores.flatten(1), index)
        return Proposals(take(boxes.flatten(1, 2), index), scores, scores >= 0)


@contextlib.contextmanager
def _without_autocast_cache() -> Iterator[None]:
    """Disable autocast's cache, which would reuse the weights cast here without their gradient."""
    before = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(before)


def _pad(x: Tensor, length: int) -> Tensor:
    """Pad x [B, N, ...] with zeros up to `length` rows."""
    missing = length - x.shape[1]
    return F.pad(x, [0, 0, 0, missing]) if missing else x
