# Fine-tuning MobileNetV2 from ImageNet on CIFAR-10, small enough for a CPU. The weights are arrays whose batch norm is
# folded into the convolutions; tools/model_converters/npz_to_pth.py makes a checkpoint of them.
# Without such arrays: mobilenet_v2_torchvision_ft.py, whose weights are fetched.
_base_ = [
    '../_base_/models/mobilenet_v2_1x.py', '../_base_/datasets/cifar10.py',
    '../_base_/default_runtime.py'
]
# norm_eval: the statistics that come with the weights stay. For weights whose batch norm is not folded leave it out.
model = dict(backbone=dict(norm_eval=True), head=dict(num_classes=10, topk=(1, )))
img_norm_cfg = dict(mean=[127., 127., 127.], std=[127.5, 127.5, 127.5], to_rgb=False)
train_pipeline = [
    dict(type='RandomCrop', size=32, padding=4),
    dict(type='RandomFlip', flip_prob=0.5, direction='horizontal'),
    dict(type='Resize', size=96),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='ToTensor', keys=['gt_label']),
    dict(type='Collect', keys=['img', 'gt_label']),
]
test_pipeline = [
    dict(type='Resize', size=96),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='Collect', keys=['img']),
]
data = dict(
    samples_per_gpu=32,
    train=dict(pipeline=train_pipeline),
    val=dict(pipeline=test_pipeline, samples_per_gpu=64),
    test=dict(pipeline=test_pipeline, samples_per_gpu=64))
evaluation = dict(metric_options=dict(topk=(1, )), save_best='accuracy_top-1')
# Folded weights differ much in size from layer to layer: AdamW's steps follow that, SGD's do not.
optimizer = dict(type='AdamW', lr=0.0005, weight_decay=0.01)
optimizer_config = dict(grad_clip=None)
lr_config = dict(
    policy='CosineAnnealing',
    min_lr=0,
    by_epoch=False,
    warmup='linear',
    warmup_iters=20,
    warmup_ratio=0.1)
runner = dict(type='EpochBasedRunner', max_epochs=5)
auto_scale_lr = dict(base_batch_size=32)
load_from = 'mobilenet_v2.pth'
