# torchvision's retinanet_resnet50_fpn: the settings its weights were trained with, where V2's differ. Normalisation
# does not: RGB, 0..255, with the mean and std of the bases.
_base_ = [
    '../_base_/models/retinanet_r50_fpn.py', '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/schedule_1x.py', '../_base_/default_runtime.py'
]
model = dict(
    backbone=dict(
        norm_cfg=dict(requires_grad=False, eps=0.),  # torchvision froze them so
        init_cfg=None),  # load_from brings the backbone too
    neck=dict(add_extra_convs='on_output', relu_before_extra_convs=True),
    bbox_head=dict(anchor_generator=dict(type='TorchvisionAnchorGenerator')))
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)
load_from = 'torchvision://retinanet_resnet50_fpn'
