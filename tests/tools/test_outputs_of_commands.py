"""test.py and browse_dataset.py, run in this process: what they write, and that no input is harmed."""
import hashlib
import json
import os
import pickle
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmdet_ft.checkpoints.writing import save
from mmdet_ft.commands import test as test_command
from mmdet_ft.commands.main import run_tool
from mmdet_ft.registry import MODELS
from tests.models.tiny import tiny_config
from .tiny_world import CLASSES, write_world

ROOT = Path(__file__).resolve().parents[2]


def run(tool, monkeypatch, *arguments):
    """The exit code: 0 unless the command ends with another one."""
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
    try:
        run_tool(tool)
    except SystemExit as end:
        return end.code or 0
    return 0


@pytest.fixture
def world(tmp_path):
    """Images, annotations, config, and a random model that finds something everywhere."""
    write_world(tmp_path)
    settings = tiny_config(num_classes=len(CLASSES))
    settings['test_cfg']['rcnn']['score_thr'] = .01
    torch.manual_seed(0)
    model = MODELS.build(settings)
    model.init_weights()
    save(str(tmp_path / 'last.pth'), model.state_dict(), dict(CLASSES=CLASSES))
    with open(tmp_path / 'tiny.py', 'a') as file:
        file.write("\nmodel['test_cfg']['rcnn']['score_thr'] = .01\n")
    return tmp_path


def edited(world, change):
    """val.json with each image record changed."""
    content = json.loads((world / 'val.json').read_text())
    for image in content['images']:
        change(image)
    (world / 'val.json').write_text(json.dumps(content))


def digests(folder):
    return {
        path: hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*')) if path.is_file()
    }


def test_absolute_names_are_painted_below_the_folder_beside_the_truth(world, monkeypatch):
    edited(world, lambda image: image.update(file_name=str(world / 'val' / image['file_name'])))
    before = digests(world / 'val')
    assert run('test', monkeypatch, world / 'tiny.py', world / 'last.pth', '--show-dir',
               world / 'painted', '--show-score-thr', 0, '--device', 'cpu') == 0
    assert digests(world / 'val') == before
    painted = sorted(path.name for path in (world / 'painted').iterdir())
    assert painted == ['0.png', '1.png', '2.png']
    picture = cv2.imread(str(world / 'painted' / '0.png'))
    assert picture.shape[1] == 2 * 3 * 96 + 4  # truth and prediction, three times as large


def test_a_folder_of_the_data_is_refused_before_anything_is_computed(world, monkeypatch, capsys):
    before = digests(world)
    (world / 'link').symlink_to(world / 'val')
    for folder in (world / 'val', world / 'link'):
        assert run('test', monkeypatch, world / 'tiny.py', world / 'last.pth', '--show-dir',
                   folder) == 1
        assert 'choose another folder' in capsys.readouterr().err
    assert run('browse', monkeypatch, world / 'tiny.py', '--not-show', '--output-dir',
               world / 'train') == 1
    assert '--output-dir' in capsys.readouterr().err
    (world / 'link').unlink()
    assert digests(world) == before


def test_two_sets_with_equal_names_lose_no_picture(world, monkeypatch):
    with open(world / 'tiny.py', 'a') as file:
        file.write(f"data['test'].update(ann_file=['{world}/val.json', '{world}/train.json'], "
                   f"img_prefix=['{world}/val/', '{world}/train/'])\n")
    assert run('test', monkeypatch, world / 'tiny.py', world / 'last.pth', '--show-dir',
               world / 'painted') == 0
    assert len(list((world / 'painted').iterdir())) == 7


@pytest.mark.parametrize('name', ['last.pkl', 'val.pkl'])
def test_results_are_not_written_over_the_checkpoint_or_the_annotations(
        world, monkeypatch, capsys, name):
    (world / 'last.pth').rename(world / 'last.pkl')
    (world / 'val.pkl').symlink_to(world / 'val.json')
    before = digests(world)
    assert run('test', monkeypatch, world / 'tiny.py', world / 'last.pkl', '--out',
               world / name) == 1
    assert 'would overwrite' in capsys.readouterr().err
    assert digests(world) == before


