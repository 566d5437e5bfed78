"""V2's names in V2's places: what is the same is given, and of the rest it is said what to write."""
import importlib
import logging

import numpy as np
import pytest
import torch

from mmdet_ft import apis
from mmdet_ft.config import Config
from mmdet_ft.engine.errors import UserError
from mmdet_ft.inference import pictures
from tests.models.tiny import tiny_config
from tests.tools.tiny_world import CLASSES, write_world


@pytest.mark.parametrize('module, names', [
    ('apis', 'train_detector train_model single_gpu_test multi_gpu_test set_random_seed init_random_seed '
             'get_root_logger init_detector inference_detector show_result_pyplot init_dist'),
    ('models', 'build_detector DETECTORS FasterRCNN MaskRCNN ResNet build_classifier'),
    ('models.builder', 'build_detector BACKBONES NECKS HEADS'),
    ('datasets', 'build_dataset build_dataloader CocoDataset replace_ImageToTensor'),
    ('datasets.builder', 'build_dataset build_dataloader DATASETS PIPELINES'),
    ('core', 'DistEvalHook EvalHook BitmapMasks'),
    ('utils', 'get_root_logger collect_env replace_cfg_vals update_data_root'),
])  # yapf: disable
def test_names_of_v2_are_found_where_its_scripts_look(module, names):
    for name in names.split():
        assert callable(
            getattr(importlib.import_module(f'mmdet_ft.{module}'), name).build if name.isupper(
            ) else getattr(importlib.import_module(f'mmdet_ft.{module}'), name)), name


@pytest.mark.parametrize('module, name, answer', [
    ('apis', 'async_inference_detector', 'inference_detector'),
    ('core', 'multiclass_nms', 'model.results'),
    ('core', 'eval_map', 'dataset.evaluate'),
    ('core', 'get_classes', 'CocoDataset.CLASSES'),
    ('models.builder', 'build_backbone', 'MODELS.build'),
    ('utils', 'setup_multi_processes', 'nothing'),
    ('models', 'BaseDetector', 'extending.md'),
    ('apis', 'MMDataParallel', 'the model itself goes into train_detector'),
    ('core', 'wrap_fp16_model', 'fp16 in the config'),
])
def test_of_what_is_no_more_it_is_said_what_to_write(module, name, answer):
    with pytest.raises(
            ImportError, match=f'mmdet_ft.{module} has no {name} of MMDetection V2') as error:
        exec(f'from mmdet_ft.{module} import {name}')
    assert answer in str(error.value)


def test_other_names_are_missing_as_in_any_module():
    for module in ('apis', 'models', 'core', 'datasets.builder'):
        assert not hasattr(importlib.import_module(f'mmdet_ft.{module}'), 'nonsense')
        assert not hasattr(importlib.import_module(f'mmdet_ft.{module}'), 'Nonsense')


def test_a_script_of_v2_trains_the_model_that_it_built(tmp_path):
    """The tutorial: build both, train, look at the model."""
    from mmdet_ft.apis import set_random_seed, single_gpu_test, train_detector
    from mmdet_ft.datasets import build_dataloader, build_dataset
    from mmdet_ft.models import build_detector
    cfg = Config.fromfile(write_world(tmp_path))
    cfg.work_dir = str(tmp_path / 'run')
    cfg.seed = 0
    cfg.gpu_ids = [0]
    cfg.runner.max_epochs = 1
    set_random_seed(0, deterministic=False)
    datasets = [build_dataset(cfg.data.train)]
    model = build_detector(cfg.model, train_cfg=cfg.get('train_cfg'), test_cfg=cfg.get('test_cfg'))
    model.init_weights()
    model.CLASSES = datasets[0].CLASSES
    before = model.backbone.state_dict()['layer2.0.conv1.weight'].clone()
    runner = train_detector(model, datasets, cfg, distributed=False, validate=False)
    assert getattr(runner.model, 'module', runner.model) is model
    assert not model.backbone.state_dict()['layer2.0.conv1.weight'].equal(before)
    assert (tmp_path / 'run' / 'latest.pth').exists()
    cfg.data.test.test_mode = True
    loader = build_dataloader(
        build_dataset(cfg.data.test),
        samples_per_gpu=1,
        workers_per_gpu=0,
        dist=False,
        shuffle=False)
    results = single_gpu_test(model, loader, False, str(tmp_path / 'painted'), 0.)
    assert len(results) == 3 and len(list((tmp_path / 'painted').iterdir())) == 3
    metrics = loader.dataset.evaluate(results, metric=['bbox'])
    again = apis.test(None, str(tmp_path / 'run' / 'latest.pth'), 'bbox', 'cpu')
    assert {key: again[key] for key in metrics} == metrics
    turned = apis.test(None, str(tmp_path / 'run' / 'latest.pth'), 'bbox', 'cpu',
                       {'data.test.classes': list(reversed(CLASSES))})
    assert turned['bbox_mAP'] == metrics['bbox_mAP']  # by name, in whatever order
    assert apis.test(
        None, str(tmp_path / 'run' / 'latest.pth'), device='cpu').keys() >= metrics.keys()
    with pytest.raises(UserError, match='says what to measure'):
        apis.test(None, str(tmp_path / 'run' / 'latest.pth'), [], 'cpu')


