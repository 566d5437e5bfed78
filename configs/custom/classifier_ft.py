# Fine-tuning ResNet-50 from ImageNet on images of your own, one folder per class:
#
#   data/custom/train/cat/*.jpg   data/custom/train/dog/*.jpg
#   data/custom/val/cat/*.jpg     data/custom/val/dog/*.jpg
#
# The sorted names of the folders are the classes; both splits need the same ones. What to edit is marked 1 to 3.
_base_ = ['../_base_/models/resnet50.py', '../_base_/default_runtime.py']

# 1. num_classes='auto' counts the folders.
model = dict(
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet50')),
    head=dict(num_classes='auto', topk=(1, )))

# 2. Where the images are.
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='RandomResizedCrop', size=224, scale=(0.25, 1.0)),
    dict(type='RandomFlip', flip_prob=0.5, direction='horizontal'),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='ToTensor', keys=['gt_label']),
    dict(type='Collect', keys=['img', 'gt_label']),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', size=(256, -1)),
    dict(type='CenterCrop', crop_size=224),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='Collect', keys=['img']),
]
data = dict(
    samples_per_gpu=32,
    workers_per_gpu=2,
    train=dict(type='CustomDataset', data_prefix='data/custom/train', pipeline=train_pipeline),
    val=dict(
        type='CustomDataset',
        data_prefix='data/custom/val',
        pipeline=test_pipeline,
        samples_per_gpu=32),
    test=dict(
        type='CustomDataset',
        data_prefix='data/custom/val',
        pipeline=test_pipeline,
        samples_per_gpu=32))
evaluation = dict(
    interval=1, metric='accuracy', metric_options=dict(topk=(1, )), save_best='accuracy_top-1')

# 3. A short schedule with a low rate, for 32 images a step: the pretrained weights are good already.
optimizer = dict(type='SGD', lr=0.005, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=None)
lr_config = dict(
    policy='CosineAnnealing', min_lr=0, warmup='linear', warmup_iters=100, warmup_ratio=0.1)
runner = dict(type='EpochBasedRunner', max_epochs=20)
auto_scale_lr = dict(base_batch_size=32)
checkpoint_config = dict(interval=1, max_keep_ckpts=3)