def test_results_survive_an_evaluation_that_fails(world, monkeypatch, capsys, caplog):
    from mmdet_ft.datasets.detection.coco import CocoDataset

    def fail(self, *args, metric=None, **options):
        raise RuntimeError('no metric today')

    monkeypatch.setattr(CocoDataset, 'evaluate', fail)
    with pytest.raises(RuntimeError, match='no metric today'):
        run('test', monkeypatch, world / 'tiny.py', world / 'last.pth', '--eval', 'bbox')
    kept, = world.glob('results_*.pkl')
    with open(kept, 'rb') as file:
        assert len(pickle.load(file)) == 3
    assert str(kept) in capsys.readouterr().err


def test_masks_are_not_evaluated_of_a_model_without_them(world, monkeypatch, capsys):
    with open(world / 'tiny.py', 'a') as file:
        file.write("model['type'] = 'FasterRCNN'\nmodel['roi_head'].pop('mask_head')\n"
                   "model['roi_head'].pop('mask_roi_extractor')\n")
    model = MODELS.build(tiny_config(with_mask=False, num_classes=len(CLASSES)))
    save(str(world / 'boxes.pth'), model.state_dict(), dict(CLASSES=CLASSES))
    assert run('test', monkeypatch, world / 'tiny.py', world / 'boxes.pth', '--eval', 'bbox',
               'segm') == 2
    assert 'segm: FasterRCNN of this config has no mask head' in capsys.readouterr().err


def test_one_image_that_cannot_be_painted_does_not_end_the_test(world, monkeypatch, capsys):
    from mmdet_ft.engine.reporting import painting
    write = painting.write_picture

    def sometimes(path, picture):
        if path.endswith('1.png'):
            raise OSError('no space left')
        write(path, picture)

    monkeypatch.setattr(painting, 'write_picture', sometimes)
    assert run('test', monkeypatch, world / 'tiny.py', world / 'last.pth', '--show-dir',
               world / 'painted', '--out', world / 'r.pkl') == 0
    assert 'no picture of 1.png: no space left' in capsys.readouterr().err
    assert len(list((world / 'painted').iterdir())) == 2


def test_browsing_writes_what_opencv_cannot_write_as_png(world, monkeypatch, capsys):
    content = json.loads((world / 'train.json').read_text())
    for image in content['images']:
        name = image['file_name'].replace('.png', '.jfif')
        (world / 'train' / image['file_name']).rename(world / 'train' / name)
        image['file_name'] = name
    (world / 'train' / '2.jfif').write_bytes(b'no image')
    (world / 'train.json').write_text(json.dumps(content))
    assert run('browse', monkeypatch, world / 'tiny.py', '--not-show', '--output-dir',
               world / 'pictures') == 1
    assert sorted(path.name for path in (world / 'pictures').iterdir()) == ['0.png', '3.png']
    assert 'skipped: sample' in capsys.readouterr().err


def test_unknown_show_options_and_devices_are_refused(world, monkeypatch, capsys):
    assert run('test', monkeypatch, world / 'tiny.py', 'x.pth', '--show-dir', 'x', '--show-options',
               'color=1') == 2
    assert 'wait_time' in capsys.readouterr().err
    assert run('test', monkeypatch, world / 'tiny.py', 'x.pth', '--show-dir', 'x', '--device',
               'tpu') == 2
    assert "--device is cpu, cuda or cuda:NUMBER, not 'tpu'" in capsys.readouterr().err


def test_results_of_floats_are_read_back(tmp_path):
    test_command.write(dict(a=np.arange(2)), str(tmp_path / 'deep' / 'r.json'))
    assert json.loads((tmp_path / 'deep' / 'r.json').read_text()) == dict(a=[0, 1])


