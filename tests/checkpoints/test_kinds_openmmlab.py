"""Files of MMDetection 1 to 3, MMClassification and MMPretrain."""
import copy

import pytest
import torch
import torch.nn.functional as F
import torchvision

from mmdet_ft.checkpoints.fitting import fit
from mmdet_ft.checkpoints.formats.table import convert
from mmdet_ft.checkpoints.reading import read, read_state_dict
from mmdet_ft.config import Config
from mmdet_ft.ops.normalize import normalize_images
from mmdet_ft.registry import MODELS
from tests.checkpoints.test_kinds_torchvision import CONFIGS, shapes
from tests.models.test_mask_scoring import scoring_config
from tests.models.test_v2_parts import c4
from tests.models.tiny import tiny_batch, tiny_cascade_config, tiny_config, tiny_model

CLASSES = ('cat', 'dog', 'bird')


def in_version_1(state_dict, seed=0):
    """The same detector as MMDetection 1 would have saved it: heads at the top, the background first."""
    generator = torch.Generator().manual_seed(seed)
    old = {}
    for name, value in state_dict.items():
        layer = name.split('.')[-2]
        if layer == 'fc_cls':
            value = torch.cat([value[-1:], value[:-1]])
        elif layer in ('conv_logits', 'fc_mask_iou') or layer == 'fc_reg' and len(value) > 4:
            rows = 4 if layer == 'fc_reg' else 1
            unused = torch.randn(rows, *value.shape[1:], generator=generator)
            value = torch.cat([unused, value])  # of the background; nothing reads them
        old[name.replace('roi_head.', '')] = value
    return old


def test_version_1_comes_back_as_it_was(tmp_path):
    model = tiny_model()
    meta = dict(
        mmdet_version='1.0rc1+9f9ffc2', CLASSES=CLASSES, config='/configs/a.py\nmodel = dict()')
    torch.save(dict(meta=meta, state_dict=in_version_1(model.state_dict())), tmp_path / 'old.pth')
    checkpoint = read(str(tmp_path / 'old.pth'))
    assert {
        name: value.tolist()
        for name, value in checkpoint.state_dict.items()
    } == {
        name: value.tolist()
        for name, value in model.state_dict().items()
    }
    assert checkpoint.origin.kind == 'MMDetection 1.0'
    assert 'classes: 4 rows with the background first -> 3' in checkpoint.origin.changes[1]
    report = fit(tiny_model(seed=1), checkpoint)
    text = str(report)
    assert 'old.pth (MMDetection 1.0): loaded' in text and 'configs/legacy_1.x' in text
    assert len(text.splitlines()) == 4


def test_version_1_comes_back_with_its_deformable_convolutions_and_its_shared_head():
    config = c4()
    dcn = dict(type='DCN', deform_groups=1)
    config['backbone'].update(depth=50, base_channels=8, dcn=dcn, stage_with_dcn=(False, True))
    ours = MODELS.build(config).state_dict()
    assert 'backbone.layer2.0.conv2.conv_offset.bias' in ours
    old = {
        name.replace('conv2.conv_offset', 'conv2_offset'): value
        for name, value in in_version_1(ours).items()
    }
    assert 'shared_head.layer2.0.conv1.weight' in old and 'backbone.layer2.0.conv2_offset.bias' in old
    converted, origin = convert(old, {}, {})
    assert shapes(converted) == shapes(ours) and origin.kind == 'MMDetection 1'


def test_version_1_comes_back_with_its_cascade_and_its_scored_masks():
    for ours in (MODELS.build(tiny_cascade_config()).state_dict(),
                 MODELS.build(tiny_cascade_config(agnostic=False)).state_dict(),
                 MODELS.build(scoring_config()).state_dict()):
        converted, origin = convert(in_version_1(ours), {}, {})
        assert origin.kind == 'MMDetection 1' and shapes(converted) == shapes(ours)
        assert all(torch.equal(converted[name], value) for name, value in ours.items())


