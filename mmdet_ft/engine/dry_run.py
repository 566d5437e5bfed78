"""`tools/train.py --dry-run`: all steps of a run on a small scale, with a checklist."""
import contextlib
import itertools
import logging
import math
import os
import shutil
import sys
import tempfile
import time
from typing import Any, Iterator, List, NamedTuple, Optional

import torch
from rich.console import Console
from rich.markup import escape

from mmdet_ft import processes
from mmdet_ft.checkpoints import writing
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.config.config import Config
from mmdet_ft.engine.batch_size import images_per_step
from mmdet_ft.engine.build import Run, assemble
from mmdet_ft.engine.errors import UserError, is_user_mistake
from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.hooks.early_stop import EarlyStopHook
from mmdet_ft.engine.hooks.evaluation import EvalHook
from mmdet_ft.engine.hooks.experiment_loggers import ExperimentLoggerHook
from mmdet_ft.engine.reporting.log import Terminal, get_root_logger
from mmdet_ft.engine.run_check import preflight
from mmdet_ft.engine.run_check.overwriting import refuse_overwriting
from mmdet_ft.engine.runner.batch_of_one import check_last_batch, last_batch_size
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.engine.runner.resume_state import Resumed, newest_checkpoint
from mmdet_ft.spelling import counted

NUM_STEPS = 2
MOST_NAMES = 8  # of images per line


class Checklist:
    """Lines on stdout, one per part: its success, and details."""

    def __init__(self):
        self.console = Console(highlight=False, soft_wrap=True)
        self._details: List[str] = []

    @contextlib.contextmanager
    def __call__(self, title: str) -> Iterator[None]:
        self._details = []
        began = time.monotonic()
        try:
            yield
        except Exception as error:
            self.console.print(
                f'[red]FAILED[/]  {escape(title)}')  # the command prints the reason, once
            error.exit_code = 1  # of any type
            raise
        seconds = time.monotonic() - began
        details = escape('; '.join(self._details))
        self.console.print(f'[green]ok[/]      {escape(title)}{": " if details else ""}{details} '
                           f'[dim]({seconds:.1f} s)[/]')

    def add(self, detail: str) -> None:
        """Add a detail to the line of the current part."""
        self._details.append(detail)

    def warn(self, text: str) -> None:
        self.console.print(f'[yellow]note[/]    {escape(text)}')


class _Listener(logging.Handler):
    """Puts log messages into the list: warnings as notes, and the summary of the data."""

    def __init__(self, check: Checklist):
        super().__init__(logging.INFO)
        self.check = check

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            self.check.warn(text)
        elif text.startswith('Data. '):  # the last line of the table lists the checks
            self.check.add(text.splitlines()[-1])


@contextlib.contextmanager
def _in_the_list(check: Checklist) -> Iterator[None]:
    """Show log messages from inside the block in the list instead of on the terminal."""
    logger = get_root_logger()
    terminals = [handler for handler in logger.handlers if isinstance(handler, Terminal)]
    listener = _Listener(check)
    logger.addHandler(listener)
    for handler in terminals:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.removeHandler(listener)
        for handler in terminals:
            handler.setLevel(logging.NOTSET)
        for handler in [item for item in logger.handlers if isinstance(item, logging.FileHandler)]:
            logger.removeHandler(handler)  # its file is in the folder to be removed
            handler.close()


def dry_run(cfg: Config, **settings: Any) -> None:
    """Try a config without training: two steps, two validation images and a checkpoint, in a
    temporary folder of the work_dir. `settings` are arguments of `build.train`.

    Raises the first error, after listing it.
    """
    check = Checklist()
    cfg.log_level = 'INFO'  # overrides the config, as the list needs the warnings
    work_dir = os.path.abspath(cfg.work_dir)
    new = _first_missing(work_dir)
    scratch = None
    try:
        with check('work_dir'):
            scratch = _scratch(cfg.work_dir)
            check.add(f'{cfg.work_dir} can be written')
        if cfg.get('auto_resume'):
            cfg.resume_from = cfg.get('resume_from') or newest_checkpoint(
                cfg.work_dir, (cfg.get('checkpoint_config') or {}).get('out_dir'), check.warn)
            cfg.auto_resume = False
        cfg.work_dir = scratch
        with _in_the_list(check):
            _try(cfg, check, settings)
    except KeyboardInterrupt:
        check.console.print('stopped by Ctrl-C; the dry run leaves no files')
        sys.exit(130)  # 128 + SIGINT, as in a shell
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        _remove_empty(work_dir, new)


