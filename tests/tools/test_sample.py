"""The drawn sample: Cityscapes' layout, reproducible, and a shipped checkpoint that is what it says."""
import hashlib
import importlib.util
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmdet_ft.commands.main import run_tool

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / 'tools' / 'sample'
CONFIGS = ROOT / 'configs' / 'sample'
CHECKPOINT = CONFIGS / 'mask_rcnn_slim_80.pth'
EIGHT = ('person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle')


@pytest.fixture(scope='module')
def sample():
    """The modules of tools/sample, which import each other as scripts do."""
    sys.path.insert(0, str(SAMPLE))
    try:
        import shape_scenes
        import street_scenes
        yield street_scenes, shape_scenes
    finally:
        sys.path.remove(str(SAMPLE))


def test_scene_is_a_function_of_its_seed(sample):
    streets, shapes = sample
    first, again, other = (streets.Scene(seed, 256, 128) for seed in (1, 1, 2))
    assert (first.image == again.image).all() and (first.label_maps()[1]
                                                   == again.label_maps()[1]).all()
    assert (first.image != other.image).any()
    assert (shapes.draw_scene(3)[0] == shapes.draw_scene(3)[0]).all()


def test_instance_ids_agree_with_label_ids_and_polygons(sample):
    streets, _ = sample
    for seed in range(6):
        scene = streets.Scene(seed)
        labels, instances = scene.label_maps()
        counted = instances >= 1000
        assert (labels[counted] == instances[counted] // 1000).all()
        assert (labels[~counted] == instances[~counted]).all()
        assert set(np.unique(instances[counted]) //
                   1000) <= {streets.LABEL_IDS[name]
                             for name in EIGHT}
        document = scene.polygons()
        painted = np.zeros_like(labels)
        for thing in document['objects']:
            cv2.fillPoly(painted, [np.int32(thing['polygon'])],
                         streets.LABEL_IDS[thing['label'].replace('group', '')])
        assert (document['imgHeight'], document['imgWidth']) == labels.shape and (painted
                                                                                  == labels).all()


def test_every_class_is_drawn(sample):
    streets, shapes = sample
    drawn = {label for seed in range(12) for label, _, _ in streets.Scene(seed).objects}
    assert set(EIGHT) <= drawn
    rng = np.random.default_rng(0)
    camera = streets.Street(256, 128, rng).camera
    for name in shapes.CLASSES:
        parts, _ = shapes.draw_shape(name, camera, rng)
        assert parts.polygons and np.isfinite(
            np.concatenate([points for points, _ in parts.polygons])).all(), name


def test_pretraining_classes_are_eighty_others_and_those_of_the_config(sample):
    from mmdet_ft.config import Config
    _, shapes = sample
    assert len(set(shapes.CLASSES)) == 80 and not set(shapes.CLASSES) & set(EIGHT)
    assert tuple(Config.fromfile(
        CONFIGS / 'mask_rcnn_slim_80.py').data.train.dataset.classes) == shapes.CLASSES


def load_tool(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def folder(sample, tmp_path_factory):
    """Three drawn scenes on disk, converted."""
    root = tmp_path_factory.mktemp('cityscapes')
    for split, count in (('train', 2), ('val', 1)):
        for index in range(count):
            sample[0].write_scene(root, split, index, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys, 'argv',
            ['cityscapes.py', str(root), '--out-dir',
             str(root / 'annotations')])
        run_tool('convert cityscapes')
    return root


def test_files_lie_as_in_cityscapes(folder):
    stem = folder / 'gtFine' / 'train' / 'lindau' / 'lindau_000000_000019_gtFine'
    instances = cv2.imread(f'{stem}_instanceIds.png', cv2.IMREAD_UNCHANGED)
    assert instances.dtype == np.uint16 and instances.shape == (256, 512)
    assert instances.max() >= 24000
    assert cv2.imread(f'{stem}_labelIds.png', cv2.IMREAD_UNCHANGED).dtype == np.uint8
    assert json.loads(Path(f'{stem}_polygons.json').read_text())['objects']


def test_converted_sample_is_drawn_beside_predictions(folder):
    from mmdet_ft.datasets.detection.cityscapes import CityscapesDataset
    dataset = CityscapesDataset(
        ann_file=str(folder / 'annotations' / 'instancesonly_filtered_gtFine_train.json'),
        img_prefix=str(folder / 'leftImg8bit' / 'train'),
        pipeline=[],
        test_mode=True)
    assert len(dataset) == 2 and len(dataset.get_ann_info(0)['labels'])
    nothing = [np.zeros((0, 5), np.float32)] * 8
    drawer = load_tool(SAMPLE / 'draw_results.py')
    picture = drawer.draw(dataset, 0, (nothing, [[] for _ in range(8)]), .5)
    truth, prediction = picture[-256:, :512], picture[-256:, -512:]
    image = cv2.imread(str(folder / 'leftImg8bit' / 'train' / dataset.data_infos[0]['filename']))
    assert (prediction == image).all() and (truth != image).any()


def test_annotation_of_a_shape_covers_its_mask(sample):
    from pycocotools import mask as coco_mask
    _, shapes = sample
    mask = np.zeros((60, 80), bool)
    mask[10:30, 20:50] = True
    found = shapes.annotate(mask)
    assert found['area'] == 600 and found['bbox'] == [20, 10, 30, 20]
    decoded = coco_mask.decode(
        coco_mask.merge(coco_mask.frPyObjects(found['segmentation'], 60, 80)))
    assert np.logical_xor(
        decoded, mask).sum() < 110  # a polygon through pixel centres loses half a pixel around
    assert shapes.annotate(np.zeros((60, 80), bool)) is None


def test_shipped_checkpoint_is_what_its_facts_say():
    facts = json.loads(CHECKPOINT.with_suffix('.json').read_text())
    content = CHECKPOINT.read_bytes()
    assert hashlib.sha256(content).hexdigest() == facts['sha256']
    assert len(content) <= 5 * 2**20
    checkpoint = torch.load(CHECKPOINT, map_location='cpu', weights_only=True)
    assert len(checkpoint['meta']['CLASSES']) == 80 and 'MaskRCNN' in checkpoint['meta']['config']
    assert {value.dtype
            for value in checkpoint['state_dict'].values()} <= {torch.float16, torch.int64}


def test_slim_model_takes_all_but_the_heads_of_the_shipped_checkpoint():
    from mmdet_ft.checkpoints import fitting, reading
    from mmdet_ft.config import Config
    from mmdet_ft.registry import MODELS
    cfg = Config.fromfile(CONFIGS / 'mask_rcnn_slim_ft.py')
    assert Path(cfg.load_from) == CHECKPOINT
    model = MODELS.build(cfg.model)
    report = fitting.fit(model, reading.read(str(CHECKPOINT)))
    changed = {name.rsplit('.', 1)[0] for name, _, _ in report.reinitialised}
    assert changed == {
        'roi_head.bbox_head.fc_cls', 'roi_head.bbox_head.fc_reg', 'roi_head.mask_head.conv_logits'
    }
    assert not report.missing and not report.unexpected and not report.mismatched
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_scratch_differs_from_fine_tuning_in_the_weights_only():
    from mmdet_ft.config import Config
    fine_tuned, scratch = (
        Config.fromfile(CONFIGS / f'mask_rcnn_slim_{name}.py') for name in ('ft', 'scratch'))
    assert scratch.load_from is None and fine_tuned.load_from
    fine_tuned.load_from = None
    assert scratch.pretty_text == fine_tuned.pretty_text
