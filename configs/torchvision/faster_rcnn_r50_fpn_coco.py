# torchvision's fasterrcnn_resnet50_fpn: the settings its weights were trained with, where V2's differ. Normalisation
# does not: RGB, 0..255, with the mean and std of the bases.
_base_ = [
    '../_base_/models/faster_rcnn_r50_fpn.py', '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py', '../_base_/default_runtime.py'
]
model = dict(
    backbone=dict(
        norm_cfg=dict(requires_grad=False, eps=0.),  # torchvision froze them so
        init_cfg=None),  # load_from brings the backbone too
    rpn_head=dict(anchor_generator=dict(type='TorchvisionAnchorGenerator')),
    roi_head=dict(bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=2, aligned=False))))
load_from = 'torchvision://fasterrcnn_resnet50_fpn'
