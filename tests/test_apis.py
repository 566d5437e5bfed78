"""The functions for scripts and notebooks take a config in every form in which people have one."""
import pytest
import torch

from mmdet_ft import apis
from mmdet_ft.config import CheckError, load_config
from mmdet_ft.errors import UserError
from tests.tools.tiny_world import CLASSES, write_world


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp('world')
    write_world(root)
    model = apis.init_detector(str(root / 'tiny.py'), device='cpu')
    torch.save(dict(meta=dict(CLASSES=CLASSES), state_dict=model.state_dict()), root / 'last.pth')
    return root


def forms(path):
    config = load_config(path)
    return [str(path), path, config, config._cfg_dict, config._cfg_dict.to_dict()]


def test_a_detector_is_made_from_every_form_of_a_config(world):
    for config in forms(world / 'tiny.py'):
        model = apis.init_detector(config, world / 'last.pth', 'cpu')
        assert model.CLASSES == CLASSES and not model.training


def test_a_reference_in_a_config_is_followed_as_the_commands_do(world):
    (world / 'heir.py').write_text(
        "_base_ = 'tiny.py'\ndata = dict(test=dict(classes='${names}'))\nnames = ['a', 'b', 'c']\n")
    assert apis.init_detector(world / 'heir.py', device='cpu').CLASSES == ('a', 'b', 'c')


@pytest.mark.parametrize('arguments, words', [
    (('last.pth', 'tiny.py'), "is a checkpoint, expected a config; the arguments are (config, checkpoint)"),
    (('tiny.py', 'tiny.py'), 'is a config, expected a checkpoint'),
    ((3, None), 'config must be the path of a file, a Config or a dict of its values, not a int'),
])  # yapf: disable
def test_what_is_no_config_or_no_checkpoint_is_told(world, monkeypatch, arguments, words):
    monkeypatch.chdir(world)
    with pytest.raises(UserError) as caught:
        apis.init_detector(*arguments, device='cpu')
    assert words in str(caught.value)
    with pytest.raises(UserError, match='a checkpoint is a path or a URL, not a dict'):
        apis.test('tiny.py', {})


@pytest.mark.parametrize('change, words', [
    ({'model.neck.out_channel': 3}, "FPN has no 'out_channel'"),
    ({'model.backbone': None}, 'model.backbone: must be a dict, not None'),
    ({'model': None}, 'the config has no model'),
])  # yapf: disable
def test_a_mistake_in_a_model_is_told_as_by_the_commands(world, change, words):
    config = load_config(world / 'tiny.py')
    if change == {'model': None}:
        config.model = None
        change = None
    with pytest.raises(CheckError) as caught:
        apis.init_detector(config, device='cpu', cfg_options=change)
    assert words in str(caught.value)


def test_training_takes_a_dict_and_names_what_it_lacks(world):
    for train in (apis.train, lambda cfg: apis.train_detector(None, None, cfg)):
        for config in forms(world / 'tiny.py')[2:]:
            with pytest.raises(UserError, match='work_dir'):
                train(config)
        with pytest.raises(UserError, match=r'got the path .*; write cfg = load_config\('):
            train(world / 'tiny.py')
        with pytest.raises(UserError, match='got a NoneType'):
            train(None)


def test_build_detector_says_which_part_of_a_config_it_takes(world):
    config = load_config(world / 'tiny.py')
    assert type(apis.build_detector(config.model.to_dict())).__name__ == 'MaskRCNN'
    for wrong, words in ((config, r'of a config: build_detector\(cfg.model\)'), (str(world),
                                                                                 r'load_config\(')):
        with pytest.raises(UserError, match=words):
            apis.build_detector(wrong)
