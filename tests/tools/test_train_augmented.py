"""One run with everything that V2's users switch on beside the defaults."""
import torch

from mmdet_ft.checkpoints import reading
from .test_train_command import rows, test, train
from .tiny_world import write_world

EVERYTHING = '''
_base_ = './tiny.py'
inner = dict(
    type='CocoDataset', classes=('box', 'bar', 'dot'), ann_file='{root}/train.json', img_prefix='{root}/train/',
    filter_empty_gt=False,
    pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True)])
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
mixing = [
    dict(type='Mosaic', img_scale=(64, 96), pad_val=114.0),
    dict(type='MixUp', img_scale=(64, 96), ratio_range=(0.8, 1.6)),
    dict(type='RandomShift', shift_ratio=0.5, max_shift_px=16),
    dict(type='PhotoMetricDistortion'),
    dict(type='Expand', mean=img_norm_cfg['mean'], to_rgb=True, ratio_range=(1, 2)),
    dict(type='MinIoURandomCrop', min_ious=(0.1, 0.3), min_crop_size=0.3),
    dict(type='RandomCrop', crop_type='relative_range', crop_size=(0.6, 0.6), allow_negative_crop=True),
    dict(type='CutOut', n_holes=(1, 3), cutout_shape=[(4, 4), (8, 8)]),
    dict(type='Resize', img_scale=(96, 64), keep_ratio=False),
    dict(type='RandomFlip', flip_ratio=0.5),
    dict(type='Normalize', **img_norm_cfg),
    dict(type='Pad', size_divisor=32),
    dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels', 'gt_masks'])
]
data = dict(train=dict(_delete_=True, type='MultiImageMixDataset', dataset=inner, pipeline=mixing))
lr_config = dict(_delete_=True, policy='cyclic', target_ratio=(10, 1e-4), cyclic_times=1, step_ratio_up=0.4)
momentum_config = dict(policy='cyclic', target_ratio=(0.85 / 0.95, 1), cyclic_times=1, step_ratio_up=0.4)
optimizer = dict(lr=0.001)
optimizer_config = dict(type='GradientCumulativeOptimizerHook', cumulative_iters=2)
custom_hooks = [dict(type='ExpMomentumEMAHook', total_iter=10, momentum=0.01, priority=49)]
evaluation = dict(save_best=None)
'''


def test_a_run_with_everything_trains_resumes_and_is_tested(tmp_path):
    write_world(tmp_path, empty=(1, ))
    config = tmp_path / 'everything.py'
    config.write_text(EVERYTHING.replace('{root}', str(tmp_path)))
    train(config, '--work-dir', tmp_path / 'whole', '--seed', '1')
    losses = [row['loss'] for row in rows(tmp_path / 'whole') if row.get('mode') == 'train']
    assert len(losses) == 2 and all(0 < loss < 100 for loss in losses)
    whole = reading.read(str(tmp_path / 'whole/epoch_2.pth'))
    assert any(name.startswith('ema_backbone_') for name in whole.state_dict)

    train(config, '--work-dir', tmp_path / 'rest', '--seed', '1', '--resume-from',
          tmp_path / 'whole/epoch_1.pth')
    rest = reading.read(str(tmp_path / 'rest/epoch_2.pth'))
    assert rest.state_dict.keys() == whole.state_dict.keys()
    assert all(
        torch.equal(rest.state_dict[name], value) for name, value in whole.state_dict.items())
    out, _ = test(config, tmp_path / 'rest/epoch_2.pth', '--eval', 'bbox')
    assert 'bbox_mAP' in out