def test_a_checkpoint_of_other_classes_is_mapped_or_refused_by_name(world, monkeypatch, capsys):
    """Boxes of a class stay those of the class whatever the order of the data; a name that the checkpoint lacks ends
    the test."""
    torch.manual_seed(0)
    model = MODELS.build(tiny_config(num_classes=len(CLASSES)))
    model.init_weights()
    save(str(world / 'a.pth'), model.state_dict(), dict(CLASSES=CLASSES))
    found = {}
    for classes in (CLASSES, CLASSES[::-1], CLASSES[1:2]):
        out = world / 'out.pkl'
        assert run('test', monkeypatch, world / 'tiny.py', world / 'a.pth', '--out', out,
                   '--cfg-options',
                   f'data.test.classes={list(classes)}') == 0, capsys.readouterr().err
        found[classes] = pickle.loads(out.read_bytes())
    for index, (boxes, masks) in enumerate(found[CLASSES]):
        turned, one = found[CLASSES[::-1]][index], found[CLASSES[1:2]][index]
        assert len(turned[0]) == len(CLASSES) and len(one[0]) == len(one[1]) == 1
        for mine, theirs in zip(boxes, turned[0][::-1]):
            np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_array_equal(boxes[1], one[0][0])
        assert masks[1] == one[1][0]
    save(str(world / 'b.pth'), model.state_dict(), dict(CLASSES=('x', *CLASSES[1:])))
    assert run('test', monkeypatch, world / 'tiny.py', world / 'b.pth', '--eval', 'bbox') == 1
    assert 'data.test has classes that it does not know' in capsys.readouterr().err


def test_a_config_in_its_own_work_dir_is_not_written_over(world):
    from mmdet_ft.config import Config
    from mmdet_ft.engine.environment import open_log
    before = (world / 'tiny.py').read_text()
    cfg = Config.fromfile(world / 'tiny.py')
    cfg.work_dir = str(world)
    _, timestamp, meta = open_log(cfg)
    assert (world / 'tiny.py').read_text() == before
    assert meta['exp_name'] == f'tiny_{timestamp}.py' and (world / meta['exp_name']).is_file()
    cfg.work_dir = str(world / 'run')
    assert open_log(cfg)[2]['exp_name'] == 'tiny.py' and (world / 'run' / 'tiny.py').is_file()


def test_training_takes_the_device_as_an_option(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
    for device, said in (('tpu', "not 'tpu'"), ('cpu', 'nowhere.py')):
        assert run('train', monkeypatch, tmp_path / 'nowhere.py', '--device', device) in (1, 2)
        assert said in capsys.readouterr().err
    assert os.environ['CUDA_VISIBLE_DEVICES'] == ''


def test_results_of_classes_without_a_folder_have_a_number_for_a_name(tmp_path):
    from mmdet_ft.datasets.classification.folder import ClassFolders
    for name in ('ant', 'bee'):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / '0.png'), np.zeros((4, 4, 3), np.uint8))
    items = ClassFolders(str(tmp_path),
                         []).result_items([np.array([.1, .9, 0]),
                                           np.array([0, 0, 1.])])
    assert items['pred_class'] == ['bee', 2]


def test_a_work_dir_that_is_a_file_is_refused_before_the_images_are_run(world, monkeypatch, capsys):
    (world / 'file').write_text('mine')
    monkeypatch.setattr(test_command, 'single_gpu_test', None)  # not called
    for option in ('--work-dir', '--show-dir'):
        code = run('test', monkeypatch, world / 'tiny.py', world / 'last.pth', '--eval', 'bbox',
                   option, world / 'file')
        assert code == 1 and f'{option} {world / "file"}: ' in capsys.readouterr().err
    code = run('test', monkeypatch, world / 'tiny.py', world / 'last.pth', '--out',
               world / 'file/results.pkl')
    assert code == 1 and 'file is a file; name a folder' in capsys.readouterr().err
