# Fine-tuning ResNet-50 from ImageNet on CIFAR-10, whose images are enlarged to ImageNet's size.
#
# 1. The bases: a model, a dataset, and how a run logs and saves.
_base_ = [
    '../_base_/models/resnet50.py', '../_base_/datasets/cifar10.py', '../_base_/default_runtime.py'
]
# 2. A head for as many classes as you have.
model = dict(head=dict(num_classes=10, topk=(1, )))
# 3. The images as the pretrained network knows them.
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=False)
train_pipeline = [
    dict(type='RandomCrop', size=32, padding=4),
    dict(type='RandomFlip', flip_prob=0.5, direction='horizontal'),
    dict(type='Resize', size=224),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='ToTensor', keys=['gt_label']),
    dict(type='Collect', keys=['img', 'gt_label']),
]
test_pipeline = [
    dict(type='Resize', size=224),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='Collect', keys=['img']),
]
data = dict(
    samples_per_gpu=128,
    train=dict(pipeline=train_pipeline),
    val=dict(pipeline=test_pipeline, samples_per_gpu=64),
    test=dict(pipeline=test_pipeline, samples_per_gpu=64))
evaluation = dict(metric_options=dict(topk=(1, )), save_best='accuracy_top-1')
# 4. Optimizer and schedule; lr is for 128 images a step.
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy='step', step=[15])
runner = dict(type='EpochBasedRunner', max_epochs=20)
log_config = dict(interval=100)
auto_scale_lr = dict(base_batch_size=128)
# 5. The weights to start from, a path or a URL; the layer whose shape follows the classes starts anew, and the log says so.
load_from = 'https://download.openmmlab.com/mmclassification/v0/resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth'
