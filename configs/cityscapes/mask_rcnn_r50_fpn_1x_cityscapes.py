_base_ = [
    '../_base_/models/mask_rcnn_r50_fpn.py', '../_base_/datasets/cityscapes_instance.py',
    '../_base_/default_runtime.py'
]
model = dict(
    backbone=dict(init_cfg=None),  # load_from covers the backbone
    roi_head=dict(
        bbox_head=dict(
            num_classes=8, loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0)),
        mask_head=dict(num_classes=8)))
# For 8 images a step. An epoch has eight rounds, so the rate falls after 56 of 64 rounds.
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=0.001, step=[7])
runner = dict(type='EpochBasedRunner', max_epochs=8)
log_config = dict(interval=100)
# A detector trained on COCO starts far better than an ImageNet backbone.
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/mask_rcnn_r50_fpn_1x_coco/mask_rcnn_r50_fpn_1x_coco_20200205-d4b0c5d6.pth'  # noqa: E501
auto_scale_lr = dict(base_batch_size=8)
