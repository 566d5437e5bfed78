_base_ = './fovea_align_r50_fpn_gn-head_mstrain_640-800_4x4_2x_coco.py'
model = dict(
    backbone=dict(
        depth=101, init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet101')))
