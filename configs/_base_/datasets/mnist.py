# MNIST, its digits enlarged to 32 x 32; the four files are fetched to data/mnist if they are not there.
dataset_type = 'MNIST'
img_norm_cfg = dict(mean=[33.46], std=[78.87], to_rgb=True)
train_pipeline = [
    dict(type='Resize', size=32),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='ToTensor', keys=['gt_label']),
    dict(type='Collect', keys=['img', 'gt_label']),
]
test_pipeline = [
    dict(type='Resize', size=32),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='Collect', keys=['img']),
]
data = dict(
    samples_per_gpu=128,
    workers_per_gpu=2,
    train=dict(type=dataset_type, data_prefix='data/mnist', pipeline=train_pipeline),
    val=dict(type=dataset_type, data_prefix='data/mnist', pipeline=test_pipeline, test_mode=True),
    test=dict(type=dataset_type, data_prefix='data/mnist', pipeline=test_pipeline, test_mode=True))
evaluation = dict(interval=1, metric='accuracy')
