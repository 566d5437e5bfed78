"""Base classes of heads that predict at every location: one-stage detectors."""
import dataclasses
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Type, Union

import torch
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from mmdet_ft.models.anchors import AnchorGenerator, Grid, usable_anchors
from mmdet_ft.models.assigners import PseudoSampler, sampler_for
from mmdet_ft.models.base_module import BaseModule, InitCfg, PartConfig
from mmdet_ft.models.coders import AnchorCoder
from mmdet_ft.models.losses.iou import require_boxes
from mmdet_ft.models.settings import NMSSettings, ReadsNMS, read_settings
from mmdet_ft.models.suppression import suppress
from mmdet_ft.ops.boxes import take
from mmdet_ft.ops.matching import Match
from mmdet_ft.ops.topk import rank_boxes
from mmdet_ft.parts import Takes
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, Detections, GroundTruth

Channels = Union[int, Sequence[int]]
NO_LIMIT = 1 << 30


class DenseOutputs(NamedTuple):
    """Predictions for every prior (an anchor or a point), by level: A_l = H_l * W_l * priors per cell."""
    logits: List[Tensor]  # [B, A_l, K], or K + 1 under softmax
    boxes: List[Tensor]  # [B, A_l, 4], or more: what the head's `decode` takes
    sizes: List[Tuple[int, int]]  # (H_l, W_l)
    quality: Optional[
        List[Tensor]] = None  # centerness or IoU logits, which scale the scores, [B, A_l]


class DenseTargets(NamedTuple):
    """Classification and box targets of all priors."""
    labels: Tensor  # int64 [B, A], K is the background
    weight: Tensor  # float32 [B, A], of the classification
    positive: Tensor  # bool [B, A]
    boxes: Tensor  # float32 [B, A, 4], the object of a positive
    num_positive: Tensor  # float32 scalar, at least 1: divides the losses


class Candidates(NamedTuple):
    """Boxes before suppression."""
    boxes: Tensor  # float32 [B, N, 4]
    scores: Tensor  # float32 [B, N]
    labels: Tensor  # int64 [B, N]
    valid: Tensor  # bool [B, N]


@dataclasses.dataclass(frozen=True)
class DenseTrainSettings:
    """`train_cfg` of a one-stage detector."""
    assigner: Any = None
    sampler: Any = None
    allowed_border: float = -1
    pos_weight: float = -1
    debug: bool = False  # V2 reads it nowhere either


@dataclasses.dataclass(frozen=True)
class DenseTestSettings(ReadsNMS):
    """`test_cfg` of a one-stage detector. `min_bbox_size` has no effect, as in V2."""
    nms: NMSSettings  # or its dict
    score_thr: float = .05
    nms_pre: int = -1
    max_per_img: int = 100
    min_bbox_size: float = 0


