"""What a run takes from its data set: the number of classes, and how many detections count."""
import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest

from mmdet_ft.checkpoints import reading
from mmdet_ft.config import CheckError, Config
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.evaluate import count_all_detections
from mmdet_ft.engine.models.build import build_model, count_classes
from tests.models.tiny import tiny_config


def test_auto_is_the_number_of_classes_everywhere_in_a_model():
    settings = tiny_config(num_classes=3)
    wanted = copy.deepcopy(settings)
    for head in ('bbox_head', 'mask_head'):
        settings['roi_head'][head]['num_classes'] = 'auto'
    model = build_model(settings, SimpleNamespace(CLASSES=('a', 'b', 'c')))
    heads = model.roi_head
    assert heads.bbox_head.num_classes == heads.mask_head.num_classes == 3
    assert settings['roi_head']['bbox_head']['num_classes'] == 'auto'  # the config stays
    count_classes(settings, ('a', 'b', 'c'))
    assert settings == wanted


def test_auto_without_classes_says_what_to_write():
    settings = dict(heads=[dict(num_classes='auto')])
    with pytest.raises(UserError, match=r"model.heads.0.num_classes='auto'.*classes=\(\.\.\.\)"):
        count_classes(settings, None)


@pytest.mark.parametrize('name', [
    'mask_rcnn', 'mask_rcnn_small', 'mask_rcnn_slim', 'faster_rcnn', 'faster_rcnn_small',
    'faster_rcnn_slim'
])
def test_the_custom_configs_say_paths_and_classes_alone(name):
    path = f'configs/custom/{name}.py'
    code = [line for line in open(path) if line.strip() and not line.startswith('#')]
    assert len(code) < 12 and not any('num_classes' in line or 'model' in line for line in code)
    config, notes = prepare(Config.fromfile(path))
    assert notes == []
    settings = copy.deepcopy(config.model)
    count_classes(settings, config.data.train.classes)
    assert settings.roi_head.bbox_head.num_classes == 2
    for split in ('train', 'val', 'test'):
        assert config.data[split].classes == ('cat', 'dog')


@pytest.mark.parametrize('name', ['retinanet', 'yolox'])
def test_the_custom_configs_of_one_stage_say_paths_and_classes_alone(name):
    path = f'configs/custom/{name}.py'
    code = [line for line in open(path) if line.strip() and not line.startswith('#')]
    assert len(code) < 13 and not any('num_classes' in line or 'model' in line for line in code)
    config, notes = prepare(Config.fromfile(path))
    assert notes == []
    train = config.data.train
    classes = train.get('dataset', train).classes
    assert classes == config.data.val.classes == config.data.test.classes == ('cat', 'dog')
    count_classes(config.model, classes)
    assert config.model.bbox_head.num_classes == 2


def test_all_heads_of_the_cascade_for_own_data_follow_the_classes():
    config, notes = prepare(Config.fromfile('configs/custom/cascade_mask_rcnn.py'))
    published = Config.fromfile('configs/cascade_rcnn/cascade_mask_rcnn_r50_fpn_1x_coco.py').model
    settings = copy.deepcopy(config.model)
    assert notes == [] and count_classes(settings, config.data.train.classes) == 4
    heads = [*settings.roi_head.bbox_head, settings.roi_head.mask_head]
    assert [head.num_classes for head in heads] == [2] * 4
    assert count_classes(config.model, CocoDataset.CLASSES) == 4 and config.model == published


def test_yolox_for_own_data_ends_without_mosaics():
    config, _ = prepare(Config.fromfile('configs/custom/yolox.py'))
    lasting = {hook.type: hook.get('num_last_epochs') for hook in config.custom_hooks}
    assert lasting['YOLOXModeSwitchHook'] == lasting['SyncNormHook'] == 5
    assert config.lr_config.num_last_epochs == 5 < config.runner.max_epochs
    assert config.load_from.endswith('/yolox_s.pth')


