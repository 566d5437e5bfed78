# torchvision's fasterrcnn_resnet50_fpn_v2: batch norm that learns, also in the neck and the heads, two RPN
# convolutions, four convolutions in the box head.
_base_ = './faster_rcnn_r50_fpn_coco.py'
norm_cfg = dict(type='BN', requires_grad=True)
model = dict(
    backbone=dict(norm_cfg=dict(_delete_=True, **norm_cfg)),
    neck=dict(norm_cfg=norm_cfg),
    rpn_head=dict(num_convs=2),
    roi_head=dict(bbox_head=dict(type='Shared4Conv1FCBBoxHead', norm_cfg=norm_cfg)))
load_from = 'torchvision://fasterrcnn_resnet50_fpn_v2'
