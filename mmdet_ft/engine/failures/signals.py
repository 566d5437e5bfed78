"""Signals that end a run early after saving it: SIGTERM and SIGUSR1 of a batch system, Ctrl-C of a user.

A signal only sets a flag. The run reads it after a step and all its hooks, or between two batches
of an evaluation; several processes agree on the step. It then writes `interrupted.pth`, which
--auto-resume continues from, also in the middle of an epoch. `latest.pth` stays the last checkpoint
that the config asked for.
"""
import contextlib
import signal
import threading
import time
from typing import Any, Iterator, Optional, Tuple

import torch
import torch.distributed as torch_dist

from mmdet_ft.checkpoints import writing
from mmdet_ft.engine.distributed import dist, interruption
from mmdet_ft.engine.distributed.interruption import EXIT_CODE, Interrupted
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.spelling import counted

NAMES = ('SIGTERM', 'SIGUSR1', 'SIGINT')
SAME_KEYPRESS = 1.  # seconds: a terminal and torchrun both send SIGINT to a process


class InterruptHook(Hook):
    """Ends the run after a step once any rank received a signal; must be the last hook.

    Ranks learn of each other's signals one step later, by an asynchronous message during the step:
    no rank waits for it, and all stop at the same step.
    """

    def __init__(self):
        self.asked: Optional[signal.Signals] = None
        self._since = 0.
        self._group: Any = None
        self._vote: Optional[Tuple[Any, torch.Tensor]] = None
        self._stop = False

    def note(self, number: int, frame: object) -> None:
        """Handle a signal; a second Ctrl-C ends the process at once."""
        now = time.monotonic()
        if self.asked is None:
            self.asked, self._since = signal.Signals(number), now
        elif number == signal.SIGINT and now - self._since > SAME_KEYPRESS:
            raise KeyboardInterrupt

    def before_run(self, runner: Runner) -> None:
        if dist.is_distributed():
            self._group = torch_dist.new_group(backend='gloo')

    def after_train_iter(self, runner: Runner) -> None:
        self._stop = self._stop or self._agree_on_signal()
        # Within an accumulation window each rank has its own gradients, which one file cannot hold.
        _, _, window_ends = runner.update.window(runner.iter, runner.max_iters)
        if self._stop and (window_ends or self._group is None):
            raise Interrupted

    def _agree_on_signal(self) -> bool:
        if self._group is None:
            return self.asked is not None
        before = self._vote
        flag = torch.tensor([self.asked is not None], dtype=torch.int32)
        self._vote = torch_dist.all_reduce(
            flag, torch_dist.ReduceOp.MAX, self._group, async_op=True), flag
        if before is None:
            return False
        before[0].wait()
        return bool(before[1])


@contextlib.contextmanager
def stop_on_signals(runner: Runner) -> Iterator[None]:
    """Save the run and raise Interrupted on a signal while `runner.run` is inside.

    Only the main thread receives signals: in another one nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interruption.listener = hook = InterruptHook()
    runner.register_hook(hook, 'LOWEST')
    handlers = {
        number: signal.getsignal(number)
        for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name))
    }
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:  # as nohup asks for
            signal.signal(number, hook.note)
    try:
        yield
    except Interrupted:
        if runner.rank == 0:
            # latest.pth stays the last whole epoch, for test and predict; --auto-resume finds the newer file.
            # A run without one yet links this file.
            runner.save_checkpoint(
                runner.work_dir,
                writing.INTERRUPTED,
                create_symlink=not writing.is_latest_of(runner.work_dir, runner.run_id))
        dist.barrier()  # the first report ends all processes
        name = 'a signal to another process' if hook.asked is None else hook.asked.name
        epochs, iterations = runner.num_done()
        raise Interrupted(
            f'stopped by {name} after {counted(iterations, "iteration")} ({counted(epochs, "epoch")}). All is saved in '
            f'{runner.work_dir}/{writing.INTERRUPTED}: the same command with --auto-resume continues from there '
            f'(exit code {EXIT_CODE})') from None
    finally:
        interruption.listener = None
        for number, handler in handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
