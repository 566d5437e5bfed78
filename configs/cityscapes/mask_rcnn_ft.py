# Fine-tune a Mask R-CNN that knows COCO's 80 classes to the 8 of Cityscapes.
#
#     python tools/train.py configs/cityscapes/mask_rcnn_ft.py
#
# Five parts, each to be edited for data of your own. `python tools/misc/print_config.py` shows the whole that they
# make together with their bases.

# 1. What it starts from: a model, a dataset, and how a run logs and saves. The dataset's base says where its files lie;
#    for your own COCO-style annotations take '../_base_/datasets/coco_instance.py' and set, in this file,
#        classes = ('cat', 'dog')
#        data = dict(train=dict(classes=classes, ann_file='...', img_prefix='...'), val=..., test=...)
_base_ = [
    '../_base_/models/mask_rcnn_r50_fpn.py', '../_base_/datasets/cityscapes_instance.py',
    '../_base_/default_runtime.py'
]

# 2. The heads, for as many classes as the dataset has (the background does not count). What is not named here keeps the
#    value of the base; `_delete_=True` inside a dict drops the base's.
model = dict(
    backbone=dict(init_cfg=None),  # no ImageNet weights: load_from brings the backbone too
    roi_head=dict(
        bbox_head=dict(
            num_classes=8, loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0)),
        mask_head=dict(num_classes=8)))

# 3. Optimizer and schedule. lr is for 8 images a step (8 GPUs with one each); with fewer scale it by hand, or run with
#    --auto-scale-lr. An epoch goes through the data eight times (`times` of the dataset's base), so 8 epochs are 64
#    rounds and the rate falls after the 7th. warmup_iters should be a small part of the run: lower it for small data.
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=None)  # or dict(max_norm=35, norm_type=2) where losses jump
lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=0.001, step=[7])
runner = dict(type='EpochBasedRunner', max_epochs=8)
auto_scale_lr = dict(base_batch_size=8)

# 4. How it runs and logs: a line every 100 iterations; checkpoints and evaluation after each epoch.
log_config = dict(interval=100)

# 5. The weights to start from: the detector trained on COCO. Its heads are for 80 classes; the layers whose shape follows
#    the classes are left out and start anew, and the log names them. Any local path works as well as a URL. The host of
#    this one has been unreachable more than once: keep a copy and write its path here, or give it on the command line,
#        --cfg-options load_from=/path/to/mask_rcnn_r50_fpn_2x_coco.pth
load_from = 'https://download.openmmlab.com/mmdetection/v2.0/mask_rcnn/mask_rcnn_r50_fpn_2x_coco/mask_rcnn_r50_fpn_2x_coco_bbox_mAP-0.392__segm_mAP-0.354_20200505_003907-3e542a40.pth'  # noqa: E501
