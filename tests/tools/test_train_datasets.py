"""Data sets other than COCO's train by tools/train.py and are judged by their own metric; heads follow the classes."""
import json

import pytest

from tests.datasets import formats
from tests.tools.test_train_command import call

CLASSES = ['Pedestrian', 'Car']
# A slim model over the shipped configs' full one.
SLIM = {
    'model.backbone.depth': 18,
    'model.backbone.base_channels': 8,
    'model.backbone.init_cfg': None,
    'model.neck.in_channels': '[8,16,32,64]',
    'model.neck.out_channels': 16,
    'model.rpn_head.in_channels': 16,
    'model.rpn_head.feat_channels': 16,
    'model.roi_head.bbox_roi_extractor.out_channels': 16,
    'model.roi_head.bbox_head.in_channels': 16,
    'model.roi_head.bbox_head.fc_out_channels': 32,
    'model.roi_head.bbox_head.num_classes': 'auto',
    'model.train_cfg.rpn_proposal.nms_pre': 100,
    'model.test_cfg.rpn.nms_pre': 100,
    'runner.max_epochs': 1,
    'data.workers_per_gpu': 0,
    'load_from': None,
}


def words(settings):
    return ['--cfg-options', *(f'{key}={value}' for key, value in settings.items())]


def lists(values):
    return '[' + ','.join(values) + ']'


def of_voc(root):
    paths = formats.write_voc(root / 'VOC2007', formats.draw_things(4))
    train = 'data.train.dataset'
    return 'pascal_voc/faster_rcnn_r50_fpn_1x_voc0712', {
        f'{train}.ann_file': lists([paths['ann_file']]),
        f'{train}.img_prefix': lists([paths['img_prefix']]),
        f'{train}.classes': lists(CLASSES),
        f'{train}.pipeline.2.img_scale': '(160,120)',
        'data.train.times': 1,
        **of_test_splits(paths)
    }


def of_kitti(root):
    paths = formats.write_kitti(root, formats.draw_things(4))
    return 'kitti/faster_rcnn_r50_fpn_kitti', {
        **{
            f'data.train.{key}': value
            for key, value in paths.items()
        }, 'data.train.classes': lists(CLASSES),
        'data.train.pipeline.2.img_scale': '(160,120)',
        **of_test_splits(paths)
    }


def of_test_splits(paths):
    settings = {}
    for split in ('val', 'test'):
        settings.update({f'data.{split}.{key}': value for key, value in paths.items()})
        settings[f'data.{split}.classes'] = lists(CLASSES)
        settings[f'data.{split}.pipeline.1.img_scale'] = '(160,120)'
    return settings


@pytest.mark.parametrize('make, metric', [(of_voc, 'mAP'), (of_kitti, 'moderate_mAP')])
def test_a_data_set_trains_and_is_judged_by_its_own_metric(make, metric, tmp_path):
    config, settings = make(tmp_path / 'data')
    work_dir = tmp_path / 'run'
    call('train.py', f'configs/{config}.py', '--work-dir', work_dir, '--seed', 0,
         *words({
             **SLIM,
             **settings
         }))
    log = next(work_dir.glob('*.log.json')).read_text().splitlines()
    judged = [json.loads(line) for line in log if '"mode": "val"' in line]
    assert len(judged) == 1 and 0 <= judged[0][metric] <= 1
