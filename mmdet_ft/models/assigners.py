"""Assigners and samplers of configs: thin classes around ops.matching and ops.sampling."""
import warnings
from typing import NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor, nn

from mmdet_ft.models.anchors import centers_of
from mmdet_ft.ops.adaptive_matching import match_adaptively
from mmdet_ft.ops.aligned_matching import Alignment, match_by_alignment
from mmdet_ft.ops.boxes import take
from mmdet_ft.ops.cost_matching import CostMatch, match_by_cost
from mmdet_ft.ops.matching import Match, in_ignored_region, match
from mmdet_ft.ops.region_matching import RegionMatch, centers_inside, match_regions, scale_boxes
from mmdet_ft.ops.sampling import sample
from mmdet_ft.ranges import Count, Share
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import GroundTruth


@MODELS.register_module()
class BboxOverlaps2D:
    """V2's `iou_calculator`; always computed in float32, so its fp16 arguments have no effect."""

    def __init__(self, scale: float = 1., dtype: Optional[str] = None):
        self.scale, self.dtype = scale, dtype


@MODELS.register_module()
class MaxIoUAssigner:
    """Assign each box to the ground truth with the highest overlap; rules in ops.matching.match.

    V2's arguments: `pos_iou_thr`, `neg_iou_thr` (a number or a range), `min_pos_iou`,
    `gt_max_assign_all`, `ignore_iof_thr` (boxes overlapping an ignored region that much are neither
    positive nor negative; 0 or less switches it off), `ignore_wrt_candidates`, `match_low_quality`.
    `gpu_assign_thr` is accepted but not needed: ground truths are processed in chunks, which bounds
    memory.
    """

    def __init__(self,
                 pos_iou_thr: float,
                 neg_iou_thr: Union[float, Tuple[float, float]],
                 min_pos_iou: float = .0,
                 gt_max_assign_all: bool = True,
                 ignore_iof_thr: float = -1,
                 ignore_wrt_candidates: bool = True,
                 match_low_quality: bool = True,
                 gpu_assign_thr: float = -1,
                 iou_calculator: Optional[dict] = None):
        self.pos_iou_thr, self.neg_iou_thr, self.min_pos_iou = pos_iou_thr, neg_iou_thr, min_pos_iou
        self.gt_max_assign_all, self.match_low_quality = gt_max_assign_all, match_low_quality
        self.ignore_iof_thr, self.ignore_wrt_candidates = ignore_iof_thr, ignore_wrt_candidates
        self.iou_calculator = MODELS.build(iou_calculator)

    @torch.no_grad()
    def __call__(self, boxes: Tensor, gt: GroundTruth, box_valid: Optional[Tensor] = None) -> Match:
        """Match boxes to ground truths.

        boxes [B, N, 4] or [N, 4] (shared by all images); box_valid [B, N]. Returns gt_index and
        label [B, N].
        """
        ignore = None
        if self.ignore_iof_thr > 0 and gt.ignore.shape[1] > 0:
            ignore = in_ignored_region(boxes, gt.ignore, gt.ignore_valid, self.ignore_iof_thr,
                                       self.ignore_wrt_candidates)
        return match(boxes, gt.boxes, gt.valid, self.pos_iou_thr, self.neg_iou_thr,
                     self.min_pos_iou, self.match_low_quality, self.gt_max_assign_all, box_valid,
                     ignore)


