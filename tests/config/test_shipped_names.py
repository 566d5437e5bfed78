"""Configs that come with the package are named from anywhere."""
import os

import pytest

from mmdet_ft.config import Config, ConfigNotFoundError, load_config, shipped

NAME = 'retinanet/retinanet_r50_fpn_1x_coco'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize('scope', ['mmdet_ft::', 'mmdet::', 'mmcls::'])
def test_a_base_is_named_by_its_scope(elsewhere, scope):
    (elsewhere / 'a.py').write_text(f"_base_ = '{scope}{NAME}.py'\noptimizer = dict(lr=.5)\n")
    config = load_config('a.py')
    assert config.model.type == 'RetinaNet' and config.optimizer.lr == .5
    assert config.where('model.backbone.type').endswith(
        f'configs{os.sep}_base_{os.sep}models{os.sep}retinanet_r50_fpn.py:5')
    whole = Config.fromfile(shipped.scoped_path(f'{scope}{NAME}'))
    assert config.model == whole.model


@pytest.mark.parametrize('name, text', [
    ('b.py', "_base_ = ['mmdet_ft::_base_/default_runtime.py', 'mine.py']\n"),
    ('b.py', "_base_ = ('mine.py', 'mmdet_ft::_base_/default_runtime')\n"),
    ('b.yaml', '_base_: ["mmdet::_base_/default_runtime.py", mine.py]\n'),
    ('b.json', '{"_base_": ["mmdet::_base_/default_runtime.py", "./mine.py"]}\n'),
])
def test_bases_of_both_kinds_are_joined(elsewhere, name, text):
    (elsewhere / 'mine.py').write_text('a = 1\n')
    (elsewhere / name).write_text(text)
    config = load_config(name)
    assert config.a == 1 and config.log_config.interval == 50


@pytest.mark.parametrize('name', [
    f'mmdet_ft::{NAME}', f'mmdet::{NAME}.py', f'{NAME}.py', NAME, f'configs/{NAME}.py',
    'retinanet_r50_fpn_1x_coco'
])
def test_a_command_takes_the_name_of_a_shipped_config(name):
    path = shipped.find_config(name)
    assert os.path.isabs(path) and path.endswith(f'{NAME}.py') and os.path.isfile(path)
    assert load_config(name).model.type == 'RetinaNet'


def test_a_path_that_exists_is_taken_first(elsewhere):
    (elsewhere / 'retinanet').mkdir()
    (elsewhere / f'{NAME}.py').write_text('mine = True\n')
    assert load_config(f'{NAME}.py').mine
    assert 'mine' not in load_config(f'mmdet_ft::{NAME}')


def test_a_file_name_alone_is_that_of_a_file_of_the_user(elsewhere):
    """custom/mask_rcnn.py is shipped, and what is meant by mask_rcnn.py is not known."""
    assert shipped.find_config('mask_rcnn.py') == 'mask_rcnn.py'
    (elsewhere / 'mask_rcnn.py').write_text('mine = True\n')
    assert shipped.find_config('mask_rcnn') == 'mask_rcnn'  # answered with its ending
    with pytest.raises(OSError, match="did you mean 'mask_rcnn.py'?"):
        load_config('mask_rcnn')


@pytest.mark.parametrize('name, near', [
    ('mmdet_ft::retinanet/retinanet_r50_fpn_1x_cocco.py',
     "did you mean 'mmdet_ft::retinanet/retinanet_r50_fpn_1x_coco.py' or"),
    ('retinanet/retina_r50_fpn_1x_coco', "did you mean 'retinanet/retinanet_r50_fpn_1x_coco.py'"),
    ('faster_rcnn/retinanet_r50_fpn_1x_coco.py',
     "did you mean 'retinanet/retinanet_r50_fpn_1x_coco.py'?"),
    ('retinanet_r50_fpn_1x_cocco', "did you mean 'retinanet/retinanet_r50_fpn_1x_coco.py'"),
    ('mmdet::xyz', 'no config mmdet::xyz'),
])
def test_a_misspelt_name_is_answered_with_the_nearest(name, near):
    with pytest.raises(ConfigNotFoundError) as error:
        load_config(name)
    assert near in str(error.value)


def test_a_missing_file_in_a_folder_of_the_user_is_not_looked_for_elsewhere(elsewhere):
    (elsewhere / 'my').mkdir()
    (elsewhere / 'my/pets.py').write_text('a = 1\n')
    with pytest.raises(ConfigNotFoundError, match="no config my/petz.py; did you mean 'pets.py'?"):
        load_config('my/petz.py')


def test_every_shipped_config_has_one_name():
    assert len(shipped.names()) > 250 and NAME + '.py' in shipped.names()
    for name in shipped.names():
        assert shipped.find_config(f'mmdet_ft::{name[:-3]}') == shipped.find_config(name)
