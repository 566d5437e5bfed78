"""Sampling, packing and selection of regions: the steps that RoI heads of one and of several stages share."""
from typing import Callable, NamedTuple

import torch
from torch import Tensor

from mmdet_ft.models.assigners import MaxIoUAssigner, OHEMSampler, RandomSampler
from mmdet_ft.models.dense_heads.rpn_head import Proposals
from mmdet_ft.models.layers import learns_statistics
from mmdet_ft.models.roi_heads.bbox_heads import SampledRoIs
from mmdet_ft.models.roi_heads.mask_head import FCNMaskHead
from mmdet_ft.ops.boxes import take, unit_box
from mmdet_ft.ops.matching import Match
from mmdet_ft.structures import Batch, Detections, GroundTruth, HostCopy

# Losses [B, N] of boxes [B, N, 4] with target classes [B, N], of which those of a mask bool [B, N] count.
LossesOf = Callable[[Tensor, Tensor, Tensor], Tensor]


@torch.no_grad()
def sample_regions(assigner: MaxIoUAssigner, sampler: RandomSampler, proposals: Proposals,
                   gt: GroundTruth, num_classes: int, losses_of: LossesOf) -> SampledRoIs:
    """Sample the regions to train on.

    Ground truths join the proposals: early proposals are too poor to be positive. `losses_of` ranks
    boxes for OHEMSampler.
    """
    match = assigner(proposals.boxes, gt, proposals.valid)
    boxes, (gt_index, label, overlap) = proposals.boxes, match
    assert overlap is not None, 'the assigner gives no overlaps'
    num_own = 0
    if sampler.add_gt_as_proposals:
        num_own = gt.valid.shape[1]
        boxes = torch.cat([gt.boxes, boxes], 1)
        own = torch.arange(num_own, device=label.device).expand_as(gt.valid)
        gt_index = torch.cat([own, gt_index], 1)
        label = torch.cat([gt.valid.long() * 2 - 1, label], 1)  # 1 or, in an empty slot, -1
        overlap = torch.cat([gt.valid.to(overlap), overlap], 1)
    if isinstance(sampler, OHEMSampler):
        classes = take(gt.labels, gt_index).masked_fill(label != 1, num_classes)
        drawn = sampler(label, losses_of(boxes, classes, label >= 0))
    else:
        drawn = sampler.draw(Match(gt_index, label, overlap))
    index = drawn.index
    leading = index[:, :drawn.positive.shape[1]]
    boxes = torch.where(drawn.valid[..., None], take(boxes, index), unit_box(boxes))
    return SampledRoIs(boxes, drawn.valid, drawn.positive, take(gt_index, leading),
                       drawn.positive & (leading < num_own))


class Positives(NamedTuple):
    """The positive regions of all images, packed into T slots."""
    image_index: Tensor  # int64 [T]
    slot: Tensor  # int64 [T], into the sampled regions of the image
    valid: Tensor  # bool [T]
    gt_index: Tensor  # int64 [T]
    boxes: Tensor  # float32 [T, 4]
    labels: Tensor  # int64 [T], 0..K-1


def pack_positives(rois: SampledRoIs, gt: GroundTruth, num_slots: int) -> Positives:
    """Return the positives in `num_slots` slots; an empty slot has ground truth 0 and label 0."""
    num_positive_slots = rois.positive.shape[1]
    order = find_true(rois.positive, num_slots)
    image_index, slot = order // num_positive_slots, order % num_positive_slots
    valid = rois.positive[image_index, slot]
    gt_index = rois.gt_index[image_index, slot].masked_fill(~valid, 0)
    return Positives(image_index, slot, valid, gt_index, rois.boxes[image_index, slot],
                     gt.labels[image_index, gt_index].masked_fill(~valid, 0))


def slots_of_masks(count: int, rois: SampledRoIs, mask_head: FCNMaskHead) -> int:
    """Return the number of slots for `count` positives; batch norm would include empty slots."""
    step = 1 if learns_statistics(mask_head) else 8
    return round_up_slots(count, rois.positive.numel(), step)


class PackedDetections(NamedTuple):
    """The detections of all images, packed into T slots."""
    rois: Tensor  # float32 [T, 5], (image, x0, y0, x1, y1) in pixels of the batch
    labels: Tensor  # int64 [T]
    order: Tensor  # int64 [T], into the slots of all images


def pack_detections(detections: Detections, batch: Batch) -> PackedDetections:
    """Return the valid detections, which are in original pixels, in as few slots as needed; one wait for the device."""
    count = HostCopy(detections.valid.sum(), detections.boxes.device)
    num_slots = round_up_slots(int(count.read()), detections.valid.numel())
    order = find_true(detections.valid, num_slots)
    boxes = (detections.boxes * batch.scale_factors[:, None]).flatten(0, 1)[order]
    boxes = torch.where(detections.valid.flatten()[order, None], boxes, unit_box(boxes))
    rois = prepend_image_index(order // detections.valid.shape[1], boxes)
    return PackedDetections(rois, detections.labels.flatten()[order], order)


def unpack(values: Tensor, packed: PackedDetections, detections: Detections) -> Tensor:
    """Return values [T, ...] of packed detections in the slots of the images: [B, D, ...]; zero for others."""
    out = values.new_zeros(detections.valid.numel(), *values.shape[1:])
    return out.index_copy(0, packed.order, values).unflatten(0, detections.valid.shape)


def to_rois(boxes: Tensor) -> Tensor:
    """Prepend the image index to boxes [B, N, 4]: [B*N, 5]."""
    num_images, num_boxes = boxes.shape[:2]
    image = torch.arange(num_images, device=boxes.device, dtype=boxes.dtype)[:, None, None]
    return torch.cat([image.expand(-1, num_boxes, 1), boxes], 2).flatten(0, 1)


def prepend_image_index(image_index: Tensor, boxes: Tensor) -> Tensor:
    """Prepend the image index, image_index [R], to boxes [R, 4]: [R, 5]."""
    return torch.cat([image_index[:, None].to(boxes.dtype), boxes], 1)


def round_up_slots(count: int, limit: int, step: int = 8) -> int:
    """Round `count` up to a multiple of `step`, and at least that.

    So few sizes occur, and every rank uses the weights of the mask head.
    """
    return min(-(-max(count, 1) // step) * step, limit)


def find_true(x: Tensor, num_slots: int) -> Tensor:
    """Return int64 [num_slots] indices into the flattened bool `x`, true elements first, in order."""
    return x.flatten().byte().sort(descending=True, stable=True).indices[:num_slots]
