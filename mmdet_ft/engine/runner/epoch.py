"""The loop over epochs."""
from typing import Any, Iterator, Sequence, Tuple

from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.runner.base import BaseRunner, Workflow
from mmdet_ft.engine.runner.batches import from_batch, set_epoch
from mmdet_ft.registry import RUNNERS


@RUNNERS.register_module()
class EpochBasedRunner(BaseRunner):
    """Trains `max_epochs` times over the data."""

    filename_tmpl = 'epoch_{}.pth'

    def _begin(self, epoch_length: int) -> None:
        if self.max_epochs is None:
            raise UserError(
                "EpochBasedRunner needs max_epochs: runner = dict(type='EpochBasedRunner', max_epochs=12)"
            )
        self.max_iters = self.max_epochs * epoch_length
        if self.resumed.epoch is not None:
            self.epoch = self.resumed.epoch
        before = self.resumed.epoch_length or epoch_length
        done = self.iter - self.epoch * before  # iterations of this epoch, by its length then
        if not 0 <= done <= before:  # a file of V2 that was trained with another epoch length
            done = 0
        iteration = self.epoch * epoch_length + done * epoch_length // before
        if iteration != self.iter:  # Other GPUs or batch size: keep the number of epochs.
            self.logger.info(
                'an epoch now has %d iterations: the iteration number changes from %d to %d',
                epoch_length, self.iter, iteration)
            self.iter = iteration

    def num_done(self) -> Tuple[int, int]:
        done = self.iterations_done()
        return done // self.epoch_length, done

    def _iterations(self, data_loaders: Sequence[Any], workflow: Workflow) -> Iterator[Any]:
        steps = [(loader, mode) for loader, (mode, times) in zip(data_loaders, workflow)
                 for _ in range(times)]
        training = [index for index, (_, mode) in enumerate(steps) if mode == 'train']
        first = training[self.epoch % len(training)] if self.iter else 0
        while self.epoch < self.max_epochs and self.stop_reason is None:
            for loader, mode in steps[first:]:
                if mode == 'val':
                    yield from self._val_epoch(loader)
                elif self.epoch < self.max_epochs and self.stop_reason is None:
                    yield from self._train_epoch(loader)
            first = 0

    def _train_epoch(self, loader: Any) -> Iterator[Any]:
        """Yield the batches of one epoch of training."""
        self.mode, self.data_loader = 'train', loader
        self.model.train()
        set_epoch(loader, self.epoch)
        skipped = self.iter - self.epoch * len(loader)  # done before a resume in the middle
        self.inner_iter = skipped
        if not self._is_unfinished(
                'after_train_epoch'):  # else only the rest of that hook call is left
            if not skipped:
                self.schedules.set(self.optimizer, self.progress, epoch_starts=True)
            self.call_hook('before_train_epoch')
            self._finish_iteration()
            for batch in self._timed(from_batch(loader, skipped)):
                yield batch
                self.iter += 1
                self.inner_iter += 1
        self.inner_iter = len(loader) - 1  # where hooks expect it at the end of an epoch
        self.call_hook('after_train_epoch')
        self.epoch += 1

    def _val_epoch(self, loader: Any) -> Iterator[Any]:
        """Yield the validation batches, whose losses are computed."""
        self.mode, self.data_loader = 'val', loader
        self.model.eval()
        set_epoch(loader, 0)
        self.call_hook('before_val_epoch')
        for self.inner_iter, batch in enumerate(loader):
            yield batch
        self.call_hook('after_val_epoch')
        self.model.train()