def test_version_1_is_known_without_meta_and_by_shape():
    config = Config.fromfile(CONFIGS.parent / 'legacy_1.x' / 'mask_rcnn_r50_fpn_1x_coco_v1.py')
    with torch.device('meta'):
        ours = MODELS.build(config.model).state_dict()
    converted, origin = convert(in_version_1_shapes(ours), {}, {})
    assert shapes(converted) == shapes(ours)
    assert origin.kind == 'MMDetection 1' and origin.classes[0] == 'person'


def in_version_1_shapes(state_dict):
    rows = dict(fc_cls=81, fc_reg=324, conv_logits=81)
    return {
        name.replace('roi_head.', ''):
        value.new_empty(
            (rows.get(name.split('.')[-2], len(value)), *value.shape[1:])) if value.dim() else value
        for name, value in state_dict.items()
    }


def legacy_tiny_config():
    """The tiny detector under the settings of configs/legacy_1.x."""
    model = tiny_config()
    legacy = Config.fromfile(CONFIGS.parent / 'legacy_1.x' /
                             'mask_rcnn_r50_fpn_1x_coco_v1.py').model
    for key in ('type', 'center_offset'):
        model['rpn_head']['anchor_generator'][key] = legacy.rpn_head.anchor_generator[key]
    model['rpn_head']['bbox_coder'] = dict(legacy.rpn_head.bbox_coder)
    model['roi_head']['bbox_head']['bbox_coder'] = dict(legacy.roi_head.bbox_head.bbox_coder)
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        model['roi_head'][name]['roi_layer'] = dict(legacy.roi_head[name].roi_layer)
    return model


def test_under_the_legacy_settings_outputs_are_those_of_version_1(tmp_path):
    torch.manual_seed(0)
    source = MODELS.build(legacy_tiny_config())
    source.init_weights()
    head = source.roi_head.bbox_head
    torch.nn.init.normal_(head.fc_cls.weight, std=1.)
    torch.nn.init.normal_(head.fc_reg.weight, std=1.)
    old = in_version_1(source.state_dict())
    torch.save(
        dict(state_dict=old, meta=dict(mmdet_version='0.6.0', CLASSES=CLASSES)),
        tmp_path / 'old.pth')

    model = MODELS.build(legacy_tiny_config())
    fit(model, read(str(tmp_path / 'old.pth')))
    model.eval()
    batch = tiny_batch((1, ))
    with torch.no_grad():
        features = model.extract_features(normalize_images(batch))
        proposals = model.rpn_head.proposals(model.rpn_head(features), batch)
        boxes, scores = model.roi_head.box_predictions(features, proposals.boxes, batch.sizes)
        regions = proposals.boxes[0][proposals.valid[0]]
        pooled = pool(features, regions)
        hidden = pooled.flatten(1)
        for number in range(2):
            hidden = F.linear(hidden, old[f'bbox_head.shared_fcs.{number}.weight'],
                              old[f'bbox_head.shared_fcs.{number}.bias']).relu()
        logits = F.linear(hidden, old['bbox_head.fc_cls.weight'], old['bbox_head.fc_cls.bias'])
        deltas = F.linear(hidden, old['bbox_head.fc_reg.weight'], old['bbox_head.fc_reg.bias'])
    expected_scores = logits.softmax(1)[:, 1:]
    assert torch.allclose(scores[0][proposals.valid[0]], expected_scores, atol=1e-5)
    found = boxes[0][proposals.valid[0]]
    for region in range(0, len(regions), 7):
        for label in range(len(CLASSES)):
            expected = decode(regions[region].tolist(),
                              deltas[region, 4 * label + 4:4 * label + 8].tolist(), (64, 96))
            assert found[region, label].tolist() == pytest.approx(expected, abs=1e-3)


