_base_ = './fovea_r50_fpn_4x4_2x_coco.py'
model = dict(
    bbox_head=dict(with_deform=True, norm_cfg=dict(type='GN', num_groups=32, requires_grad=True)))
optimizer_config = dict(_delete_=True, grad_clip=dict(max_norm=35, norm_type=2))