class DenseHead(BaseModule):
    """Classify every prior of every level, and regress its box.

        feature maps -> forward -> logits, boxes, quality of A priors
        training:   targets of the priors -> classification loss by level, box losses
        evaluation: the best nms_pre of each level -> decode -> suppression by class

    A new head writes `forward`, `prior_generator`, `targets`, `box_losses` and `decode`.

    Args:
        num_classes: without the background.
        in_channels: of every feature map, or of each.
        loss_cls, loss_bbox: losses or their configs.
        train_cfg, test_cfg: the detector's.
    """
    learns_from: Tuple[str, ...] = ('gt_bboxes', 'gt_labels')
    train_record: Type[DenseTrainSettings] = DenseTrainSettings  # of train_cfg

    def __init__(self, num_classes: int, in_channels: Channels, loss_cls: PartConfig,
                 loss_bbox: Optional[PartConfig], train_cfg: Union[Dict, DenseTrainSettings, None],
                 test_cfg: Union[Dict, DenseTestSettings, None], init_cfg: InitCfg):
        super().__init__(init_cfg)
        self.num_classes, self.in_channels = num_classes, in_channels
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = MODELS.build(loss_bbox)
        self.use_sigmoid: bool = getattr(self.loss_cls, 'use_sigmoid', False)
        self.train_settings: Optional[DenseTrainSettings] = None
        if train_cfg is not None:
            self.train_settings = read_settings(self.train_record, train_cfg, 'train_cfg')
        self.test_settings: Optional[DenseTestSettings] = None
        if test_cfg is not None:
            self.test_settings = read_settings(DenseTestSettings, test_cfg, 'test_cfg')

    @property
    def num_logits(self) -> int:
        """Return the number of logits of a prior."""
        return self.num_classes if self.use_sigmoid else self.num_classes + 1

    def forward(self, features: Sequence[Tensor]) -> DenseOutputs:
        """Return predictions for the maps [B, C, H_l, W_l] of all levels."""
        raise NotImplementedError

    @property
    def prior_generator(self) -> AnchorGenerator:
        """Return the generator of the anchors or points that predictions are made for."""
        raise NotImplementedError

    def grid(self, sizes: Sequence[Tuple[int, int]], device: torch.device) -> Grid:
        """Return the priors of maps of these sizes, (H_l, W_l)."""
        return self.prior_generator.grid(sizes, device=device)

    def priors(self, sizes: Sequence[Tuple[int, int]], device: torch.device) -> List[Tensor]:
        """Return the priors of each level, [A_l, 4]."""
        grid = self.grid(sizes, device)
        return list(grid.anchors.split(grid.counts))

    def decode(self, priors: Tensor, raw: Tensor, sizes: Optional[Tensor] = None) -> Tensor:
        """Return boxes [B, N, 4] of priors [B, N, 4 or 2] and predictions [B, N, ...].

        sizes [B, 2]: clip to images of that height and width.
        """
        raise NotImplementedError

    def distances(self, outputs: DenseOutputs) -> List[Tensor]:
        """Return what `decode` takes, [B, A_l, 4] of each level."""
        return outputs.boxes

    def targets(self, outputs: DenseOutputs, batch: Batch) -> DenseTargets:
        """Return the classification and box targets of all priors."""
        raise NotImplementedError

    # Training

    def loss(self, outputs: DenseOutputs, batch: Batch) -> Dict[str, Tensor]:
        """Return V2's losses; nothing waits for the device."""
        targets = self.targets(outputs, batch)
        return dict(
            loss_cls=self.classification_loss(outputs, targets, targets.labels),
            **self.box_losses(outputs, targets))

    def box_losses(self, outputs: DenseOutputs, targets: DenseTargets) -> Dict[str, Tensor]:
        """Return the losses of the positives' boxes, by V2's log keys."""
        raise NotImplementedError

    def classification_loss(self, outputs: DenseOutputs, targets: DenseTargets,
                            goal: Tensor) -> Tensor:
        """Return the loss of the logits against `goal` [B, A, ...].

        """
        return loss_by_level(self.loss_cls, outputs, targets, goal)

    # Testing

    def scores(self, logits: Tensor) -> Tensor:
        """Return the probabilities of the classes: [..., K] or [..., K + 1] -> [..., K]."""
        return logits.sigmoid() if self.use_sigmoid else logits.softmax(-1)[..., :-1]

    @torch.no_grad()
    def predict(self, outputs: DenseOutputs, batch: Batch) -> Detections:
        """Return detections in pixels of the original images."""
        found = self.candidates(outputs, batch)
        return self.select(found._replace(boxes=found.boxes / batch.scale_factors[:, None]))

    @torch.no_grad()
    def candidates(self, outputs: DenseOutputs, batch: Batch) -> Candidates:
        """Return the candidates of a batch; see `candidates_in`."""
        return self.candidates_in(outputs, batch.sizes)

    def candidates_in(self, outputs: DenseOutputs, sizes: Tensor) -> Candidates:
        """Return the best `nms_pre` pairs of prior and class of each level, in pixels of images of `sizes` [B, 2]."""
        no_quality: List[Optional[Tensor]] = [None] * len(outputs.boxes)
        quality = outputs.quality or no_quality
        levels = zip(outputs.logits, self.distances(outputs), quality,
                     self.priors(outputs.sizes, outputs.boxes[0].device))
        parts = [self._best_of_level(*level, sizes) for level in levels]
        return Candidates(*(torch.cat(field, 1) for field in zip(*parts)))

    def best(self, scores: Tensor, valid: Optional[Tensor], count: int) -> Tuple[Tensor, Tensor]:
        """Return the indices [B, k] of the best of scores [B, N], `count` at most, and which of them are valid."""
        rank = scores if valid is None else rank_boxes(scores, valid)
        rank, index = rank.topk(min(count, rank.shape[1]), 1)
        return index, rank >= 0

    def _best_of_level(self, logits: Tensor, raw: Tensor, quality: Optional[Tensor], priors: Tensor,
                       sizes: Tensor) -> Candidates:
        settings = self.test_settings
        assert settings is not None, 'no test_cfg'
        scores = self.scores(logits.float())
        num_classes, scores = scores.shape[2], scores.flatten(1)  # [B, A_l * K]
        index, valid = self.best(scores, scores > settings.score_thr,
                                 settings.nms_pre if settings.nms_pre > 0 else NO_LIMIT)
        prior = torch.div(index, num_classes, rounding_mode='floor')
        scores = take(scores, index)
        if quality is not None:  # after the best are chosen, as in V2
            scores = scores * take(quality, prior).float().sigmoid()
        boxes = self.decode(priors[prior], take(raw, prior).float(), sizes)
        return Candidates(boxes, scores, index - prior * num_classes, valid)

    @torch.no_grad()
    def select(self, found: Candidates) -> Detections:
        """Return the best `max_per_img` boxes of an image that survive suppression by class."""
        settings = self.test_settings
        assert settings is not None, 'no test_cfg'
        limit = settings.nms.limit(settings.max_per_img, found.scores.shape[1])
        boxes = found.boxes if settings.nms.class_agnostic else apart(found)
        order = rank_boxes(found.scores, found.valid)
        scores, order = suppress(boxes[:, None], found.scores[:, None], order[:, None],
                                 found.valid[:, None], settings.nms, limit)
        scores, order = scores[:, 0], order[:, 0]
        index = order.topk(limit, 1).indices
        scores = take(scores, index)
        return Detections(take(found.boxes, index), scores, take(found.labels, index), scores >= 0)


