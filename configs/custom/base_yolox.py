# The base of yolox.py: YOLOX-s with the weights that its authors trained on COCO (40.5 AP), and a head for as many
# classes as the dataset has.
_base_ = '../yolox/yolox_s_8x8_300e_coco.py'
model = dict(bbox_head=dict(num_classes='auto'))

# Training: 30 epochs, the last 5 on single images instead of mosaics. lr is for 64 images a step and follows their
# number.
auto_scale_lr = dict(enable=True, base_batch_size=64)
lr_config = dict(warmup_iters=1, num_last_epochs=5)  # epochs
runner = dict(max_epochs=30)
custom_hooks = [
    dict(type='YOLOXModeSwitchHook', num_last_epochs=5, priority=48),
    dict(type='SyncNormHook', num_last_epochs=5, interval=1, priority=48),
    dict(type='ExpMomentumEMAHook', momentum=0.0001, priority=49),
]
# Checkpoints, evaluation and logs.
checkpoint_config = dict(interval=1, max_keep_ckpts=3)
evaluation = dict(interval=1, dynamic_intervals=None, classwise=True, save_best='bbox_mAP')
log_config = dict(interval=10)
load_from = 'https://github.com/Megvii-BaseDetection/YOLOX/releases/download/0.1.1rc0/yolox_s.pth'
