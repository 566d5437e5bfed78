"""Every way in which a config names a checkpoint."""
import os
import pathlib

import pytest
import torch

from mmdet_ft.checkpoints import sources
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.sources import first_available, resolve


@pytest.fixture
def fetched(monkeypatch):
    """Names stand for URLs; nothing is fetched."""
    monkeypatch.setattr(sources, 'fetch', lambda url: url)


@pytest.mark.parametrize('name,url', [
    ('torchvision://resnet50', 'https://download.pytorch.org/models/resnet50-0676ba61.pth'),
    ('modelzoo://resnet50', 'https://download.pytorch.org/models/resnet50-0676ba61.pth'),
    ('torchvision://resnet50.imagenet1k_v2',
     'https://download.pytorch.org/models/resnet50-11ad3fa6.pth'),
    ('torchvision://maskrcnn_resnet50_fpn',
     'https://download.pytorch.org/models/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth'),
    ('https://a.org/b.pth', 'https://a.org/b.pth'),
])
def test_torchvisions_names_stand_for_urls(fetched, name, url):
    assert resolve(name) == url


@pytest.mark.parametrize('name,end', [
    ('open-mmlab://detectron2/resnet50_caffe', 'third_party/resnet50_msra-5891d200.pth'),
    ('open-mmlab://resnet50_caffe', 'third_party/resnet50_caffe-788b5fa3.pth'),
    ('openmmlab://detectron/resnet50_caffe', 'third_party/resnet50_caffe-788b5fa3.pth'),
    ('mmcls://vgg16', 'vgg16_batch256_imagenet_20210208-db26f1a5.pth'),
])
def test_openmmlabs_names_stand_for_urls(fetched, name, end):
    pytest.importorskip('mmengine')
    assert resolve(name).startswith('https://download.openmmlab.com/') and resolve(name).endswith(
        end)


@pytest.mark.parametrize('name,words', [
    ('torchvision://resnet51', 'has no model'),
    ('torchvision://resnet50.imagenet1k_v9', 'imagenet1k_v1, imagenet1k_v2'),
    ('s3://bucket/a.pth', 'nothing is fetched by s3://; write a path'),
    ('nowhere.pth', 'nowhere.pth does not exist (looked from '),
    ('.', 'is a folder'),
    ('/dev/null', 'is a device or pipe'),
    ('loop.pth', 'is a link that leads nowhere'),
])
def test_a_name_that_leads_nowhere_is_explained(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    os.symlink('loop.pth', 'loop.pth')
    with pytest.raises(CheckpointError) as error:
        resolve(name)
    assert words in str(error.value)


def test_a_misspelt_name_of_openmmlab_is_answered_with_the_nearest():
    pytest.importorskip('mmengine')
    with pytest.raises(CheckpointError, match='did you mean .*detectron2/resnet50_caffe'):
        resolve('open-mmlab://detectron2/resnet50_cafe')


def test_without_mmengine_its_names_say_what_to_do(monkeypatch):
    monkeypatch.setattr(sources, 'find_spec', lambda _: None)
    with pytest.raises(CheckpointError, match='pip install mmengine, or write the URL'):
        resolve('open-mmlab://resnet50_caffe')


def test_files_of_the_disk_are_found_however_they_are_written(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    path = tmp_path / 'a b.pth'
    torch.save({}, path)
    for source in (str(path), path, '~/a b.pth', path.as_uri(), [pathlib.Path('nowhere'), path]):
        assert first_available(source)[1] == str(path)


def test_no_alternative_at_all_is_a_sentence():
    with pytest.raises(CheckpointError, match='no checkpoint is named'):
        first_available([])
