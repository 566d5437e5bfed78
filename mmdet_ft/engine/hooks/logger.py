"""Loggers of the losses and metrics of a run: text and json, TensorBoard."""
import datetime
import json
import os
from collections import OrderedDict
from typing import Any, Dict, Optional

import torch

from mmdet_ft.engine.distributed.dist import gather_objects
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.runner.hook import Hook, master_only
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.registry import HOOKS


class LoggerHook(Hook):
    """Decides when the buffer is averaged and written; a subclass writes it in `log`.

    Args:
        interval: iterations between two lines. An epoch writes at least one line, whatever the
            interval.
        ignore_last: do not write the iterations left over at the end of an epoch.
        reset_flag: clear the buffer's output after writing it; the last logger of a run does.
        by_epoch: count iterations within the epoch.
    """

    def __init__(self,
                 interval: int = 10,
                 ignore_last: bool = True,
                 reset_flag: bool = False,
                 by_epoch: bool = True):
        if interval <= 0:
            raise ValueError(f'log_config.interval must be positive, not {interval}')
        self.interval = interval
        self.ignore_last = ignore_last
        self.reset_flag = reset_flag
        self.by_epoch = by_epoch
        self._logged_until = 0  # iterations up to here are logged, or skipped on purpose
        self._wrote = False  # in this epoch; in this run if it counts iterations

    repeats_on_resume = True

    def state_dict(self) -> Dict[str, Any]:
        return dict(told=self._logged_until, wrote=self._wrote)

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        self._logged_until, self._wrote = state['told'], state['wrote']

    def log(self, runner: Runner) -> None:
        raise NotImplementedError

    def get_mode(self, runner: Runner) -> str:
        """Return 'train', or 'val' for validation losses and for the metrics of an evaluation."""
        return 'train' if runner.mode == 'train' and 'time' in runner.log_buffer.output else 'val'

    def get_epoch(self, runner: Runner) -> int:
        return runner.epoch + 1 if runner.mode == 'train' else runner.epoch

    def get_iter(self, runner: Runner, inner_iter: bool = False) -> int:
        if self.by_epoch and inner_iter:
            return runner.inner_iter + 1
        return runner.iter + (1 if runner.mode == 'train' else 0)

    def get_lr(self, runner: Runner) -> float:
        """Return the learning rate of the first parameter group, as V2 logs it."""
        return runner.current_lr()[0]

    def before_run(self, runner: Runner) -> None:
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        loggers[-1].reset_flag = True
        self._logged_until, self._wrote = runner.iter, False

    def before_train_epoch(self, runner: Runner) -> None:
        if runner.inner_iter == 0:
            runner.log_buffer.clear()
            self._logged_until, self._wrote = runner.iter, False
        # Else resumed within it, perhaps with more processes, which count fewer iterations.
        self._logged_until = min(self._logged_until, runner.iter)

    def before_val_epoch(self, runner: Runner) -> None:
        runner.log_buffer.clear()

    def after_train_iter(self, runner: Runner) -> None:
        if self.by_epoch:
            due, last = self.every_n_inner_iters(runner, self.interval), self.end_of_epoch(runner)
        else:
            due, last = self.every_n_iters(runner, self.interval), self.is_last_iter(runner)
        is_logged = self._logged_until > runner.iter  # an evaluation came first and flushed the lines before its own
        if not is_logged and (due or (last and not (self.ignore_last and self._wrote))):
            self.flush(runner)
        elif self.get_mode(runner) == 'val':
            self._write(runner)

    def flush(self, runner: Runner) -> None:
        """Write the iterations that are not logged yet."""
        if self._logged_until <= runner.iter:
            runner.read_meters(runner.iter + 1 - self._logged_until)
            self._logged_until, self._wrote = runner.iter + 1, True
            self.log(runner)
            runner.log_buffer.clear_output()  # `average` of another logger may use another interval

    def after_train_epoch(self, runner: Runner) -> None:
        self._write(runner)  # metrics left by an evaluation

    def after_val_epoch(self, runner: Runner) -> None:
        runner.log_buffer.average()
        self._write(runner)

    def _write(self, runner: Runner) -> None:
        if runner.log_buffer.ready:
            self.log(runner)
            if self.reset_flag:
                runner.log_buffer.clear_output()


