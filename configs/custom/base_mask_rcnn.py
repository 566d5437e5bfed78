# What mask_rcnn.py stands on: torchvision's Mask R-CNN with the weights it learnt on COCO, and heads for as many
# classes as the data set has.
_base_ = '../torchvision/mask_rcnn_r50_fpn_coco.py'
model = dict(roi_head=dict(bbox_head=dict(num_classes='auto'), mask_head=dict(num_classes='auto')))

# How it learns: 12 rounds through the data. lr is for 16 images a step and follows their number.
optimizer = dict(lr=0.02)
auto_scale_lr = dict(enable=True, base_batch_size=16)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(warmup_iters=100)
# What it keeps and tells.
checkpoint_config = dict(interval=1, max_keep_ckpts=3)
evaluation = dict(interval=1, classwise=True, save_best='bbox_mAP')
log_config = dict(interval=10)