def pool(features, regions):
    """RoIAlign of version 1 with its sampling ratio, from the level of each region."""
    level = torch.floor(
        torch.log2(((regions[:, 2] - regions[:, 0]) * (regions[:, 3] - regions[:, 1])).sqrt() / 56 +
                   1e-6))
    pooled = []
    for region, number in zip(regions, level.clamp(0, 3).long().tolist()):
        pooled.append(
            torchvision.ops.roi_align(
                features[number], [region[None]],
                7,
                1 / (4 * 2**number),
                sampling_ratio=2,
                aligned=False))
    return torch.cat(pooled)


def decode(box, deltas, size):
    """A box of version 1: its width counts the last pixel."""
    dx, dy, dw, dh = (delta * std for delta, std in zip(deltas, (.1, .1, .2, .2)))
    width, height = box[2] - box[0] + 1, box[3] - box[1] + 1
    limit = abs(torch.tensor(16 / 1000).log().item())
    x, y = (box[0] + box[2]) / 2 + width * dx, (box[1] + box[3]) / 2 + height * dy
    new_width = width * torch.tensor(min(max(dw, -limit), limit)).exp().item()
    new_height = height * torch.tensor(min(max(dh, -limit), limit)).exp().item()
    corners = [x - new_width / 2, y - new_height / 2, x + new_width / 2, y + new_height / 2]
    return [min(max(corner, 0), size[1 - i % 2] - 1) for i, corner in enumerate(corners)]


def test_old_retina_convolutions_become_modules_and_its_sigmoid_classes_stay():
    given = {
        'backbone.conv1.weight': torch.zeros(1),
        'bbox_head.cls_convs.0.weight': torch.zeros(2),
        'bbox_head.retina_cls.weight': torch.arange(720.),
        'bbox_head.retina_cls.bias': torch.arange(720.)
    }
    converted, origin = convert(given, dict(mmdet_version='0.5.3'), {})
    assert set(converted) == {
        'backbone.conv1.weight', 'bbox_head.cls_convs.0.conv.weight', 'bbox_head.retina_cls.weight',
        'bbox_head.retina_cls.bias'
    }
    assert torch.equal(converted['bbox_head.retina_cls.bias'], torch.arange(720.))
    assert origin.kind == 'MMDetection 0.5'


@pytest.mark.parametrize('version, swapped', [('1.2.0', True), ('2.4.0', True), ('2.5.0', False)])
def test_an_rpn_with_softmax_tells_the_object_first_since_2_5(version, swapped):
    given = {
        'rpn_head.rpn_cls.bias': torch.arange(6.),
        'rpn_head.rpn_reg.weight': torch.zeros(12, 1)
    }
    converted, origin = convert(given, dict(mmdet_version=version), {})
    expected = [1., 0., 3., 2., 5., 4.] if swapped else [0., 1., 2., 3., 4., 5.]
    assert converted['rpn_head.rpn_cls.bias'].tolist() == expected
    assert origin.kind.startswith('MMDetection ' + version[:3])


V3_CONFIG = """
default_scope = 'mmdet'
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(type='DetDataPreprocessor', mean=[103.53, 116.28, 123.675], std=[1., 1., 1.],
                           bgr_to_rgb=False, pad_mask=True),
    backbone=dict(type='ResNet', depth=50, style='caffe'))
"""


def test_version_3_leaves_its_preprocessor_and_brings_its_classes(tmp_path):
    model = tiny_model()
    state_dict = {
        **model.state_dict(), 'data_preprocessor.mean': torch.zeros(3, 1, 1),
        'data_preprocessor.std': torch.ones(3, 1, 1)
    }
    content = dict(
        state_dict=state_dict,
        message_hub={},
        param_schedulers=[],
        meta=dict(
            mmengine_version='0.10.4',
            cfg=V3_CONFIG,
            dataset_meta=dict(classes=CLASSES, palette=[])))
    torch.save(content, tmp_path / 'v3.pth')
    checkpoint = read(str(tmp_path / 'v3.pth'))
    assert shapes(checkpoint.state_dict) == shapes(model.state_dict())
    assert checkpoint.origin.kind == 'MMDetection 3' and checkpoint.meta['CLASSES'] == CLASSES
    report = fit(tiny_model(seed=1), checkpoint)
    assert len(report.loaded) == report.total and not report.unexpected
    assert 'data_preprocessor left out' in str(report)


