# Faster R-CNN on WIDER FACE, at a scale at which small faces are still some pixels high.
#
#     python tools/train.py configs/wider_face/faster_rcnn_r50_fpn_wider_face.py
#
# The official metric needs the lists of eval_tools:
#     --cfg-options evaluation.metric=wider evaluation.gt_lists=data/WIDERFace/eval_tools/ground_truth
_base_ = [
    '../_base_/models/faster_rcnn_r50_fpn.py', '../_base_/datasets/wider_face.py',
    '../_base_/schedules/schedule_1x.py', '../_base_/default_runtime.py'
]
model = dict(
    rpn_head=dict(anchor_generator=dict(scales=[2, 4, 8], ratios=[1.0])),  # faces are about square
    roi_head=dict(bbox_head=dict(num_classes='auto')),
    # Boxes that lie by half in an invalid or too small face are neither faces nor background.
    train_cfg=dict(
        rpn=dict(assigner=dict(ignore_iof_thr=0.5)), rcnn=dict(assigner=dict(ignore_iof_thr=0.5))),
    test_cfg=dict(rcnn=dict(max_per_img=750)))  # an image may show hundreds of faces
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', img_scale=(1333, 800), keep_ratio=True),
    dict(type='RandomFlip', flip_ratio=0.5),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='Pad', size_divisor=32),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels', 'gt_bboxes_ignore']),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiScaleFlipAug',
        img_scale=(1333, 800),
        flip=False,
        transforms=[
            dict(type='Resize', keep_ratio=True),
            dict(type='RandomFlip'),
            dict(type='Normalize', **img_norm_cfg),
            dict(type='Pad', size_divisor=32),
            dict(type='ImageToTensor', keys=['img']),
            dict(type='Collect', keys=['img']),
        ])
]
data = dict(
    samples_per_gpu=2,
    train=dict(times=1, dataset=dict(min_size=8, pipeline=train_pipeline)),
    val=dict(pipeline=test_pipeline),
    test=dict(pipeline=test_pipeline))
evaluation = dict(metric='mAP')
