"""The loop over iterations."""
from typing import Any, Iterator, Sequence, Tuple

from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.reporting.meters import LogBuffer
from mmdet_ft.engine.runner.base import BaseRunner, Workflow
from mmdet_ft.engine.runner.batches import from_batch, is_endless, set_epoch
from mmdet_ft.registry import RUNNERS


@RUNNERS.register_module()
class IterBasedRunner(BaseRunner):
    """Trains `max_iters` iterations, over the data as often as that takes."""

    by_epoch = False
    filename_tmpl = 'iter_{}.pth'

    def _begin(self, epoch_length: int) -> None:
        if self.max_iters is None:
            raise UserError(
                "IterBasedRunner needs max_iters: runner = dict(type='IterBasedRunner', max_iters=90000)"
            )
        before = self.resumed.world_size or self.world_size
        if before != self.world_size:  # keep the number of images when the size of a step changes
            self.logger.info(
                'the iteration number is changed from %d to %d due to change of GPU number from %d to %d',
                self.iter, self.iter * before // self.world_size, before, self.world_size)
            self.iter = self.iter * before // self.world_size
        if self.resumed.epoch is not None and before == self.world_size:
            self.epoch = self.resumed.epoch
        elif not is_endless(self.data_loader):
            self.epoch = self.iter // epoch_length

    def num_done(self) -> Tuple[int, int]:
        return self.epoch, self.iterations_done()

    def _iterations(self, data_loaders: Sequence[Any], workflow: Workflow) -> Iterator[Any]:
        counts = {
            mode: sum(count for m, count in workflow if m == mode)
            for mode in ('train', 'val')
        }
        rounds, passed = divmod(self.iter, counts['train'])
        if passed == 0 and rounds:  # the training of this round is done, its validation is not
            rounds, passed = rounds - 1, counts['train']
        self.mode, self.inner_iter = 'train', self.iter
        self.model.train()  # a newly built model is in training mode, with its frozen parts
        self.call_hook('before_train_epoch')  # to the hooks the run is one epoch
        self._finish_iteration()
        endless = [
            self._endless(loader) if mode == 'train' else self._repeated(
                loader, rounds * counts['val'])
            for loader, (mode, _) in zip(data_loaders, workflow)
        ]
        while (self.iter < self.max_iters or passed) and self.stop_reason is None:
            for loader, batches, (mode, count) in zip(data_loaders, endless, workflow):
                self.mode, self.data_loader = mode, loader
                if mode == 'train':
                    skipped = min(passed, count)  # done before a resume
                    passed -= skipped
                    for _ in range(min(count - skipped, self.max_iters - self.iter)):
                        if self.stop_reason is None:
                            if not self.model.training:  # only after validation: it walks over all modules
                                self.model.train()
                            self.inner_iter = self.iter
                            yield next(batches)
                            self.iter += 1
                elif not passed:
                    yield from self._val_iterations(batches, count)
        self.mode, self.data_loader = 'train', data_loaders[[mode for mode, _ in workflow
                                                             ].index('train')]
        self.call_hook('after_train_epoch')

    def _val_iterations(self, batches: Iterator, count: int) -> Iterator[Any]:
        """Yield `count` validation batches, whose losses are computed in a separate buffer to keep the
        means of training."""
        training, self.log_buffer = self.log_buffer, LogBuffer()
        self.model.eval()
        self.call_hook('before_val_epoch')
        for self.inner_iter in range(count):
            yield next(batches)
        self.call_hook('after_val_epoch')
        self.model.train()
        self.log_buffer = training

    def _endless(self, loader: Any) -> Iterator:
        """Yield batches from the run's current iteration, epoch after epoch."""
        if is_endless(loader):
            loader.batch_sampler.set_start(self.iter)
            yield from self._timed(iter(loader))
        skipped = self.iter - self.epoch * len(loader)
        while True:
            set_epoch(loader, self.epoch)
            yield from self._timed(from_batch(loader, skipped))
            skipped = 0
            self.epoch += 1

    @staticmethod
    def _repeated(loader: Any, start: int) -> Iterator:
        """Yield batches endlessly, starting at batch `start`."""
        if is_endless(loader):
            loader.batch_sampler.set_start(start)
            yield from loader
        yield from from_batch(loader, start % len(loader))
        while True:
            yield from loader
