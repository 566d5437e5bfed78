# torchvision's maskrcnn_resnet50_fpn; see faster_rcnn_r50_fpn_coco.py.
_base_ = [
    '../_base_/models/mask_rcnn_r50_fpn.py', '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/schedule_1x.py', '../_base_/default_runtime.py'
]
model = dict(
    backbone=dict(norm_cfg=dict(requires_grad=False, eps=0.), init_cfg=None),
    rpn_head=dict(anchor_generator=dict(type='TorchvisionAnchorGenerator')),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=2, aligned=False)),
        mask_roi_extractor=dict(roi_layer=dict(sampling_ratio=2, aligned=False))))
load_from = 'torchvision://maskrcnn_resnet50_fpn'
