"""The whole training step of a Mask R-CNN: forward, backward, clip and step as the runner does them."""
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet_ft.config import Config
from mmdet_ft.engine.optimizers.optimizer import build_optimizer, zero_missing_momentum
from mmdet_ft.engine.optimizers.optimizer_step import Update
from mmdet_ft.engine.runner import EpochBasedRunner
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import to_device
from tests.models.tiny import tiny_batch, tiny_model
from tools.benchmarks.no_sync import count_syncs

CONFIGS = Path(__file__).parents[2] / 'configs/_base_/models'
OBJECTS = [3, 0, 1, 2, 0, 4, 1, 2]


def runner_of(model, folder):
    optimizer = build_optimizer(model, dict(type='SGD', lr=.01, momentum=.9, weight_decay=1e-4))
    runner = EpochBasedRunner(
        model,
        optimizer,
        str(folder),
        update=Update(grad_clip=dict(max_norm=35, norm_type=2)),
        max_epochs=1)
    runner.max_iters = 100
    zero_missing_momentum(optimizer)
    return runner


@pytest.mark.parametrize('with_mask', [True, False])
def test_a_step_waits_at_most_twice_and_its_operations_do_not_grow_with_the_batch(
        tmp_path, with_mask):
    runner = runner_of(tiny_model(with_mask), tmp_path)
    counts = {}
    for size in (1, 2, 8):
        batch = tiny_batch(OBJECTS[:size])
        runner.train_step(batch)  # anchors of this size are made once
        with count_syncs() as seen:
            runner.train_step(batch)
        assert len(seen.syncs) <= (2 if with_mask else 0), seen.syncs
        counts[size] = seen.num_ops
    assert counts[2] - counts[1] <= 1 and counts[8] - counts[1] <= 7, counts


def test_a_batch_of_only_empty_images_trains(tmp_path):
    runner = runner_of(tiny_model(), tmp_path)
    for _ in range(3):
        runner.train_step(tiny_batch((0, 0)))
    runner.check_finite()
    assert torch.stack(list(runner.outputs['log_vars'].values())).isfinite().all()
    assert runner.outputs['log_vars']['loss_mask'] == 0


def slim(settings):
    """An eighth of the channels everywhere: as many layers, and so as many operations."""
    settings.backbone.update(base_channels=8, stem_channels=8)
    settings.neck.update(in_channels=[32, 64, 128, 256], out_channels=32)
    settings.rpn_head.update(in_channels=32, feat_channels=32)
    settings.roi_head.bbox_roi_extractor.out_channels = 32
    settings.roi_head.bbox_head.update(in_channels=32, fc_out_channels=128)
    if 'mask_head' in settings.roi_head:
        settings.roi_head.mask_roi_extractor.out_channels = 32
        settings.roi_head.mask_head.update(in_channels=32, conv_out_channels=32)


@pytest.mark.parametrize('name', ['faster_rcnn_r50_fpn', 'mask_rcnn_r50_fpn'])
def test_a_step_of_resnet_50_is_at_most_900_operations_and_one_an_image(tmp_path, name):
    settings = Config.fromfile(str(CONFIGS / f'{name}.py')).model
    settings.backbone.init_cfg = None
    slim(settings)
    runner = runner_of(MODELS.build(settings).train(), tmp_path)
    for size in (1, 3):
        batch = tiny_batch(OBJECTS[:size], num_classes=80)
        runner.train_step(batch)
        with count_syncs() as seen:
            runner.train_step(batch)
        assert seen.num_ops <= 900 + size, seen.ops.most_common()


@pytest.mark.parametrize('with_mask', [True, False])
def test_a_step_is_traced_without_any_value_being_known(with_mask):
    """Shapes follow from the batch's and the number of mask slots; what asks for a value raises."""
    meta = torch.device('meta')
    model, batch = tiny_model(with_mask).to(meta), to_device(tiny_batch((2, 0, 3)), meta)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, .01, .9, foreach=True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        losses = model.loss(batch, num_mask_slots=16)
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 35)
        optimizer.step()
    assert losses.total.shape == ()
    assert all(parameter.grad.shape == parameter.shape for parameter in parameters)


def test_mask_slots_beyond_the_positives_change_no_loss():
    model, batch = tiny_model(), tiny_batch((2, 0, 3))
    torch.manual_seed(0)
    expected = model.loss(batch).terms
    for num_mask_slots in (8, 16):
        torch.manual_seed(0)
        for name, value in model.loss(batch, num_mask_slots=num_mask_slots).terms.items():
            torch.testing.assert_close(value, expected[name])
