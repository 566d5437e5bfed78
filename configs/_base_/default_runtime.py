checkpoint_config = dict(interval=1)  # epochs
log_config = dict(
    interval=50,  # iterations
    hooks=[
        dict(type='TextLoggerHook'),
        # dict(type='TensorboardLoggerHook'),
    ])
custom_hooks = [dict(type='NumClassCheckHook')]  # heads against the classes of the dataset

dist_params = dict(backend='nccl')
log_level = 'INFO'
load_from = None  # weights to start from
resume_from = None  # a run to go on with: weights, optimizer, epoch, random states
workflow = [('train', 1)]  # [('train', 1), ('val', 1)] logs validation losses too

opencv_num_threads = 0  # loader processes are parallel already
mp_start_method = 'fork'  # starts them fastest

# With `enable` (or --auto-scale-lr) the learning rate is scaled by (images in a step) / base_batch_size.
auto_scale_lr = dict(enable=False, base_batch_size=16)
