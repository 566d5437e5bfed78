"""No command writes over a file that it has read: each is told to, by a link to its input, and refuses."""
import hashlib
import importlib.util
import json
import pickle
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmdet_ft import apis
from mmdet_ft.checkpoints.writing import save
from mmdet_ft.deploy.export.writing import export, read_input_format
from mmdet_ft.errors import UserError
from mmdet_ft.registry import MODELS
from tests.datasets import formats
from tests.models.tiny import tiny_config
from .tiny_world import CLASSES, write_world

TOOLS = Path(__file__).resolve().parents[2] / 'tools'
IMAGES = formats.draw_things(2)


def load_tool(name):
    path = TOOLS / name
    spec = importlib.util.spec_from_file_location(f'guarded_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name, monkeypatch, words):
    """The exit code or message of a command: 0 where it did what it was told."""
    monkeypatch.setattr(sys, 'path', list(sys.path))
    monkeypatch.setattr(sys, 'argv', [name, *map(str, words)])
    try:
        runpy.run_path(str(TOOLS / name), run_name='__main__')
        return 0
    except SystemExit as end:
        return end.code or 0


def digests(folder):
    return {
        path.relative_to(folder): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob('*')) if path.is_file() and not path.is_symlink()
    }


def link(path, source):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(source)
    return path


# ------------------------------------------------------------------------------ what each command is told


def of_world(root):
    """A config with a base, images, annotations, a checkpoint and results of it."""
    write_world(root)
    (root / 'base.json').write_text(json.dumps(dict(custom_hooks=[])))
    text = (root / 'tiny.py').read_text()
    (root / 'tiny.py').write_text("_base_ = 'base.json'\n" + text)
    model = MODELS.build(tiny_config(num_classes=len(CLASSES)))
    save(str(root / 'last.pth'), model.state_dict(), dict(CLASSES=CLASSES))
    nothing = [np.zeros((0, 5), np.float32) for _ in CLASSES]
    (root / 'results.pkl').write_bytes(pickle.dumps([nothing] * 3))
    return root / 'tiny.py'


def of_test(root):
    return [
        of_world(root), root / 'last.pth', '--out',
        link(root / 'over.pkl', root / 'base.json'), '--device', 'cpu'
    ]


def of_predict(root):
    config = of_world(root)
    return [
        root / 'last.pth', root / 'val', '--config', config, '--device', 'cpu', '--out',
        root / 'out', '--json',
        link(root / 'over.json', root / 'base.json')
    ]


def of_eval_metric(root):
    link(root / 'over.bbox.json', root / 'val.json')
    return [
        of_world(root), root / 'results.pkl', '--eval', 'bbox', '--eval-options',
        f'jsonfile_prefix={root}/over'
    ]


def of_format_only(root):
    return [
        *of_eval_metric(root)[:2], '--format-only', '--eval-options', f'jsonfile_prefix={root}/over'
    ]


def of_confusion_matrix(root):
    link(root / 'matrix' / 'confusion_matrix.csv', root / 'val.json')
    return [of_world(root), root / 'results.pkl', root / 'matrix']


def of_logs(root):
    root.mkdir(exist_ok=True)
    log = root / 'run.log.json'
    log.write_text(''.join(
        json.dumps(dict(mode='train', epoch=1, iter=step, loss=1. / step)) + '\n'
        for step in (1, 2, 3)))
    return ['plot_curve', log, '--keys', 'loss', '--out', link(root / 'over.png', log)]


def of_html(root):
    return [
        of_world(root), '--workers', 0, '--html',
        link(root / 'over.html', root / 'train' / '0.png')
    ]


def of_browse(root):
    (root / 'maps').mkdir()
    cv2.imwrite(str(root / 'maps' / '0.png'), np.zeros((64, 96), np.uint8))
    return [
        of_world(root), '--not-show', '--output-dir', root / 'maps', '--cfg-options',
        f'data.train.seg_prefix={root}/maps'
    ]


def of_drawing(root):
    return [of_world(root), root / 'results.pkl', '--out', root / 'val']


def of_inspect(root):
    return [
        of_world_checkpoint(root), root / 'tiny.py', '--json',
        link(root / 'over.json', root / 'base.json')
    ]


def of_world_checkpoint(root):
    of_world(root)
    return root / 'last.pth'


def of_publish(root):
    of_world_checkpoint(root).rename(root / 'mine.unnamed')
    return [root / 'mine.unnamed', root / 'mine.pth']


def of_upgrade(root):
    return [of_world_checkpoint(root), link(root / 'over.pth', root / 'last.pth')]


def of_npz(root):
    np.savez(root / 'a.npz', x=np.zeros(2))
    return [root / 'a.npz', link(root / 'over.pth', root / 'a.npz')]


def of_converter(write, source):

    def words(root):
        write(root, IMAGES)
        return [root, '--force', '--out', link(root.parent / 'over.json', root / source)]

    return words


