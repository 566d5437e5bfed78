"""Hooks that monitor a run instead of logging it."""
from collections import Counter
from typing import Optional

from torch import nn

from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.datasets.wrappers import dataset_name
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.reporting.progress import Bar
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.registry import HOOKS


@HOOKS.register_module()
class NumClassCheckHook(Hook):
    """Stops before the first iteration if a head and the dataset differ in the number of classes."""

    def before_train_epoch(self, runner: Runner) -> None:
        self._check(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        self._check(runner)

    def _check(self, runner: Runner) -> None:
        dataset = runner.data_loader.dataset
        classes = getattr(dataset, 'CLASSES', None)
        kind = dataset_name(dataset)
        if classes is None:
            runner.logger.warning(
                '%s has no CLASSES: name them with classes=(...) in each dataset of the config',
                kind)
            return
        if isinstance(classes, str):
            raise UserError(
                f"classes of {kind} is the string {classes!r}; for a single class write classes=({classes!r}, )"
            )
        self.refuse_other_num_classes(dataset, getattr(runner.model, 'module', runner.model))

    @staticmethod
    def refuse_other_num_classes(dataset: Dataset, model: nn.Module) -> None:
        """Raise UserError if a part of the model counts other classes than the dataset has."""
        classes, kind = getattr(dataset, 'CLASSES', None), dataset_name(dataset)
        if classes is None or isinstance(classes, str):
            return
        wrong = [(name, module.num_classes) for name, module in model.named_modules()
                 if isinstance(getattr(module, 'num_classes', None), int)
                 and module.num_classes != len(classes) and getattr(module, 'counts_classes', True)]
        if wrong:
            lines = [
                f'{kind} has {len(classes)} classes but {name or "the model"}.num_classes is {count}'
                for name, count in wrong
            ]
            keys = ', '.join(f'model.{name}.num_classes'.replace('..', '.') for name, _ in wrong)
            raise UserError('; '.join(lines) +
                            f'; write num_classes={len(classes)} in your config ({keys})')


@HOOKS.register_module()
class CheckInvalidLossHook(Hook):
    """V2's guard against NaN losses. The runner's latch guards each step; this reads it every
    `interval` iterations.

    Args:
        interval: iterations between two readings, each of which waits for the device.
    """

    def __init__(self, interval: int = 50):
        self.interval = interval

    def after_train_iter(self, runner: Runner) -> None:
        if self.every_n_iters(runner, self.interval):
            runner.check_finite()


@HOOKS.register_module()
class DistSamplerSeedHook(Hook):
    """Accepted for V2's configs: the runner sets the epoch of the samplers itself."""


@HOOKS.register_module()
class IterTimerHook(Hook):
    """Accepted for V2's configs: the loop itself measures `time` and `data_time`."""


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """Logs the images that `data.train_dataloader.skip_bad_images` has left out: each once, and at
    the end how often."""

    def __init__(self):
        self._counts: Counter = Counter()

    def after_train_iter(self, runner: Runner) -> None:
        for meta in getattr(runner.data_batch, 'metas', ()):
            for message in meta.get('skipped', ()):
                if message not in self._counts:
                    runner.logger.warning('skipped: %s', message)
                self._counts[message] += 1

    def after_run(self, runner: Runner) -> None:
        if self._counts:
            runner.logger.warning('skip_bad_images: %d images were left out, %d times in all',
                                  len(self._counts), sum(self._counts.values()))


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """A progress bar on the terminal for each epoch, under the log lines.

    Args:
        by_epoch: one bar per epoch; otherwise one for the run.
    """

    def __init__(self, by_epoch: bool = True):
        self.by_epoch = by_epoch
        self._bar: Optional[Bar] = None

    def before_run(self, runner: Runner) -> None:
        if not self.by_epoch:
            self._bar = Bar('training', runner.max_iters, runner.iter)

    def before_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch:
            self._bar = Bar(f'epoch {runner.epoch + 1}/{runner.max_epochs}',
                            len(runner.data_loader), runner.inner_iter)

    def after_train_iter(self, runner: Runner) -> None:
        self._bar.advance()

    def after_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch:
            self.close()

    def after_run(self, runner: Runner) -> None:
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def describe_trained_part(model: nn.Module) -> str:
    """Describe the trained and frozen parameters of a model, for the head of the log."""
    parameters = list(model.parameters())
    count = sum(parameter.numel() for parameter in parameters)
    frozen = sum(parameter.numel() for parameter in parameters if not parameter.requires_grad)
    return f'{count / 1e6:.1f} M parameters, {frozen / 1e6:.1f} M of them frozen'
