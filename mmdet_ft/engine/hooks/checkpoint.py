"""Hook that writes checkpoints and deletes old ones."""
import os
from typing import Any, Dict, Optional

from mmdet_ft.checkpoints import writing
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.registry import HOOKS


@HOOKS.register_module()
class CheckpointHook(Hook):
    """`checkpoint_config`: save every `interval` epochs, or iterations with `by_epoch=False`.

    Args:
        interval: -1 saves nothing but the last (with `save_last`).
        by_epoch: count epochs instead of iterations.
        save_optimizer: save the state for resuming; without it the file is about a third.
        out_dir: output folder, in which the work_dir's name is added; the work_dir itself by default.
        max_keep_ckpts: the number of newest ones to keep; -1 keeps all.
        save_last: also save at the end of the run, whatever the interval.
        sync_buffer: copy rank 0's norm statistics to all ranks before saving.
        create_symlink: keep `latest.pth`.
        filename_tmpl: 'epoch_{}.pth' or 'iter_{}.pth' by default.
        meta: added to the file's `meta`.
    """
    passes_on = ('meta', )  # contents that the check of a config leaves alone

    def __init__(self,
                 interval: int = -1,
                 by_epoch: bool = True,
                 save_optimizer: bool = True,
                 out_dir: Optional[str] = None,
                 max_keep_ckpts: int = -1,
                 save_last: bool = True,
                 sync_buffer: bool = False,
                 create_symlink: bool = True,
                 filename_tmpl: Optional[str] = None,
                 meta: Optional[Dict[str, Any]] = None):
        self.interval = interval
        self.by_epoch = by_epoch
        self.save_optimizer = save_optimizer
        self.out_dir = out_dir
        self.max_keep_ckpts = max_keep_ckpts
        self.save_last = save_last
        self.sync_buffer = sync_buffer
        self.create_symlink = create_symlink
        self.filename_tmpl = filename_tmpl or ('epoch_{}.pth' if by_epoch else 'iter_{}.pth')
        self.meta = meta
        self._saved_at: Optional[int] = None  # iterations done at that time

    def before_run(self, runner: Runner) -> None:
        if self.out_dir is None or os.path.abspath(self.out_dir) == os.path.abspath(
                runner.work_dir):
            self.out_dir = runner.work_dir
        else:  # so that several runs may share it
            self.out_dir = os.path.join(self.out_dir,
                                        os.path.basename(os.path.abspath(runner.work_dir)))
            runner.logger.info('checkpoints are saved in %s', self.out_dir)
        if runner.rank == 0:
            writing.remove_leftovers(self.out_dir)
        if runner.rank == 0 and runner.iter:  # left over by a killed run
            done, end = runner.num_done()[0], runner.max_epochs
            if not self.by_epoch:
                done, end = runner.num_done()[1], runner.max_iters
            self._drop_old(done if done == end else done - done % max(self.interval, 1))

    def after_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch and (self.every_n_epochs(runner, self.interval) or
                              (self.save_last and self.is_last_epoch(runner))):
            runner.logger.info('Saving checkpoint at %d epochs', runner.epoch + 1)
            self._save(runner, runner.epoch + 1)

    def after_train_iter(self, runner: Runner) -> None:
        if not self.by_epoch and (self.every_n_iters(runner, self.interval) or
                                  (self.save_last and self.is_last_iter(runner))):
            runner.logger.info('Saving checkpoint at %d iterations', runner.iter + 1)
            self._save(runner, runner.iter + 1)

    def after_run(self, runner: Runner) -> None:
        epochs, iterations = runner.num_done()
        if runner.stop_reason is not None and self.save_last and self._saved_at != iterations:
            self._save(runner, epochs if self.by_epoch else iterations)

    def has_saved(self, runner: Runner) -> bool:
        """Return whether a checkpoint has the current weights."""
        return self._saved_at == runner.iterations_done()

    def _save(self, runner: Runner, now: int) -> None:
        self._saved_at = runner.iterations_done()
        runner.check_finite()  # of all ranks: non-finite weights are never written
        if self.sync_buffer:
            runner.broadcast_norm_buffers()
        if runner.rank != 0:
            return
        runner.save_checkpoint(
            self.out_dir,
            filename_tmpl=self.filename_tmpl.format(now),
            save_optimizer=self.save_optimizer,
            meta=self.meta,
            create_symlink=self.create_symlink)
        runner.meta.setdefault('hook_msgs',
                               {})['last_ckpt'] = os.path.join(self.out_dir,
                                                               self.filename_tmpl.format(now))
        self._drop_old(now)

    def _drop_old(self, now: int) -> None:
        """Remove all but the newest `max_keep_ckpts`, `now` being the newest."""
        if self.max_keep_ckpts > 0 and self.interval > 0:
            newest_dropped = now - self.max_keep_ckpts * self.interval
            if now % self.interval:  # the last one is off the interval and takes the slot of another
                newest_dropped += self.interval - now % self.interval
            for old in range(newest_dropped, 0, -self.interval):
                path = os.path.join(self.out_dir, self.filename_tmpl.format(old))
                if not os.path.exists(path):
                    break
                os.remove(path)