def of_via(root):
    formats.write_images(root, IMAGES)
    (root / 'via.json').write_text(json.dumps({'a': dict(filename='image_0.jpg', regions=[])}))
    return [root / 'via.json', '--force', '--out', link(root / 'over.json', root / 'image_0.jpg')]


def wider_list(root):
    formats.write_images(root, IMAGES)
    (root / 'list.txt').write_text('image_0.jpg\n1\n10 10 20 20 0 0 0 0 0 0\n')
    return [root / 'list.txt', root, '--force', '--out']


def of_wider(root):
    return [*wider_list(root), link(root / 'over.json', root / 'image_0.jpg')]


def of_wider_voc(root):
    link(root / 'Annotations' / 'image_0.xml', root / 'list.txt')
    return [*wider_list(root), root / 'names.txt', '--voc', root]


def of_masks(root):
    formats.write_images(root / 'images', IMAGES)
    (root / 'masks').mkdir()
    mask = np.zeros((formats.HEIGHT, formats.WIDTH), np.uint8)
    mask[5:30, 5:30] = 255
    cv2.imwrite(str(root / 'masks' / 'image_0.png'), mask)
    return [root, '--force', '--out', link(root / 'over.json', root / 'masks' / 'image_0.png')]


def of_images(root):
    formats.write_images(root / 'images', IMAGES)
    (root / 'classes.txt').write_text('cat\n')
    link(root / 'annotations' / 'over.json', root / 'images' / 'image_0.jpg')
    return [root / 'images', root / 'classes.txt', 'over', '--force']


def of_coco(root):
    """A json, and a file to write that is a link to it."""
    formats.write_images(root / 'images', IMAGES)
    source = root / 'all.json'
    source.write_text(
        json.dumps(
            dict(
                images=[dict(id=1, file_name='images/image_0.jpg', width=64, height=48)],
                categories=[dict(id=1, name='cat')],
                annotations=[
                    dict(id=1, image_id=1, category_id=1, bbox=[4, 4, 9, 9], area=81, iscrowd=0)
                ])))
    return [source, '--out', link(root / 'out.json', source)]


def of_yolo(root):
    formats.write_images(root / 'images', IMAGES)
    (root / 'labels').mkdir()
    (root / 'labels' / 'image_0.txt').write_text('0 .5 .5 .2 .2\n')
    out = link(root / 'out.json', root / 'labels' / 'image_0.txt')
    return [root / 'images', '--classes', 'cat', '--out', out, '--force']


def of_cvat(root):
    formats.write_images(root / 'images', IMAGES)
    source = root / 'annotations.xml'
    source.write_text('<annotations><version>1.1</version><meta/></annotations>')
    return [source, '--out', link(root / 'out.json', source), '--force']


def of_label_studio(root):
    source = root / 'tasks.json'
    source.write_text('[]')
    return [source, '--out', link(root / 'out.json', source), '--force']


def of_cityscapes(root):
    name = 'a_000000_000000_'
    for folder, ending, kind in (('leftImg8bit', 'leftImg8bit.png', np.uint8),
                                 ('gtFine', 'gtFine_instanceIds.png', np.uint16)):
        (root / folder / 'train' / 'a').mkdir(parents=True)
        cv2.imwrite(str(root / folder / 'train' / 'a' / (name + ending)), np.full((8, 8), 26, kind))
    link(root / 'out' / 'instancesonly_filtered_gtFine_train.json',
         root / 'leftImg8bit' / 'train' / 'a' / f'{name}leftImg8bit.png')
    return [root, '--out-dir', root / 'out', '--force']


def of_split(root):
    formats.write_coco_json(root, IMAGES)
    link(root / 'annotations_val.json', root / 'image_1.jpg')
    return [root / 'annotations.json', '--img-prefix', root, '--val', .5, '--force']


def of_split_folders(root):
    for name in ('cat', 'dog'):
        formats.write_images(root / name, IMAGES)
    link(root / 'classes.txt', root / 'cat' / 'image_0.jpg')
    return [root, '--val', .5, '--force']


def of_onnx(root):
    over = link(root / 'over.onnx', root / 'base.json')
    return [of_world(root), root / 'last.pth', '--output-file', over]


def of_onnx_test(root):
    model = apis.init_detector(str(of_world(root)), str(root / 'last.pth'), device='cpu')
    export(model, str(root / 'last.onnx'), read_input_format(model, model.cfg.data.test.pipeline))
    over = link(root / 'over.pkl', root / 'base.json')
    return [root / 'tiny.py', root / 'last.onnx', '--out', over]


