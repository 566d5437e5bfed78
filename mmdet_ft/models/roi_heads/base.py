"""Base class of RoI heads, the second part of a two-stage detector."""
import dataclasses
from typing import Any, Optional, Sequence, Tuple

from torch import Tensor, nn

from mmdet_ft.models.base_module import BaseModule
from mmdet_ft.models.dense_heads.rpn_head import Proposals
from mmdet_ft.models.roi_heads.regions import pack_detections, unpack
from mmdet_ft.models.settings import NMSSettings, ReadsNMS
from mmdet_ft.models.suppression import suppress
from mmdet_ft.ops.boxes import take
from mmdet_ft.ops.topk import rank_boxes
from mmdet_ft.structures import Batch, Detections, Losses


@dataclasses.dataclass(frozen=True)
class RCNNTrainSettings:
    """`train_cfg.rcnn`, or an item of its list of stages."""
    assigner: Any
    sampler: Any
    mask_size: int = 28
    pos_weight: float = -1
    debug: bool = False  # V2 reads it nowhere either


@dataclasses.dataclass(frozen=True)
class RCNNTestSettings(ReadsNMS):
    """`test_cfg.rcnn`."""
    nms: NMSSettings  # or its dict
    score_thr: float = .05
    max_per_img: int = 100
    mask_thr_binary: float = .5


class RoIHead(BaseModule):
    """Classify proposals, refine their boxes and, with a `mask_head`, segment them.

    A head gives `loss`, `box_predictions`, `mask_predictions` and `count_classes`.
    """
    learns_from = ('gt_bboxes', 'gt_labels')
    mask_head: Optional[nn.Module]
    test_settings: Optional[RCNNTestSettings]

    def count_classes(self) -> int:
        """Return the number of classes of the detections."""
        raise NotImplementedError(f'{type(self).__name__} has no count_classes')

    def loss(self,
             features: Sequence[Tensor],
             proposals: Proposals,
             batch: Batch,
             num_mask_slots: Optional[int] = None) -> Losses:
        """Return V2's losses of the box and mask branch.

        The mask branch uses `num_mask_slots` regions, positives first. If None, it is the number of
        positives, rounded up: the only number that a step reads from the device.
        """
        raise NotImplementedError(f'{type(self).__name__} has no loss')

    def prepare(self, features: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the feature maps that `box_predictions` and `mask_predictions` get."""
        return features

    def predict(self, features: Sequence[Tensor], proposals: Proposals, batch: Batch) -> Detections:
        """Return detections in original pixels, masks as 28x28 probabilities inside their boxes."""
        features = self.prepare(features)
        boxes, scores = self.box_predictions(features, proposals.boxes, batch.sizes)
        detections = self.select(boxes / batch.scale_factors[:, None, None], scores,
                                 proposals.valid)
        return detections if self.mask_head is None else self.add_masks(features, detections, batch)

    def add_masks(self, features: Sequence[Tensor], detections: Detections,
                  batch: Batch) -> Detections:
        """Return the detections with their masks."""
        return detections._replace(masks=self.mask_predictions(features, detections, batch))

    def box_predictions(self, features: Sequence[Tensor], boxes: Tensor,
                        sizes: Tensor) -> Tuple[Tensor, Tensor]:
        """Return refined boxes [B, P, K, 4] (K is 1 if class-agnostic) and scores [B, P, K].

        features: as returned by `prepare`. boxes [B, P, 4]; sizes [B, 2], (h, w) that they are clipped to.
        """
        raise NotImplementedError(f'{type(self).__name__} has no box_predictions')

    def mask_predictions(self, features: Sequence[Tensor], detections: Detections,
                         batch: Batch) -> Tensor:
        """Return mask probabilities [B, D, M, M] inside the boxes of detections, which are in
        original pixels; zero for empty slots.
        """
        packed = pack_detections(detections, batch)
        masks = self.mask_probabilities(features, packed.rois, packed.labels)
        return unpack(masks, packed, detections)

    def mask_probabilities(self, features: Sequence[Tensor], rois: Tensor,
                           labels: Tensor) -> Tensor:
        """Return mask probabilities [R, M, M] inside rois [R, 5] of classes `labels` [R].

        features: as returned by `prepare`.
        """
        raise NotImplementedError(f'{type(self).__name__} has no mask_probabilities')

    def select(self, boxes: Tensor, scores: Tensor, valid: Tensor) -> Detections:
        """Select detections: every class of every proposal is a candidate, suppression is per
        class, and the best `max_per_img` of an image are kept.

        boxes [B, P, K or 1, 4], scores [B, P, K], valid [B, P].
        """
        settings, num_classes = self.test_settings, scores.shape[2]
        assert settings is not None, 'no test_cfg'
        boxes = boxes.expand(-1, -1, num_classes, -1)
        candidate = valid[..., None] & (scores > settings.score_thr)
        limit = settings.nms.limit(settings.max_per_img, scores[0].numel())
        order = rank_boxes(scores.flatten(1), candidate.flatten(1)).view_as(scores)
        boxes_of, scores, order, candidate = (x.transpose(1, 2)
                                              for x in (boxes, scores, order, candidate)
                                              )  # [B, K, P, ...]
        scores, order = (
            x.transpose(1, 2).flatten(1)
            for x in suppress(boxes_of, scores, order, candidate, settings.nms, limit))
        index = order.topk(limit, 1).indices
        scores = take(scores, index)
        return Detections(
            take(boxes.flatten(1, 2), index), scores, index % num_classes, scores >= 0)