@MODELS.register_module()
class GridAssigner:
    """Assign each object to anchors of the cells that objects have their centers in (YOLOv3, sec. 2.1).

    An anchor of such a cell is positive above `pos_iou_thr`, and if it is an object's best of them.
    Every anchor up to `neg_iou_thr` (or inside that range) is background, the others are neither.

    Args:
        pos_iou_thr, neg_iou_thr: see there.
        min_pos_iou: the best anchor of an object overlaps it by more than that.
        gt_max_assign_all: all anchors of an equal overlap are the best.
        iou_calculator: has no effect.
    """

    def __init__(self,
                 pos_iou_thr: float,
                 neg_iou_thr: Union[float, Tuple[float, float]],
                 min_pos_iou: float = .0,
                 gt_max_assign_all: bool = True,
                 iou_calculator: Optional[dict] = None):
        self.pos_iou_thr, self.neg_iou_thr, self.min_pos_iou = pos_iou_thr, neg_iou_thr, min_pos_iou
        self.gt_max_assign_all = gt_max_assign_all
        self.iou_calculator = MODELS.build(iou_calculator)

    @torch.no_grad()
    def __call__(self, boxes: Tensor, responsible: Tensor, gt: GroundTruth) -> Match:
        """Match anchors [A, 4]; responsible [B, A]: whether an object's center is in the cell."""
        low, high = self.neg_iou_thr if isinstance(self.neg_iou_thr,
                                                   (tuple, list)) else (None, self.neg_iou_thr)
        negative = (0. if low is None else _next_above(low), _next_above(high))
        background = match(boxes, gt.boxes, gt.valid, float('inf'), negative, 0., low_quality=False)
        found = match(
            boxes,
            gt.boxes,
            gt.valid,
            _next_above(self.pos_iou_thr),
            0.,
            _next_above(self.min_pos_iou),
            all_best=self.gt_max_assign_all,
            box_valid=responsible)
        label = torch.where(found.label == 1, found.label, background.label)
        return Match(found.gt_index, label)


@MODELS.register_module()
class SimOTAAssigner:
    """Assign cells by the cost of their predictions; rules in ops.cost_matching.

    Args:
        center_radius: of an object's center, in strides.
        candidate_topk: most cells of an object.
        iou_weight, cls_weight: factors of the costs.
    """

    def __init__(self,
                 center_radius: float = 2.5,
                 candidate_topk: int = 10,
                 iou_weight: float = 3.0,
                 cls_weight: float = 1.0):
        self.center_radius, self.candidate_topk = center_radius, candidate_topk
        self.iou_weight, self.cls_weight = iou_weight, cls_weight

    @torch.no_grad()
    def __call__(self, points: Tensor, strides: Tensor, scores: Tensor, boxes: Tensor,
                 gt: GroundTruth) -> CostMatch:
        """Match points [A, 2] of strides [A, 1] with scores [B, A, K] and predicted boxes [B, A, 4]."""
        return match_by_cost(points, strides, scores, boxes, gt.boxes, gt.labels, gt.valid,
                             self.center_radius, self.candidate_topk, self.cls_weight,
                             self.iou_weight)


@MODELS.register_module()
class ATSSAssigner:
    """Assign anchors by statistics of each object; rules in ops.adaptive_matching.

    V2's arguments. For heads that give the anchors of each level.

    Args:
        topk: candidates of a level.
        alpha: of DDODHead only.
        iou_calculator: has no effect.
        ignore_iof_thr: anchors that overlap an ignored region that much are neither; 0 or less for none.
    """

    def __init__(self,
                 topk: Count,
                 alpha: Optional[float] = None,
                 iou_calculator: Optional[dict] = None,
                 ignore_iof_thr: float = -1):
        if alpha is not None:
            raise ValueError('ATSSAssigner: alpha is for DDODHead, which is not here; leave it out')
        self.topk, self.ignore_iof_thr = topk, ignore_iof_thr
        self.iou_calculator = MODELS.build(iou_calculator)

    @torch.no_grad()
    def __call__(self, boxes: Tensor, counts: Sequence[int], gt: GroundTruth,
                 box_valid: Tensor) -> Match:
        """Match anchors [A, 4], `counts` of each level, to ground truths; box_valid [B, A]."""
        ignore = None
        if self.ignore_iof_thr > 0 and gt.ignore.shape[1] > 0:
            ignore = in_ignored_region(boxes, gt.ignore, gt.ignore_valid, self.ignore_iof_thr, True)
        return match_adaptively(boxes, counts, gt.boxes, gt.valid, self.topk, box_valid, ignore)