CASES = [
    ('test.py', of_test),
    ('deployment/pytorch2onnx.py', of_onnx),
    ('deployment/test.py', of_onnx_test),
    ('predict.py', of_predict),
    ('analysis_tools/eval_metric.py', of_eval_metric),
    ('analysis_tools/eval_metric.py', of_format_only),
    ('analysis_tools/confusion_matrix.py', of_confusion_matrix),
    ('analysis_tools/analyze_logs.py', of_logs),
    ('misc/check_data.py', of_html),
    ('misc/browse_dataset.py', of_browse),
    ('misc/split_dataset.py', of_split),
    ('misc/split_dataset.py', of_split_folders),
    ('sample/draw_results.py', of_drawing),
    ('model_converters/inspect_checkpoint.py', of_inspect),
    ('model_converters/publish_model.py', of_publish),
    ('model_converters/upgrade_model_version.py', of_upgrade),
    ('model_converters/npz_to_pth.py', of_npz),
    ('dataset_converters/voc.py', of_converter(formats.write_voc, 'JPEGImages/image_0.jpg')),
    ('dataset_converters/voc.py', of_converter(formats.write_voc, 'Annotations/image_0.xml')),
    ('dataset_converters/kitti.py', of_converter(formats.write_kitti, 'image_2/image_0.png')),
    ('dataset_converters/labelme.py', of_converter(formats.write_labelme, 'image_0.json')),
    ('dataset_converters/labelme.py', of_converter(formats.write_labelme, 'image_0.jpg')),
    ('dataset_converters/via.py', of_via),
    ('dataset_converters/wider_face.py', of_wider),
    ('dataset_converters/wider_face.py', of_wider_voc),
    ('dataset_converters/masks_to_coco.py', of_masks),
    ('dataset_converters/images2coco.py', of_images),
    ('dataset_converters/coco2cvat.py', of_coco),
    ('dataset_converters/coco2label_studio.py', of_coco),
    ('dataset_converters/yolo.py', of_yolo),
    ('dataset_converters/cvat.py', of_cvat),
    ('dataset_converters/label_studio.py', of_label_studio),
    ('dataset_converters/cityscapes.py', of_cityscapes),
]
WITHOUT = {  # the rest of tools/, and why it is not among the cases
    'train.py': 'writes into its work_dir alone; a load_from that lies there is told of',
    'dataset_converters/coco2yolo.py': 'writes into a folder that is not there yet',
    'misc/print_config.py': 'writes no file',
    'misc/replay.py': 'writes no file',
    'misc/check_script.py': 'writes no file',
    'misc/check_configs.py': 'writes no file',
    'analysis_tools/get_flops.py': 'writes no file',
    'sample/pretrain.py': 'trains for 44 minutes; what it writes is tested below',
    'sample/quick_start.py': 'reads no file of the user',
    'sample/drawing.py': 'no command',
    'sample/street_scenes.py': 'draws what it writes',
    'sample/shape_scenes.py': 'draws what it writes',
}


def test_every_command_is_here_or_says_why_not():
    names = {path.relative_to(TOOLS).as_posix() for path in TOOLS.rglob('*.py')}
    names = {name
             for name in names
             if not name.startswith('benchmarks/')}  # they draw their data; --out is added to
    assert names == {name for name, _ in CASES} | set(WITHOUT)


@pytest.mark.parametrize('name, words', CASES, ids=lambda value: getattr(value, '__name__', value))
def test_no_command_writes_over_what_it_reads(name, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / 'data'
    root.mkdir()
    words = words(root)
    before = digests(tmp_path)
    code = run(name, monkeypatch, words)
    said = capsys.readouterr()
    assert code, said.out
    text = code if isinstance(code, str) else said.err
    assert 'would overwrite' in text and 'Traceback' not in text, text
    after = digests(tmp_path)
    assert {path: after.get(path) for path in before} == before


def test_nor_do_the_functions_of_a_notebook(tmp_path):
    from mmdet_ft.datasets.build import build_dataset
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), np.zeros((32, 32, 3), np.uint8))
    before = digests(tmp_path)
    model = MODELS.build(tiny_config())
    model.CLASSES, model.PALETTE = ('cat', 'dog', 'owl'), None
    nothing = [np.zeros((0, 5), np.float32)] * 3
    with pytest.raises(UserError, match='would overwrite'):
        apis.show_result_pyplot(model, str(path), nothing, out_file=str(path))
    assert digests(tmp_path) == before
    of_world(tmp_path / 'world')
    root = tmp_path / 'world'
    dataset = build_dataset(
        dict(
            type='CocoDataset',
            ann_file=str(root / 'val.json'),
            img_prefix=str(root / 'val'),
            classes=CLASSES,
            pipeline=[],
            test_mode=True))
    link(root / 'over.bbox.json', root / 'val.json')
    before = digests(tmp_path)
    for write in (dataset.format_results, dataset.evaluate):
        with pytest.raises(UserError, match='jsonfile_prefix .*would overwrite'):
            write([nothing] * 3, jsonfile_prefix=str(root / 'over'))
    assert digests(tmp_path) == before


def test_nor_does_what_writes_the_checkpoint_of_the_quick_start(tmp_path):
    path = tmp_path / 'latest.pth'
    torch.save(dict(meta={}, state_dict=dict(x=torch.zeros(2))), path)
    before = digests(tmp_path)
    with pytest.raises(UserError, match='would overwrite'):
        load_tool('sample/pretrain.py').shrink(path, path, dict(seed=0))
    assert digests(tmp_path) == before
