optimizer = dict(type='SGD', lr=0.8, momentum=0.9, weight_decay=0.0001, nesterov=True)
optimizer_config = dict(grad_clip=None)
lr_config = dict(
    policy='step', warmup='linear', warmup_iters=2500, warmup_ratio=0.25, step=[30, 60, 90])
runner = dict(type='EpochBasedRunner', max_epochs=100)