@HOOKS.register_module()
class TextLoggerHook(LoggerHook):
    """A line of text, and the same as json in `<time>.log.json`, with V2's keys.

    Args:
        by_epoch, interval, ignore_last, reset_flag: see LoggerHook.
        interval_exp_name: iterations between two lines with the config's name.
    """

    def __init__(self,
                 by_epoch: bool = True,
                 interval: int = 10,
                 ignore_last: bool = True,
                 reset_flag: bool = False,
                 interval_exp_name: int = 1000):
        super().__init__(interval, ignore_last, reset_flag, by_epoch)
        self.interval_exp_name = interval_exp_name
        self._seconds = 0.
        self._timed_iters = 0

    def before_run(self, runner: Runner) -> None:
        super().before_run(runner)
        self.json_log_path = os.path.join(runner.work_dir, f'{runner.timestamp}.log.json')
        self._dump(runner, runner.meta)

    def after_train_iter(self, runner: Runner) -> None:
        if self.every_n_iters(runner, self.interval_exp_name) or (self.by_epoch
                                                                  and self.end_of_epoch(runner)):
            if runner.meta.get('exp_name'):
                runner.logger.info('Exp name: %s', runner.meta['exp_name'])
        super().after_train_iter(runner)

    def log(self, runner: Runner) -> None:
        output = runner.log_buffer.output
        # the number of validation batches, if an evaluation filled the buffer
        now = output.pop('eval_iter_num', None) or self.get_iter(runner, inner_iter=True)
        entry = OrderedDict(
            mode=self.get_mode(runner),
            epoch=self.get_epoch(runner),
            iter=now,
            lr=self.get_lr(runner))
        if 'time' in output and torch.cuda.is_available():
            entry['memory'] = peak_memory_mb()
        entry.update(output)
        runner.logger.info(self._line(runner, entry))
        self._dump(runner, entry)

    def _line(self, runner: Runner, entry: Dict[str, Any]) -> str:
        mode, epoch, now = entry['mode'], entry['epoch'], entry['iter']
        if mode == 'train':
            progress = f'Epoch [{epoch}][{now}/{len(runner.data_loader)}]' if self.by_epoch else \
                f'Iter [{now}/{runner.max_iters}]'
            parts = [f'lr: {entry["lr"]:.3e}']
            if 'time' in entry:
                parts.append(
                    f'eta: {datetime.timedelta(seconds=int(self._eta(runner, entry["time"])))}')
                parts.append(f'time: {entry["time"]:.3f}')
                parts.append(f'data_time: {entry["data_time"]:.3f}')
                parts.append(
                    f'data_wait: {100 * entry["data_time"] / max(entry["time"], 1e-9):.0f}%')
            if 'memory' in entry:
                parts.append(f'memory: {entry["memory"]}')
        else:
            progress = f'Epoch({mode}) [{epoch}][{now}]' if self.by_epoch else f'Iter({mode}) [{now}]'
            parts = []
        text = ('mode', 'epoch', 'iter', 'lr', 'time', 'data_time', 'memory')
        for name, value in entry.items():
            if name not in text:
                parts.append(
                    f'{name}: {value:.4f}' if isinstance(value, float) else f'{name}: {value}')
        return f'{progress}\t' + ', '.join(parts)

    def _eta(self, runner: Runner, seconds: float) -> float:
        """Return the seconds left at the mean pace so far."""
        iterations = runner.iter + 1 - runner.start_iter - self._timed_iters
        self._seconds += seconds * iterations
        self._timed_iters += iterations
        return self._seconds / max(self._timed_iters, 1) * (runner.max_iters - runner.iter - 1)

    @master_only
    def _dump(self, runner: Runner, entry: Dict[str, Any]) -> None:
        rounded = {
            key: round(value, 5) if isinstance(value, float) else value
            for key, value in entry.items()
        }
        with open(self.json_log_path, 'a', encoding='utf-8') as file:
            file.write(json.dumps(rounded, default=str) + '\n')


def peak_memory_mb() -> int:
    """Return the peak GPU memory of any rank, in MB; every rank has to call it."""
    return max(gather_objects(int(torch.cuda.max_memory_allocated() / 1024**2)))


@HOOKS.register_module()
class TensorboardLoggerHook(LoggerHook):
    """Scalars for TensorBoard: train/loss, val/bbox_mAP, learning_rate, ...

    Args:
        log_dir: `<work_dir>/tf_logs` by default.
        interval, ignore_last, reset_flag, by_epoch: see LoggerHook.
    """

    def __init__(self,
                 log_dir: Optional[str] = None,
                 interval: int = 10,
                 ignore_last: bool = True,
                 reset_flag: bool = False,
                 by_epoch: bool = True):
        super().__init__(interval, ignore_last, reset_flag, by_epoch)
        self.log_dir = log_dir

    def before_run(self, runner: Runner) -> None:
        super().before_run(runner)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                f'TensorboardLoggerHook needs TensorBoard ({error}): pip install tensorboard, '
                'or take the hook out of log_config.hooks') from None
        if runner.rank == 0:
            self.writer = SummaryWriter(self.log_dir or os.path.join(runner.work_dir, 'tf_logs'))

    @master_only
    def log(self, runner: Runner) -> None:
        mode = self.get_mode(runner)
        now = self.get_iter(runner)
        for name, value in runner.log_buffer.output.items():
            if name not in ('time', 'data_time', 'eval_iter_num') and isinstance(
                    value, (int, float)):
                self.writer.add_scalar(f'{mode}/{name}', value, now)
        self.writer.add_scalar('learning_rate', self.get_lr(runner), now)
        self.writer.flush()

    @master_only
    def after_run(self, runner: Runner) -> None:
        self.writer.close()
