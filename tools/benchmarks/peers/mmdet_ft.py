"""mmdet_ft: the runner's own step, with the switches of a config."""
import argparse
import os
import tempfile
from typing import Any, List

import torch
from torch import Tensor, nn

from mmdet_ft.checkpoints.fitting import load_checkpoint
from mmdet_ft.config import Config
from mmdet_ft.datasets.annotations.masks import BitmapMasks
from mmdet_ft.datasets.loading.collate import collate
from mmdet_ft.engine.optimizers.optimizer import build_optimizer, zero_missing_momentum
from mmdet_ft.engine.runner import EpochBasedRunner
from mmdet_ft.engine.speed.acceleration import SWITCHES
from mmdet_ft.engine.speed.precision import build_precision
from mmdet_ft.models.dense_heads.rpn_head import Proposals
from mmdet_ft.ops.backends import use_triton
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, to_device
from tools.benchmarks.peers.work import Peer, Setting, Work, layout

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
CONFIG = os.path.join(ROOT, 'configs/torchvision/mask_rcnn_r50_fpn_coco.py')


def build(weights: str) -> nn.Module:
    model = MODELS.build(Config.fromfile(CONFIG).model)
    load_checkpoint(model, weights)
    return model.train()


def batch_of(work: Work) -> Batch:
    height, width = work.images.shape[2:]
    meta = dict(
        img_shape=(height, width, 3),
        pad_shape=(height, width, 3),
        ori_shape=(height, width, 3),
        scale_factor=1.,
        flip=False)
    return collate([
        dict(
            img=image,
            img_metas=meta,
            gt_bboxes=boxes,
            gt_labels=labels,
            gt_masks=BitmapMasks(masks.numpy(), height, width))
        for image, boxes, labels, masks in zip(work.images, work.boxes, work.labels, work.masks)
    ])


def peer(weights: str, work: Work, setting: Setting, args: argparse.Namespace) -> Peer:
    device = torch.device(args.device)
    model = build(weights).to(device)
    for name, switch in SWITCHES.items():
        reason = switch(model, device, getattr(setting, name))
        if reason:
            raise RuntimeError(f'{name} is left off: {reason}')
    batch = to_device(batch_of(work), device)
    batch = batch._replace(images=layout(batch.images, setting))
    extra = work.extra.to(device)
    optimizer = build_optimizer(model, dict(type='SGD', lr=args.lr, momentum=.9, weight_decay=1e-4))
    zero_missing_momentum(optimizer)
    half = None if setting.precision == 'float32' else dict(
        dtype=setting.precision, loss_scale=512.)
    runner = EpochBasedRunner(
        model,
        optimizer,
        tempfile.mkdtemp(),
        precision=build_precision(half, device),
        max_epochs=1,
        seed=args.seed)
    runner.max_iters = 10**6
    positives: List[Any] = []
    propose, sample = model.rpn_head.proposals, model.roi_head.sample

    def with_extra(*arguments: Any) -> Proposals:
        boxes, scores, valid = propose(*arguments)
        more = extra.new_ones(extra.shape[:2])
        return Proposals(
            torch.cat([boxes, extra], 1), torch.cat([scores, more], 1),
            torch.cat([valid, more > 0], 1))

    def counted(*arguments: Any) -> Any:
        rois = sample(*arguments)
        positives.append(rois.positive.sum())
        return rois

    model.rpn_head.proposals, model.roi_head.sample = with_extra, counted

    def step() -> Tensor:
        use_triton(setting.triton)  # a global switch, and the peers take turns
        runner.train_step(batch)
        runner.iter += 1
        return runner.outputs['loss']

    return Peer(step, positives, model, optimizer)