@MODELS.register_module()
class CenterRegionAssigner:
    """Assign boxes to the center regions of objects; rules in ops.region_matching.

    V2's arguments.

    Args:
        pos_scale: size of the core of an object, whose boxes are positive, relative to the object.
        neg_scale: size of the region around it, whose boxes do not learn the object's class.
        min_pos_iof: share of a box that must be in a region.
        ignore_gt_scale: boxes with their center in an ignored region scaled by this are neither.
        foreground_dominate: a box in the core of one object and the region of another of its class is positive,
            or else background that does not learn the class.
        iou_calculator: has no effect.
    """

    def __init__(self,
                 pos_scale: float,
                 neg_scale: float,
                 min_pos_iof: float = 1e-2,
                 ignore_gt_scale: float = 0.5,
                 foreground_dominate: bool = False,
                 iou_calculator: Optional[dict] = None):
        self.scales, self.min_pos_iof = (pos_scale, neg_scale), min_pos_iof
        self.ignore_gt_scale, self.foreground_dominate = ignore_gt_scale, foreground_dominate
        self.iou_calculator = MODELS.build(iou_calculator)

    def __call__(self, boxes: Tensor, gt: GroundTruth, box_valid: Tensor) -> Match:
        """Match boxes [A, 4] to ground truths; box_valid [B, A]."""
        found = self.match_classes(boxes, gt, box_valid, num_classes=0)
        return Match(found.gt_index, found.label)

    @torch.no_grad()
    def match_classes(self, boxes: Tensor, gt: GroundTruth, box_valid: Tensor,
                      num_classes: int) -> RegionMatch:
        """Match boxes [A, 4] to ground truths, and list the classes, of `num_classes`, that each does not learn."""
        ignore = None
        if gt.ignore.shape[1] > 0:
            inside = centers_inside(boxes, scale_boxes(gt.ignore, self.ignore_gt_scale))
            ignore = (inside & gt.ignore_valid[:, None]).any(-1)
        return match_regions(boxes, gt.boxes, gt.labels, gt.valid, num_classes, self.scales,
                             self.min_pos_iof, self.foreground_dominate, box_valid, ignore)


def _next_above(limit: float) -> float:
    """Return the float32 after `limit`, so that `x >= _next_above(limit)` means x > limit."""
    return float(np.nextafter(np.float32(limit), np.float32('inf')))


@MODELS.register_module()
class TaskAlignedAssigner:
    """Assign anchors by their predictions; rules in ops.aligned_matching.

    V2's arguments. For heads that give scores and boxes.

    Args:
        topk: anchors of an object.
        iou_calculator: has no effect.
    """

    def __init__(self, topk: int, iou_calculator: Optional[dict] = None):
        if topk < 1:
            raise ValueError(f'TaskAlignedAssigner: topk is {topk}; write 1 or more')
        self.topk = topk
        self.iou_calculator = MODELS.build(iou_calculator)

    @torch.no_grad()
    def __call__(self, scores: Tensor, boxes: Tensor, anchors: Tensor, gt: GroundTruth,
                 usable: Tensor, alpha: float, beta: float) -> Alignment:
        """Match anchors [A, 4] with scores [B, A, K] and boxes [B, A, 4] to ground truths; usable [B, A].

        alpha, beta: exponents of score and IoU.
        """
        return match_by_alignment(scores, boxes, centers_of(anchors), gt.boxes, gt.labels, gt.valid,
                                  usable, self.topk, alpha, beta)


class Sample(NamedTuple):
    index: Tensor  # type: ignore[assignment] # tuple.index; int64 [B, S] into the boxes
    valid: Tensor  # bool [B, S], whether the slot holds a sampled box
    positive: Tensor  # bool [B, P], sampled and positive: only the first P slots can be