def _try(cfg: Config, check: Checklist, settings: Any) -> None:
    run = assemble(cfg, item=check, **settings)
    with check('load_from'):
        refuse_overwriting(run.settings, os.path.dirname(
            cfg.work_dir))  # of the run, in which this one has its folder
        check.add('the run does not overwrite the file')
    runner = run.runner
    remarks = run.remarks()
    work = _Work.of(run)  # before the length of the run becomes two steps
    with check('learning rate'):
        preflight.check_learning_rate(runner)
        preflight.check_schedules(runner, len(run.train_loader))
        check.add(
            f'{runner.current_lr()[0]:g} for {counted(images_per_step(run.settings), "image")} a step'
        )
    with check('disk space'):
        room = preflight.measure_checkpoint_space(runner)
        check.add(str(room) if room else 'none are saved')
    for hook in runner.hooks:
        if isinstance(hook, EarlyStopHook):
            with check('early stop'):
                hook.before_run(runner)
                check.add(f'{hook.monitor}, {counted(hook.patience, "evaluation")}')
    with check('last batch of an epoch'):
        check_last_batch(runner, run.train_loader)
        number = last_batch_size(run.train_loader)
        check.add(counted(number, 'image') if number else 'an unknown number of images')
    with check(f'{NUM_STEPS} training steps'):
        watch = _train(run)
        check.add('loss ' + ', '.join(f'{loss:.4g}' for loss in watch.losses))
        if watch.files:
            more = ' ...' if len(watch.files) > MOST_NAMES else ''
            check.add(f'images {", ".join(watch.files[:MOST_NAMES])}{more}')
    evaluation = None
    for hook in runner.hooks:
        if isinstance(hook, EvalHook):
            with check(f'{preflight.NUM_IMAGES} validation images'):
                judged = preflight.check_evaluation(runner, hook)
                check.add(f'metrics: {", ".join(judged.figures) or "none yet: nothing was found"}')
            if judged.seconds is not None:
                evaluation = judged.seconds * len(hook.dataloader.dataset)
    with check('a checkpoint written and read'):
        size = _save_and_read(runner)
        check.add(f'{size / 1e6:.1f} MB')
    memory = _memory(runner)
    if memory:
        check.console.print(f'[green]ok[/]      memory: {memory}')
    num_kept = room.num_kept if room else 0
    check.console.print(
        f'[green]ok[/]      time: {escape(work.describe(watch.seconds, evaluation, num_kept, size))}'
    )
    for remark in remarks:
        check.warn(remark)
    if not work.num_steps:
        unit = 'max_epochs' if runner.by_epoch else 'max_iters'
        check.warn(
            f'the checkpoint to resume is at the end of the run: no step is left; to train longer, raise '
            f'runner.{unit}')


class _Work(NamedTuple):
    """The amount of work of a run."""
    num_steps: int  # remaining
    length: str
    num_evaluations: int

    @classmethod
    def of(cls, run: Run) -> '_Work':
        runner = run.runner
        if runner.by_epoch:
            num_epochs = max(runner.max_epochs - runner.epoch, 0)
            num_steps = num_epochs * run.epoch_length
            length = f'{counted(num_epochs, "epoch")} of {counted(run.epoch_length, "step")}'
        else:
            num_steps = max(runner.max_iters - runner.iter, 0)
            length = counted(num_steps, 'step')
        num_evaluations = 0
        for hook in runner.hooks:
            if isinstance(hook, EvalHook):
                num_evaluations = (num_epochs if hook.by_epoch else num_steps) // hook.interval
        return cls(num_steps, length, num_evaluations)

    def describe(self, step: float, evaluation: Optional[float], num_kept: int, size: int) -> str:
        """Describe the total for the run: from seconds of a step and an evaluation, and bytes of a checkpoint."""
        parts = [f'about {step:.2g} s a step: {self.length} = {duration(self.num_steps * step)}']
        if evaluation is not None and self.num_evaluations:
            parts.append(f'evaluation {duration(evaluation)}' + (
                f' each, {self.num_evaluations} of them = {duration(self.num_evaluations * evaluation)}'
                if self.num_evaluations > 1 else ''))
        if num_kept:
            parts.append(f'{counted(num_kept, "checkpoint")} of {size / 1e6:.0f} MB' +
                         (f' = {num_kept * size / 1e6:.0f} MB' if num_kept > 1 else ''))
        return '; '.join(parts)


def duration(seconds: float) -> str:
    """Format seconds for people: 40 s, 50 min, 3.5 h, 2.1 days."""
    for unit, length, most in (('s', 1, 100), ('min', 60, 100), ('h', 3600, 72)):
        if seconds < most * length:
            value = seconds / length
            return f'{value:.2g} {unit}' if value < 10 else f'{math.ceil(value)} {unit}'
    return f'{seconds / 86400:.1f} days'


