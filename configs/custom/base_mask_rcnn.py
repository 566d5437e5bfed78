# Base of mask_rcnn.py: torchvision's Mask R-CNN with the weights trained on COCO, and heads for as many
# classes as the dataset has.
_base_ = '../torchvision/mask_rcnn_r50_fpn_coco.py'
model = dict(roi_head=dict(bbox_head=dict(num_classes='auto'), mask_head=dict(num_classes='auto')))

# Schedule: 12 epochs. lr is for 16 images a step, and is scaled to their number.
optimizer = dict(lr=0.02)
auto_scale_lr = dict(enable=True, base_batch_size=16)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(warmup_iters=100)
# Checkpoints, evaluation and log.
checkpoint_config = dict(interval=1, max_keep_ckpts=3)
evaluation = dict(interval=1, classwise=True, save_best='bbox_mAP')
log_config = dict(interval=10)
