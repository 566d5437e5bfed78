# ResNet-50 on ImageNet from scratch, 256 images a step: 32 on each of 8 GPUs.
_base_ = [
    '../_base_/models/resnet50.py', '../_base_/datasets/imagenet_bs32.py',
    '../_base_/schedules/imagenet_bs256.py', '../_base_/default_runtime.py'
]
auto_scale_lr = dict(base_batch_size=256)