def loss_by_level(loss: nn.Module, outputs: DenseOutputs, targets: DenseTargets, *goals:
                  Tensor) -> Tensor:
    """Return a loss of the logits against one or several goals [B, A, ...] of all priors.

    Levels are summed: joining the logits, the largest tensors of the step, would copy them.
    """
    counts = [logits.shape[1] for logits in outputs.logits]
    levels = zip(outputs.logits, *(x.split(counts, 1) for x in (targets.weight, *goals)))
    losses = []
    for logits, weight, *parts in levels:
        flat = tuple(part.flatten(0, 1) for part in parts)
        losses.append(
            loss(
                logits.flatten(0, 1),
                flat if len(flat) > 1 else flat[0],
                weight.flatten(),
                avg_factor=targets.num_positive))
    return torch.stack(losses).sum()


def apart(found: Candidates) -> Tensor:
    """Return boxes moved by class, so that boxes of two classes never overlap.

    The distance is that of mmcv's batched_nms, whose rounding decides overlaps near the threshold.
    """
    largest = found.boxes.masked_fill(~found.valid[..., None], 0.).amax((1, 2))  # [B]
    return found.boxes + (found.labels * (largest + 1)[:, None])[..., None]


def tower(num_convs: int,
          in_channels: int,
          channels: int,
          conv_cfg: Optional[Dict],
          norm_cfg: Optional[Dict],
          bias: Union[bool, str] = 'auto',
          last_conv_cfg: Optional[Dict] = None) -> nn.ModuleList:
    """Return 3x3 convolutions with norm and ReLU; the last may be of another type."""
    kinds = [conv_cfg] * (num_convs - 1) + [last_conv_cfg or conv_cfg]
    return nn.ModuleList(
        ConvModule(
            in_channels if i == 0 else channels,
            channels,
            3,
            padding=1,
            conv_cfg=kinds[i],
            norm_cfg=norm_cfg,
            bias=bias) for i in range(num_convs))


