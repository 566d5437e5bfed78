# The base of retinanet.py: torchvision's RetinaNet with the weights it learned on COCO (its second version, 41.5 AP),
# and a head for as many classes as the dataset has.
_base_ = '../torchvision/retinanet_r50_fpn_v2_coco.py'
model = dict(bbox_head=dict(num_classes='auto'))

# Training: 12 epochs. lr is for 16 images a step and follows their number.
optimizer = dict(lr=0.01)
auto_scale_lr = dict(enable=True, base_batch_size=16)
optimizer_config = dict(grad_clip=dict(max_norm=35, norm_type=2))
lr_config = dict(warmup_iters=100)
# Checkpoints, evaluation and logs.
checkpoint_config = dict(interval=1, max_keep_ckpts=3)
evaluation = dict(interval=1, classwise=True, save_best='bbox_mAP')
log_config = dict(interval=10)
