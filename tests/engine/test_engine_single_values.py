"""A batch of one image where batch norm needs two values: found at the start, and no end of a run."""
import pytest
import torch
from torch import nn

from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.runner import EpochBasedRunner
from mmdet_ft.engine.runner.batch_of_one import check_last_batch, last_batch_size
from mmdet_ft.structures import Losses
from tests.engine.fakes import same, weights


class Images(torch.utils.data.Dataset):

    def __init__(self, number):
        self.images = torch.rand(number, 2, 1, 1, generator=torch.Generator().manual_seed(0))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


class Normed(nn.Module):

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(2)

    def forward(self, images):
        return Losses(dict(loss=self.norm(images).square().mean()))

    loss = forward


def run_of(tmp_path, number, batch_size=4, drop_last=False):
    model = Normed()
    runner = EpochBasedRunner(
        model, torch.optim.SGD(model.parameters(), .1), str(tmp_path), max_epochs=2)
    loader = torch.utils.data.DataLoader(
        Images(number), batch_size, drop_last=drop_last, collate_fn=torch.stack)
    return runner, loader


@pytest.mark.parametrize('number,batch_size,drop_last,fix', [
    (13, 4, False, 'data = dict(train_dataloader=dict(drop_last=True))'),
    (3, 1, False, 'data = dict(samples_per_gpu=2)'),
    (1, 4, False, 'data = dict(samples_per_gpu=2)'),
    (13, 4, True, None),
    (14, 4, False, None),
    (12, 4, False, None),
])
def test_a_last_batch_of_one_value_a_channel_is_refused_at_the_start(tmp_path, number, batch_size,
                                                                     drop_last, fix):
    runner, loader = run_of(tmp_path, number, batch_size, drop_last)
    before, random_state = weights(runner.model), torch.get_rng_state()
    if fix is None:
        check_last_batch(runner, loader)
    else:
        with pytest.raises(UserError) as caught:
            check_last_batch(runner, loader)
        assert fix in str(caught.value)
    assert same(weights(runner.model), before) and torch.equal(torch.get_rng_state(), random_state)


def test_norms_that_do_not_learn_and_larger_maps_take_one_image(tmp_path):
    runner, loader = run_of(tmp_path, 13)
    loader.dataset.images = torch.rand(13, 2, 2, 2)
    check_last_batch(runner, loader)
    assert last_batch_size(loader) == 1


def test_such_a_batch_at_the_end_of_an_epoch_ends_no_run(tmp_path):
    runner, loader = run_of(tmp_path, 5)
    runner.run([loader])
    assert runner.iter == 4 and runner.model.norm.training
    assert torch.isfinite(runner.model.norm.running_var).all()


def test_another_error_of_a_value_is_told_as_it_is(tmp_path):
    runner, loader = run_of(tmp_path, 5)
    runner.model.forward = lambda images: torch.empty(-1)
    with pytest.raises(RuntimeError, match='negative dimension'):
        runner.run([loader])


def test_a_loader_of_its_own_kind_is_not_asked(tmp_path):
    runner, _ = run_of(tmp_path, 5)
    assert last_batch_size([torch.rand(1, 2, 1, 1)]) == 0
    check_last_batch(runner, [torch.rand(1, 2, 1, 1)])