def through(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Return the output of layers one after another."""
    for layer in layers:
        x = layer(x)
    return x


def centerness_of(distances: Tensor) -> Tensor:
    """Return how central a point is, 1 in the center and 0 at the sides (FCOS, eq. 3).

    distances [..., 4] to left, top, right, bottom, above 0. Returns [...].
    """
    low, high = distances[..., :2], distances[..., 2:]
    ratio = torch.minimum(low, high) / torch.maximum(low, high)
    return (ratio[..., 0] * ratio[..., 1]).sqrt()


class AnchorHead(DenseHead):
    """Priors are anchors, matched to objects by the assigner of `train_cfg`.

    Args:
        anchor_generator, bbox_coder: parts or their configs.
        reg_decoded_bbox: the box loss compares boxes (IoU losses), not deltas.
    """

    def __init__(self, num_classes: int, in_channels: Channels,
                 anchor_generator: Union[Dict, AnchorGenerator], bbox_coder: Union[Dict,
                                                                                   AnchorCoder],
                 reg_decoded_bbox: bool, loss_cls: PartConfig, loss_bbox: PartConfig,
                 train_cfg: Union[Dict, DenseTrainSettings,
                                  None], test_cfg: Union[Dict, DenseTestSettings,
                                                         None], init_cfg: InitCfg):
        super().__init__(num_classes, in_channels, loss_cls, loss_bbox, train_cfg, test_cfg,
                         init_cfg)
        self.anchor_generator: AnchorGenerator = MODELS.build(anchor_generator)
        self.bbox_coder: AnchorCoder = MODELS.build(bbox_coder)
        self.reg_decoded_bbox = reg_decoded_bbox
        own = type(self)  # a head with a loss of its own decodes in its own way
        if own.loss is DenseHead.loss and own.box_losses is AnchorHead.box_losses:
            require_boxes(self.loss_bbox, reg_decoded_bbox, own.__name__)
        self.num_anchors = self.anchor_generator.num_base_priors[0]  # of a cell
        if self.train_settings is not None and self.train_settings.assigner is not None:
            self.assigner = MODELS.build(self.train_settings.assigner)
            self.sampler = sampler_for(self.train_settings.sampler, self.loss_cls,
                                       f'{type(self).__name__}: train_cfg')

    def takes(self) -> List[Takes]:
        return [
            Takes('in_channels', self.in_channels),
            Takes('anchor_generator.strides', strides=self.anchor_generator.strides)
        ]

    @property
    def prior_generator(self) -> AnchorGenerator:
        return self.anchor_generator

    def decode(self, priors: Tensor, raw: Tensor, sizes: Optional[Tensor] = None) -> Tensor:
        return self.bbox_coder.decode(priors, raw, max_shape=sizes)

    def match(self, grid: Grid, gt: GroundTruth, usable: Tensor) -> Match:
        """Match the anchors to ground truths; usable [B, A] says which anchors may take part."""
        return self.assigner(grid.anchors, gt, usable)

    @torch.no_grad()
    def targets(self, outputs: DenseOutputs, batch: Batch) -> DenseTargets:
        """Return what each anchor learns.

        Losses are divided by the sum over images of max(positives, 1), as in V2, and with a sampler
        by that of max(negatives, 1) too.
        """
        grid, match = self.matches(outputs, batch)
        gt = batch.gt
        assert isinstance(gt, GroundTruth), 'no boxes'
        return self.targets_of(match, grid, gt)

    def matches(self, outputs: DenseOutputs, batch: Batch) -> Tuple[Grid, Match]:
        """Return the anchors and their matches."""
        settings, gt = self.train_settings, batch.gt
        assert settings is not None and isinstance(gt, GroundTruth), 'no train_cfg, or no boxes'
        grid = self.grid(outputs.sizes, gt.boxes.device)
        usable = usable_anchors(self.anchor_generator, outputs.sizes, batch,
                                settings.allowed_border)
        return grid, self.match(grid, gt, usable)

    @torch.no_grad()
    def targets_of(self, match: Match, grid: Grid, gt: GroundTruth) -> DenseTargets:
        """Return what each anchor learns by its match."""
        settings = self.train_settings
        assert settings is not None, 'no train_cfg'
        label = self._drawn(match)
        positive = label == 1
        labels = take(gt.labels, match.gt_index).masked_fill(~positive, self.num_classes)
        weight = (label >= 0).float()
        if settings.pos_weight > 0:
            weight = weight.masked_fill(positive, settings.pos_weight)
        boxes = torch.where(positive[..., None], take(gt.boxes, match.gt_index), grid.anchors)
        counted = positive.sum(1).clamp(min=1)
        if not isinstance(self.sampler, PseudoSampler):
            counted = counted + (label == 0).sum(1).clamp(min=1)
        return DenseTargets(labels, weight, positive, boxes, counted.sum().float())

    def _drawn(self, match: Match) -> Tensor:
        """Return labels [B, A] with -1 for anchors that the sampler leaves out."""
        label = match.label
        if isinstance(self.sampler, PseudoSampler):
            return label
        drawn = self.sampler.draw(match)
        # An empty slot may name an anchor that another slot holds.
        times = torch.zeros_like(label).scatter_add(1, drawn.index, drawn.valid.long())
        return label.masked_fill(times == 0, -1)

    def box_losses(self, outputs: DenseOutputs, targets: DenseTargets) -> Dict[str, Tensor]:
        """Return `loss_bbox`, summed over the levels."""
        anchors = self.grid(outputs.sizes, targets.boxes.device).anchors
        counts = [part.shape[1] for part in outputs.boxes]
        goal = targets.boxes
        if not self.reg_decoded_bbox:
            goal = self.bbox_coder.encode(anchors, goal)
        levels = zip(outputs.boxes, anchors.split(counts), goal.split(counts, 1),
                     targets.positive.split(counts, 1))
        losses = []
        for pred, prior, wanted, positive in levels:
            pred = pred.float()
            if self.reg_decoded_bbox:
                pred = self.decode(prior, pred)
            losses.append(
                self.loss_bbox(
                    pred.flatten(0, 1),
                    wanted.flatten(0, 1),
                    positive.flatten()[:, None].expand(-1, 4).float(),
                    avg_factor=targets.num_positive))
        return dict(loss_bbox=torch.stack(losses).sum())