def test_the_slim_config_starts_from_a_file_that_is_here():
    config, _ = prepare(Config.fromfile('configs/custom/mask_rcnn_slim.py'))
    count_classes(config.model, config.data.train.classes)
    config.model.train_cfg = None
    model = build_model(config.model, SimpleNamespace(CLASSES=('cat', 'dog')))
    ours, theirs = model.state_dict(), reading.read(config.load_from).state_dict
    other = {name for name in ours if name not in theirs or theirs[name].shape != ours[name].shape}
    assert len(ours) > 100 and {name.rpartition('.')[0]
                                for name in other} == {
                                    'roi_head.bbox_head.fc_cls', 'roi_head.bbox_head.fc_reg',
                                    'roi_head.mask_head.conv_logits'
                                }
    assert not any('://' in str(value)
                   for value in (config.load_from, config.model.backbone.init_cfg))


def test_options_of_coco_for_another_metric_are_answered_with_the_line_to_write():
    config, notes = prepare(Config.fromfile('configs/custom/faster_rcnn_voc.py'))
    assert notes == [] and config.evaluation == dict(interval=1, metric='mAP', save_best='mAP')
    config.evaluation.classwise = True
    with pytest.raises(
            CheckError,
            match="evaluation.classwise: is of CocoDataset and its like; data.val is of XMLDataset: "
            "write evaluation=dict.*metric='mAP'"):
        prepare(config)


def test_the_classifier_for_own_data_keeps_three_checkpoints():
    assert Config.fromfile('configs/custom/classifier_ft.py').checkpoint_config.max_keep_ckpts == 3


def model_of(max_per_img, one_stage=False):
    settings = dict(max_per_img=max_per_img)
    test_cfg = settings if one_stage else dict(rpn=dict(max_per_img=1000), rcnn=settings)
    return dict(test_cfg=test_cfg)


@pytest.mark.parametrize('one_stage', [True, False])
def test_more_than_100_detections_count_when_the_model_gives_them(one_stage, tmp_path):
    dataset, _ = crowded(tmp_path)
    for most, wanted in ((100, {}), (50, {}), (300, dict(max_dets=300))):
        options = {}
        count_all_detections(model_of(most, one_stage), dataset, options)
        assert options == wanted
    options = dict(max_dets=200)
    count_all_detections(model_of(300), dataset, options)
    assert options == dict(max_dets=200)

    class Mine:

        def evaluate(self, results, logger=None):
            """Without max_dets."""

    options = {}
    count_all_detections(model_of(300), Mine(), options)
    assert options == {}


def crowded(tmp_path, number=150):
    """A set of one image with `number` objects, and its truth as results, best score first."""
    boxes = [[20 * (index % 15), 20 * (index // 15), 18, 18] for index in range(number)]
    annotations = [
        dict(id=index + 1, image_id=1, category_id=1, bbox=box, area=18 * 18, iscrowd=0)
        for index, box in enumerate(boxes)
    ]
    content = dict(
        images=[dict(id=1, file_name='a.jpg', width=300, height=300)],
        annotations=annotations,
        categories=[dict(id=1, name='ant')])
    path = tmp_path / 'ants.json'
    path.write_text(json.dumps(content))
    dataset = CocoDataset(str(path), [], classes=('ant', ), test_mode=True)
    found = np.array([[x, y, x + w, y + h, 1 - index / 1000]
                      for index, (x, y, w, h) in enumerate(boxes)], np.float32)
    return dataset, [[found]]


def test_an_image_of_150_objects_scores_one_with_max_dets_alone(tmp_path, capsys):
    dataset, results = crowded(tmp_path)
    usual = dataset.evaluate(results, logger='silent')
    assert usual['bbox_mAP'] == pytest.approx(2 / 3, abs=.01)  # 100 of 150
    assert usual['bbox_mAP_50'] == 1  # of 1000, as in V2
    values = dataset.evaluate(results, max_dets=150, classwise=True)
    assert values['bbox_mAP'] == 1 and values['bbox_mAP_copypaste'].startswith('1.0000 1.0000')
    assert 'maxDets=150 ] = 1.000' in capsys.readouterr().out
    values = dataset.evaluate(results, max_dets=300, logger='silent')
    assert values['bbox_mAP'] == 1
