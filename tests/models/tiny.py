"""A slim Mask R-CNN and batches for it: everything real, only small."""
import copy
from typing import Any, Callable, Dict, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth
from tests.ops.test_ops_masks import pack


def tiny_config(with_mask: bool = True,
                num_classes: int = 3,
                base_channels: int = 8) -> Dict[str, Any]:
    extractor = dict(
        type='SingleRoIExtractor',
        roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=0),
        out_channels=16,
        featmap_strides=[4, 8, 16, 32])
    assigner = dict(
        type='MaxIoUAssigner',
        pos_iou_thr=.7,
        neg_iou_thr=.3,
        min_pos_iou=.3,
        match_low_quality=True,
        ignore_iof_thr=-1)
    sampler = dict(
        type='RandomSampler', num=32, pos_fraction=.5, neg_pos_ub=-1, add_gt_as_proposals=False)
    proposals = dict(
        nms_pre=100, max_per_img=50, nms=dict(type='nms', iou_threshold=.7), min_bbox_size=0)
    model = dict(
        type='FasterRCNN',
        backbone=dict(
            type='ResNet', depth=18, base_channels=base_channels, frozen_stages=1, norm_eval=True),
        neck=dict(
            type='FPN',
            in_channels=[base_channels * 2**i for i in range(4)],
            out_channels=16,
            num_outs=5),
        rpn_head=dict(
            type='RPNHead',
            in_channels=16,
            feat_channels=16,
            anchor_generator=dict(
                type='AnchorGenerator', scales=[8], ratios=[.5, 1., 2.], strides=[4, 8, 16, 32,
                                                                                  64])),
        roi_head=dict(
            type='StandardRoIHead',
            bbox_roi_extractor=extractor,
            bbox_head=dict(
                type='Shared2FCBBoxHead',
                in_channels=16,
                fc_out_channels=32,
                num_classes=num_classes)),
        train_cfg=dict(
            rpn=dict(assigner=assigner, sampler=sampler, allowed_border=-1, pos_weight=-1),
            rpn_proposal=proposals,
            rcnn=dict(
                assigner=dict(assigner, pos_iou_thr=.5, neg_iou_thr=.5, min_pos_iou=.5),
                sampler=dict(sampler, num=24, pos_fraction=.25, add_gt_as_proposals=True),
                mask_size=28,
                pos_weight=-1)),
        test_cfg=dict(
            rpn=proposals,
            rcnn=dict(
                score_thr=.05,
                nms=dict(type='nms', iou_threshold=.5),
                max_per_img=20,
                mask_thr_binary=.5)))
    if with_mask:
        model['type'] = 'MaskRCNN'
        model['roi_head'].update(
            mask_roi_extractor=copy.deepcopy(extractor),
            mask_head=dict(
                type='FCNMaskHead',
                num_convs=1,
                in_channels=16,
                conv_out_channels=16,
                num_classes=num_classes))
        model['roi_head']['mask_roi_extractor']['roi_layer']['output_size'] = 14
    return model


STDS = ([.1, .1, .2, .2], [.05, .05, .1, .1], [.033, .033, .067, .067])


def tiny_cascade_config(num_stages: int = 3,
                        with_mask: bool = True,
                        agnostic: bool = True,
                        num_classes: int = 3) -> Dict[str, Any]:
    """A slim Cascade R-CNN."""
    config = tiny_config(with_mask, num_classes)
    head, settings = config['roi_head'], config['train_cfg']['rcnn']
    head.update(
        type='CascadeRoIHead',
        num_stages=num_stages,
        stage_loss_weights=[1, .5, .25][:num_stages],
        bbox_head=[
            dict(
                head['bbox_head'],
                reg_class_agnostic=agnostic,
                bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_stds=stds))
            for stds in STDS[:num_stages]
        ])
    config['type'] = 'CascadeRCNN'
    config['train_cfg']['rcnn'] = [copy.deepcopy(settings) for _ in range(num_stages)]
    for stage, item in enumerate(config['train_cfg']['rcnn']):
        item['assigner'].update(pos_iou_thr=.5 + .1 * stage, neg_iou_thr=.5 + .1 * stage)
    return config