@MODELS.register_module()
class RandomSampler:
    """Sample `num` boxes per image, at most `pos_fraction` positive; see ops.sampling.sample.

    `add_gt_as_proposals` is read by the RoI head, which then adds ground truths to the proposals.
    """

    def __init__(self,
                 num: Count,
                 pos_fraction: Share,
                 neg_pos_ub: float = -1,
                 add_gt_as_proposals: bool = True):
        self.num, self.pos_fraction, self.neg_pos_ub = num, pos_fraction, neg_pos_ub
        self.add_gt_as_proposals = add_gt_as_proposals

    @torch.no_grad()
    def __call__(self, label: Tensor, keys: Optional[Tensor] = None) -> Sample:
        """Sample boxes by label [B, N] as in ops.matching.Match.

        keys [B, N] give the sampling order, random if None.
        """
        index, valid = sample(label, self.num, self.pos_fraction, self.neg_pos_ub, keys)
        max_positive = min(int(self.num * self.pos_fraction), index.shape[1])
        # Computed on the needed slots instead of sliced from all: a slice would be copied
        # wherever it is flattened.
        positive = valid[:, :max_positive] & (take(label, index[:, :max_positive]) == 1)
        return Sample(index, valid, positive)

    @torch.no_grad()
    def draw(self, match: Match) -> Sample:
        """Sample boxes by the order of `keys_of`."""
        return self(match.label, self.keys_of(match))

    def keys_of(self, match: Match) -> Optional[Tensor]:
        """Return keys [B, N] for the sampling order; None for a random one."""
        return None


@MODELS.register_module()
class OHEMSampler(RandomSampler):
    """Sample the boxes with the highest loss of the box head (Training Region-based Object
    Detectors with Online Hard Example Mining, sec. 4). For `train_cfg.rcnn`.

    Args:
        num, pos_fraction, neg_pos_ub, add_gt_as_proposals: as RandomSampler.
        loss_key: the loss that ranks boxes; V2 knows 'loss_cls' only.
    """

    def __init__(self,
                 num: Count,
                 pos_fraction: Share,
                 neg_pos_ub: float = -1,
                 add_gt_as_proposals: bool = True,
                 loss_key: str = 'loss_cls'):
        if loss_key != 'loss_cls':
            raise ValueError(f"OHEMSampler.loss_key is {loss_key!r}; write 'loss_cls'")
        super().__init__(num, pos_fraction, neg_pos_ub, add_gt_as_proposals)

    def __call__(self, label: Tensor, keys: Optional[Tensor] = None) -> Sample:
        """Sample boxes by keys [B, N], their losses, which are >= 0."""
        if keys is None:
            raise ValueError(
                'OHEMSampler judges boxes by the box head: write it in train_cfg.rcnn, '
                "and type='RandomSampler' in train_cfg.rpn")
        return super().__call__(label, keys)


@MODELS.register_module()
class PseudoSampler:
    """No sampling: all positive and background boxes are used (one-stage heads, focal loss)."""
    add_gt_as_proposals = False

    @torch.no_grad()
    def __call__(self, label: Tensor) -> Sample:
        index = torch.arange(label.shape[1], device=label.device).expand_as(label)
        return Sample(index, label >= 0, label == 1)

    def draw(self, match: Match) -> Sample:
        return self(match.label)


def sampler_for(settings: object, loss_cls: nn.Module,
                where: str) -> Union[RandomSampler, PseudoSampler]:
    """Return the sampler of a dense head: PseudoSampler without one, or if the loss needs every anchor.

    settings: `sampler` of train_cfg. A loss that needs every anchor, such as FocalLoss, has
    `needs_every_anchor`. `where` names the train_cfg in the warning.
    """
    sampler = MODELS.build(settings) or PseudoSampler()
    if getattr(loss_cls, 'needs_every_anchor', False) and not isinstance(sampler, PseudoSampler):
        warnings.warn(f'{where}.sampler is not used and may be left out: under '
                      f'{type(loss_cls).__name__} every anchor counts, as in MMDetection 2')
        return PseudoSampler()
    return sampler
