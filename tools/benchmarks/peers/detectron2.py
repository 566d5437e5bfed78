"""Detectron2, written against its public interface; see README.md for whether it has run."""
import argparse
from typing import Any, List

import torch
from torch import Tensor

from tools.benchmarks.peers.work import Peer, Setting, Work, layout, learn, prepare


def peer(weights: str, work: Work, setting: Setting, args: argparse.Namespace) -> Peer:
    """Build Detectron2's Mask R-CNN R50-FPN with its own weights: box head names and layouts differ."""
    from detectron2 import model_zoo
    from detectron2.modeling import build_model
    from detectron2.structures import BitMasks, Boxes, ImageList, Instances
    from detectron2.utils.events import EventStorage
    cfg = model_zoo.get_config('COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml')
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = args.device, ''
    cfg.INPUT.MASK_FORMAT = 'bitmask'
    for head in (cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_MASK_HEAD):
        head.POOLER_TYPE, head.POOLER_SAMPLING_RATIO = 'ROIAlign', 2
    torch.manual_seed(0)
    device = torch.device(args.device)
    model = prepare(build_model(cfg).train(), setting, device)
    size = tuple(args.size)
    images = ImageList(layout(work.images.to(device), setting), [size] * args.batch)
    truths = [
        Instances(
            size,
            gt_boxes=Boxes(boxes.to(device)),
            gt_classes=labels.to(device),
            gt_masks=BitMasks(masks.bool().to(device)))
        for boxes, labels, masks in zip(work.boxes, work.labels, work.masks)
    ]
    more = [
        Instances(
            size,
            proposal_boxes=Boxes(boxes),
            objectness_logits=torch.full((len(boxes), ), 10., device=device))
        for boxes in work.extra.to(device)
    ]
    positives: List[Any] = []
    select = model.roi_heads.label_and_sample_proposals

    def counted(proposals: List[Any], targets: List[Any]) -> List[Any]:
        chosen = select(proposals, targets)
        positives.append(sum((one.gt_classes < 80).sum() for one in chosen))
        return chosen

    model.roi_heads.label_and_sample_proposals = counted

    def loss_of() -> Tensor:
        features = model.backbone(images.tensor)
        proposals, rpn_losses = model.proposal_generator(images, features, truths)
        proposals = [Instances.cat(pair) for pair in zip(proposals, more)]
        _, losses = model.roi_heads(images, features, proposals, truths)
        return sum({**rpn_losses, **losses}.values())

    learning, optimizer = learn(model, loss_of, setting, args)

    def step() -> Tensor:
        with EventStorage():  # the heads write into it
            return learning()

    return Peer(step, positives, model, optimizer)