class _Watch(Hook):

    def __init__(self):
        self.losses: List[float] = []
        self.files: List[str] = []
        self.seconds = 0.  # of the last step with its loading: the first one also initializes
        self._began = time.perf_counter()

    def before_train_epoch(self, runner: Runner) -> None:
        self._began = time.perf_counter()

    def after_train_iter(self, runner: Runner) -> None:
        runner.check_finite()  # waits for the device
        self.seconds, self._began = time.perf_counter() - self._began, time.perf_counter()
        self.losses.append(float(runner.outputs['loss']))
        views = runner.data_batch
        self.files += [
            os.path.basename(str(meta['filename'])) for meta in getattr(views, 'metas', ())
            if meta.get('filename')  # MNIST has arrays
        ]


class _FirstBatches:
    """A loader that ends after its first batches; other attributes are those of the loader itself."""

    def __init__(self, loader: Any, number: int):
        self.loader, self.number = loader, number

    def __len__(self) -> int:
        return min(self.number, len(self.loader))

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self.loader, len(self))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def _train(run: Run) -> _Watch:
    """Train with all hooks of the config except those that save, evaluate or start a run at a tracker."""
    runner, watch = run.runner, _Watch()
    left_out = (CheckpointHook, EvalHook, EarlyStopHook, ExperimentLoggerHook)
    all_hooks = runner.hooks
    runner.hooks = [hook for hook in all_hooks if not isinstance(hook, left_out)]
    runner.register_hook(watch, 'HIGHEST')
    runner.epoch = runner.iter = 0
    runner.resumed = Resumed()
    loader = run.train_loader
    if runner.by_epoch:
        runner.max_epochs, loader = 1, _FirstBatches(loader, NUM_STEPS)
    else:
        runner.max_iters = NUM_STEPS
    try:
        runner.run([loader], [('train', 1)])
    except Exception as error:
        hook = _failed_hook(runner)
        if hook is None or is_user_mistake(error):
            raise
        raise UserError(
            f'{type(hook).__name__}.{runner.calling.stage} raised {type(error).__name__}: {error} '
            '(custom_hooks or log_config.hooks of the config)') from error
    runner.hooks = all_hooks
    return watch


def _failed_hook(runner: Runner) -> Optional[Hook]:
    return None if runner.calling is None else runner.hooks[len(runner.calling.done)]


def _save_and_read(runner: Runner) -> int:
    """Write a checkpoint, read it and compare; returns its bytes. Raises UserError."""
    path = os.path.join(runner.work_dir, 'dry_run.pth')
    runner.save_checkpoint(runner.work_dir, os.path.basename(path))
    found = read(path).state_dict
    for name, value in getattr(runner.model, 'module', runner.model).state_dict().items():
        if not torch.equal(found[name], value.cpu()):
            raise UserError(
                f'{name} was not read from {path} as it was written: the disk is not sound')
    return os.path.getsize(path)


def _memory(runner: Runner) -> str:
    """Describe the peak memory so far; '' if the system does not report it."""
    used = processes.peak_memory()
    parts = [] if used is None else [f'{used / 1e9:.1f} GB of this process']
    if runner.device.type == 'cuda':
        total = torch.cuda.get_device_properties(runner.device).total_memory
        parts.append(
            f'{torch.cuda.max_memory_allocated(runner.device) / 1e9:.1f} of {total / 1e9:.1f} GB of the GPU'
        )
    return f'{"; ".join(parts)}, in these steps; larger images and more objects take more' if parts else ''


def _first_missing(folder: str) -> Optional[str]:
    """Return the outermost folder that would be created with `folder`."""
    folder, missing = os.path.abspath(folder), None
    while not os.path.exists(folder):
        folder, missing = os.path.dirname(folder), folder
    return missing


def _remove_empty(folder: str, outermost: Optional[str]) -> None:
    """Remove the empty folders from `folder` up to `outermost`; other runs can have written into them."""
    while outermost is not None and os.path.commonpath([folder, outermost]) == outermost:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            pass
        except OSError:
            return
        folder = os.path.dirname(folder)


def _scratch(work_dir: str) -> str:
    try:
        for tries_left in (2, 1, 0):
            os.makedirs(work_dir, exist_ok=True)
            try:
                scratch = tempfile.mkdtemp(prefix='.dry_run_', dir=work_dir)
                break
            except FileNotFoundError:  # another dry run has already removed the empty folder
                if not tries_left:
                    raise
        with writing.atomic_file(os.path.join(scratch, 'probe')) as file:
            file.write(b'probe')
    except OSError as error:
        raise UserError(
            f'cannot write to work_dir {work_dir!r}: {error.strerror or error}; name another with '
            '--work-dir') from None
    return scratch
