# torchvision's maskrcnn_resnet50_fpn_v2; see faster_rcnn_r50_fpn_v2_coco.py.
_base_ = './mask_rcnn_r50_fpn_coco.py'
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(norm_cfg=dict(_delete_=True, **norm_cfg)),
    neck=dict(norm_cfg=norm_cfg),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg)))
load_from = 'torchvision://maskrcnn_resnet50_fpn_v2'