def test_version_2_and_our_own_files_stay_as_they_are(tmp_path):
    model = tiny_model()
    for version, kind in (('2.28.2+abc', 'MMDetection 2.28.2'), ('mmdet_ft 0.1.0',
                                                                 'mmdet_ft 0.1.0')):
        torch.save(
            dict(state_dict=model.state_dict(), meta=dict(mmdet_version=version, CLASSES=CLASSES)),
            tmp_path / 'a.pth')
        checkpoint = read(str(tmp_path / 'a.pth'))
        assert checkpoint.origin == (kind, (), (), None, (None, ) * 4)
        assert checkpoint.state_dict.keys() == model.state_dict().keys()


def classifier(depth=18):
    return MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(type='ResNet', depth=depth, base_channels=8, out_indices=(3, )),
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=64)))


@pytest.mark.parametrize('meta, kind', [
    (dict(mmcls_version='0.23.0', CLASSES=tuple('abcde')), 'MMClassification 0.23'),
    (dict(mmengine_version='0.8.0', dataset_meta=dict(classes=tuple('abcde'))), 'MMPretrain 1'),
    ({}, 'state_dict'),
])
def test_a_classifiers_backbone_goes_into_a_detectors(meta, kind, tmp_path):
    source = classifier()
    path = str(tmp_path / 'classifier.pth')
    state_dict = source.state_dict()
    if 'mmengine_version' in meta:
        state_dict['data_preprocessor.mean'] = torch.zeros(3)
    torch.save(dict(state_dict=state_dict, meta=meta), path)
    assert read(path).origin.kind == kind
    again = classifier()
    report = fit(again, read(path))
    assert len(report.loaded) == report.total
    for prefix in (dict(prefix='backbone.'), {}):
        settings = copy.deepcopy(tiny_config())
        settings['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint=path, **prefix)
        detector = MODELS.build(settings)
        detector.init_weights(load=read_state_dict)
        assert torch.equal(detector.backbone.layer3[0].conv1.weight,
                           source.backbone.layer3[0].conv1.weight)


@pytest.mark.parametrize('wrap, note', [
    (lambda plain, average: dict(state_dict=plain, state_dict_ema=average), 'state_dict_ema'),
    (lambda plain, average: dict(model=plain, ema=dict(module=average, updates=3)), "'ema'"),
    (lambda plain, average: dict(
        model=plain, model_ema={
            f'module.{k}': v
            for k, v in average.items()
        }), 'model_ema'),
])
def test_averaged_weights_are_taken_where_both_are_there(wrap, note, tmp_path):
    plain, average = tiny_model(seed=0).state_dict(), tiny_model(seed=1).state_dict()
    torch.save(wrap(plain, average), tmp_path / 'a.pth')
    checkpoint = read(str(tmp_path / 'a.pth'))
    assert torch.equal(checkpoint.state_dict['rpn_head.rpn_conv.weight'],
                       average['rpn_head.rpn_conv.weight'])
    assert note in checkpoint.origin.changes[0]


def test_buffers_of_an_averaging_hook_are_left_out_and_said(tmp_path):
    model = tiny_model()
    given = model.state_dict()
    given.update({
        f'ema_{name.replace(".", "_")}': torch.zeros_like(value)
        for name, value in model.named_parameters()
    })
    torch.save(dict(state_dict=given, meta=dict(mmdet_version='2.20.0')), tmp_path / 'a.pth')
    report = fit(tiny_model(seed=1), read(str(tmp_path / 'a.pth')))
    assert not report.unexpected and 'ema_ buffers left out: the weights themselves are the averages' in str(
        report)
