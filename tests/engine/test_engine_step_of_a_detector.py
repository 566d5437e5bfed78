"""The whole training step of a Mask R-CNN: forward, backward, clip and step as the runner does them."""
import pytest
import torch

from mmdet_ft.engine.optimizer import build_optimizer, zero_missing_momentum
from mmdet_ft.engine.runner import EpochBasedRunner, Update
from tests.models.tiny import tiny_batch, tiny_model
from tests.no_sync import count_syncs

OBJECTS = [3, 0, 1, 2, 0, 4, 1, 2]


def runner_of(model, folder):
    optimizer = build_optimizer(model, dict(type='SGD', lr=.01, momentum=.9, weight_decay=1e-4))
    runner = EpochBasedRunner(
        model, optimizer, str(folder), update=Update(grad_clip=dict(max_norm=35, norm_type=2)), max_epochs=1)
    runner.max_iters = 100
    zero_missing_momentum(optimizer)
    return runner


@pytest.mark.parametrize('with_mask', [True, False])
def test_a_step_waits_at_most_twice_and_its_operations_do_not_grow_with_the_batch(tmp_path, with_mask):
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