def test_train_says_how_a_path_is_read_and_that_work_dir_is_to_be_set():
    with pytest.raises(UserError, match=r"cfg = load_config\('pets.py'\)"):
        apis.train('pets.py')
    with pytest.raises(UserError, match='cfg.work_dir = '):
        apis.train(Config(dict(model=dict(type='MaskRCNN'))))


def test_settings_of_training_are_given_once():
    settings = tiny_config(num_classes=2)
    train_cfg = settings.pop('train_cfg')
    model = apis.build_detector(settings, train_cfg=train_cfg)
    assert model.CLASSES is None
    with pytest.raises(UserError, match='is in the model already'):
        apis.build_detector(dict(settings, train_cfg=train_cfg), train_cfg=train_cfg)
    settings['roi_head']['bbox_head']['num_classes'] = 'auto'
    with pytest.raises(UserError, match="num_classes='auto' needs to know the classes"):
        apis.build_detector(settings)
    with pytest.raises(UserError, match='cfg.work_dir'):
        apis.train_detector(model, [], Config(dict(model=settings)))


def test_a_script_goes_on_as_in_v2_with_the_model_that_it_trained(tmp_path):
    """The rest of the tutorial: give the model its config, look at an image, show it with V2's arguments."""
    cfg = Config.fromfile(write_world(tmp_path))
    image = str(tmp_path / 'val' / '0.png')
    with pytest.raises(UserError, match=r'build_detector\(cfg.model\)'):
        apis.build_detector(cfg)
    with pytest.raises(
            UserError,
            match='config must be the path of a file, a Config or a dict of its values, not a int'):
        apis.init_detector(3)
    model = apis.build_detector(cfg.model)
    with pytest.raises(UserError, match='model.cfg = cfg'):
        apis.inference_detector(model, image)
    model.cfg = cfg
    result = apis.inference_detector(model, image)
    with pytest.raises(UserError, match='model.CLASSES = '):
        model.show_result(image, result)
    model.CLASSES = CLASSES
    color = (72, 101, 241)
    shown = model.show_result(image, result, 0., color, color, None, 2, 13, '', False, 0,
                              str(tmp_path / 'shown.png'))
    assert (tmp_path / 'shown.png').exists()
    named = apis.show_result_pyplot(
        torch.nn.DataParallel(model),
        image,
        result,
        0.,
        palette=color,
        out_file=str(tmp_path / 'b.png'))
    assert np.array_equal(named, shown)
    wrapped = apis.inference_detector(torch.nn.DataParallel(model), image)
    assert [len(boxes) for boxes in wrapped[0]] == [len(boxes) for boxes in result[0]]


def test_palettes_are_named_as_in_v2():
    coco = importlib.import_module('mmdet_ft.datasets').CocoDataset.PALETTE
    assert pictures.read_palette('coco', 3) == coco
    assert pictures.read_palette('green', 2) == [[0, 128, 0]] * 2
    assert pictures.read_palette((1, 2, 3), 2) == [[1, 2, 3]] * 2
    assert pictures.read_palette([(1, 2, 3)], 1) == [(1, 2, 3)]
    assert pictures.read_palette(None, 4) is None and len(pictures.read_palette('random', 4)) == 4
    with pytest.raises(UserError, match="palette 'grean': it is coco, voc, citys, random, a color"):
        pictures.read_palette('grean', 2)


def test_a_class_is_shown_with_the_arguments_of_mmclassification(tmp_path):
    backbone = dict(type='ResNet', depth=18, base_channels=4, stem_channels=4, out_indices=(3, ))
    model = apis.build_classifier(
        dict(
            type='ImageClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=32)))
    model.CLASSES = ('cat', 'dog')
    model.cfg = Config(
        dict(
            data=dict(
                test=dict(pipeline=[
                    dict(type='LoadImageFromFile'),
                    dict(type='Normalize', mean=[0., 0., 0.], std=[1., 1., 1.]),
                    dict(type='ImageToTensor', keys=['img']),
                    dict(type='Collect', keys=['img'])
                ]))))
    image = np.zeros((40, 50, 3), np.uint8)
    best = apis.inference_model(model, image)
    assert best['pred_class'] in model.CLASSES
    out_file = str(tmp_path / 'class.png')
    shown = model.show_result(
        image,
        best,
        text_color='red',
        font_scale=.5,
        row_width=20,
        fig_size=(15, 10),
        out_file=out_file)
    again = apis.show_result_pyplot(
        model, image, best, fig_size=(15, 10), title='a', out_file=out_file)
    assert shown.any() and np.array_equal(shown, again)


def test_image_to_tensor_is_replaced_as_in_v2():
    pipeline = [
        dict(type='MultiScaleFlipAug', transforms=[dict(type='ImageToTensor', keys=['img'])])
    ]
    with pytest.warns(UserWarning, match='DefaultFormatBundle'):
        changed = apis.replace_ImageToTensor(pipeline)
    assert changed[0]['transforms'] == [dict(type='DefaultFormatBundle')]
    assert pipeline[0]['transforms'][0]['type'] == 'ImageToTensor'


def test_seeds_repeat_and_loggers_take_numbers():
    apis.set_random_seed(3)
    first = np.random.rand()
    apis.set_random_seed(3)
    assert np.random.rand() == first and apis.init_random_seed(5) == 5
    assert apis.get_root_logger(log_level=logging.INFO).level == logging.INFO