def tiny_dense_config(kind: str, head: Dict[str, Any], base_channels: int = 8) -> Dict[str, Any]:
    """A slim one-stage detector with five levels and three classes."""
    two_stage = tiny_config(base_channels=base_channels)
    return dict(
        type=kind,
        backbone=two_stage['backbone'],
        neck=two_stage['neck'],
        bbox_head=dict(
            dict(num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1), **head),
        train_cfg=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=.5,
                neg_iou_thr=.4,
                min_pos_iou=0,
                ignore_iof_thr=-1),
            allowed_border=-1,
            pos_weight=-1),
        test_cfg=dict(
            nms_pre=60, score_thr=.05, nms=dict(type='nms', iou_threshold=.5), max_per_img=20))


def tiny_model(with_mask: bool = True, num_classes: int = 3, seed: int = 0, base_channels: int = 8):
    torch.manual_seed(seed)
    model = MODELS.build(tiny_config(with_mask, num_classes, base_channels))
    model.init_weights()
    return model.train()


def tiny_batch(objects=(2, 0), slots: int = 8, size=(64, 96), seed: int = 0,
               num_classes: int = 3) -> Batch:
    """Noise images with `objects[i]` random boxes each, and blobs in them as masks."""
    generator = torch.Generator().manual_seed(seed)
    num_images, (height, width) = len(objects), size
    images = torch.randn(num_images, 3, height, width, generator=generator)
    boxes = torch.zeros(num_images, slots, 4)
    boxes[..., 2:] = 1
    labels = torch.zeros(num_images, slots, dtype=torch.long)
    valid = torch.zeros(num_images, slots, dtype=torch.bool)
    bitmaps = torch.zeros(num_images, slots, height, width, dtype=torch.bool)
    for i, count in enumerate(objects):
        for j in range(count):
            x, y = (torch.rand(2, generator=generator) *
                    torch.tensor([width - 40., height - 40.])).tolist()
            w, h = (torch.rand(2, generator=generator) * 20 + 18).tolist()
            boxes[i, j] = torch.tensor([x, y, x + w, y + h])
            labels[i, j] = torch.randint(0, num_classes, (), generator=generator)
            valid[i, j] = True
            blob = F.interpolate(
                torch.rand(1, 1, 4, 4, generator=generator), (int(h), int(w)),
                mode='bilinear')[0, 0] > .4
            bitmaps[i, j, int(y):int(y) + int(h), int(x):int(x) + int(w)] = blob
    sizes = torch.tensor([[float(height), float(width)]]).repeat(num_images, 1)
    gt = GroundTruth(boxes, labels, valid, torch.zeros(num_images, 0, 4),
                     torch.zeros(num_images, 0, dtype=torch.bool),
                     pack(bitmaps) if bitmaps.any() else empty_masks(num_images, slots))
    metas = [dict(ori_shape=(height, width, 3), img_shape=(height, width, 3), flip=False)
             ] * num_images
    return Batch(images, sizes, sizes.clone(), torch.ones(num_images, 4), metas, gt=gt)


def empty_masks(num_images: int, slots: int):
    from mmdet_ft.structures import Masks
    return Masks(
        torch.zeros(0, dtype=torch.uint8), torch.zeros(num_images, slots, dtype=torch.long),
        torch.zeros(num_images, slots, 4, dtype=torch.long), (0, 0))


SHARES = (3e-5, 1e-5, 3e-6)


def fall_along_gradient(loss: Callable[[], Tensor],
                        parameters: Sequence[Tensor],
                        shares: Sequence[float] = SHARES) -> float:
    """Return by how much a loss changes along its gradient, over what the gradient promises.

    1 for a right gradient, whatever the weights: no run of steps has to go well for it. `shares` are parts of the loss
    that steps should take away, large against the rounding of a float32 loss; of them the nearest to 1 counts, since a
    step may be too long for a curved loss (batch norm of four values), while a wrong gradient is wrong in all.
    A step goes either way, so that curvature cancels. `loss` draws the same random numbers at each call.
    """
    before = loss()
    before.backward()
    trained = [parameter for parameter in parameters if parameter.grad is not None]
    start = [parameter.detach().clone() for parameter in trained]
    square = sum(float(parameter.grad.double().square().sum()) for parameter in trained)

    def predict_at(share: float) -> float:
        for parameter, value in zip(trained, start):
            parameter.copy_(value - share * before.item() / square * parameter.grad)
        return loss().item()

    with torch.no_grad():
        falls = [(predict_at(-share) - predict_at(share)) / (2 * share * before.item())
                 for share in shares]
        predict_at(0)
    return min(falls, key=lambda fall: abs(fall - 1))
