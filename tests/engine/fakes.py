"""A model of a few numbers, a data set of random ones: what a run needs and no more."""
from typing import List, NamedTuple, Optional

import torch
from torch import Tensor, nn

from mmdet_ft.engine.runner.epoch import EpochBasedRunner
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.runner.iteration import IterBasedRunner
from mmdet_ft.structures import Losses


class FakeBatch(NamedTuple):
    x: Tensor  # [B, 4]
    y: Tensor  # [B]
    metas: List[dict]
    own_sizes: Optional[list] = None


class FakeModel(nn.Module):
    """A linear model whose loss also draws a random number, as sampling does."""

    CLASSES = ('cat', 'dog')

    def __init__(self, noise: float = 0.):
        super().__init__()
        self.backbone = nn.Linear(4, 3)
        self.norm = nn.BatchNorm1d(3)
        self.head = nn.Linear(3, 1)
        self.noise = noise

    def forward(self, batch):
        return self.loss(batch) if self.training else self.predict(batch)

    def predict(self, batch):
        batch = batch[0] if isinstance(batch, tuple) and not hasattr(batch, '_fields') else batch
        return self.head(self.norm(self.backbone(batch.x)))[:, 0]

    def loss(self, batch) -> Losses:
        error = self.predict(batch) - batch.y + self.noise * torch.randn(())
        return Losses(
            dict(loss_square=(error**2).mean(), loss_size=self.head.weight.abs().sum() * 1e-3),
            dict(acc=(error.abs() < 1).float().mean()))

    def results(self, predictions, metas):
        return [float(value) for value in predictions]

    def prediction_layers(self):
        return ('head.', )


class FakeDataset:
    CLASSES = ('cat', 'dog')

    def __init__(self, size: int = 8, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(size, 4, generator=generator)
        self.y = self.x.sum(1)

    def __len__(self):
        return len(self.x)

    def evaluate(self, results, logger=None, metric='error'):
        assert len(results) == len(self)
        error = sum(abs(a - b) for a, b in zip(results, self.y.tolist())) / len(self)
        return {'fake_mAP': round(1 / (1 + error), 6), 'other': 0.5}


class FakeLoader:
    """Batches in an order that follows from the epoch."""

    def __init__(self,
                 dataset: Optional[FakeDataset] = None,
                 batch_size: int = 2,
                 views: bool = False):
        self.dataset = dataset or FakeDataset()
        self.batch_size = batch_size
        self.views = views
        self.sampler = self
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return len(self.dataset) // self.batch_size

    def __iter__(self):
        order = list(range(len(self.dataset)))
        if not self.views:
            order = torch.randperm(
                len(order), generator=torch.Generator().manual_seed(self.epoch)).tolist()
        for start in range(0, len(order), self.batch_size):
            rows = order[start:start + self.batch_size]
            batch = FakeBatch(self.dataset.x[rows], self.dataset.y[rows],
                              [dict(filename=f'image{row}.png') for row in rows])
            yield (batch, ) if self.views else batch


def make_runner(work_dir,
                model=None,
                kind='epoch',
                length=2,
                lr=0.1,
                momentum=.9,
                optimizer=None,
                momenta=None,
                **arguments):
    torch.manual_seed(0)
    model = model or FakeModel(noise=.1)
    from mmdet_ft.engine.optimizers.optimizer import build_optimizer
    optimizer = build_optimizer(
        model, optimizer or dict(type='SGD', lr=lr, momentum=momentum, weight_decay=1e-4))
    arguments['momentum'] = momenta  # the schedule; `momentum` is SGD's
    if kind == 'epoch':
        return EpochBasedRunner(
            model, optimizer, work_dir=str(work_dir), max_epochs=length, **arguments)
    return IterBasedRunner(model, optimizer, work_dir=str(work_dir), max_iters=length, **arguments)


class Recorder(Hook):
    """Writes down which points were met."""

    def __init__(self, name='', events=None):
        self.name = name
        self.events = [] if events is None else events

    def __getattribute__(self, name):
        if name.startswith(('before_', 'after_')) and name in Hook.stages:
            events, own = self.events, self.name
            return lambda runner: events.append(
                (own + name, runner.epoch, runner.iter, runner.inner_iter))
        return super().__getattribute__(name)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first)
