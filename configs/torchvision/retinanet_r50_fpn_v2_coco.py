# torchvision's retinanet_resnet50_fpn_v2: batch norm that learns, P6 from the backbone, group norm in the head, and
# a loss that compares boxes.
_base_ = './retinanet_r50_fpn_coco.py'
model = dict(
    backbone=dict(norm_cfg=dict(_delete_=True, type='BN', requires_grad=True)),
    neck=dict(add_extra_convs='on_input'),
    bbox_head=dict(
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        reg_decoded_bbox=True,
        loss_bbox=dict(type='GIoULoss')))
load_from = 'torchvision://retinanet_resnet50_fpn_v2'
