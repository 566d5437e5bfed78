"""`tools/train.py --dry-run`: everything that a run does, in small, with a list of what went well."""
import contextlib
import itertools
import os
import resource
import shutil
import tempfile
import time
from typing import Any, Iterator, List, Optional

import torch
from rich.console import Console
from rich.markup import escape

from mmdet_ft.checkpoints import writing
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.config.config import Config
from mmdet_ft.engine.batch_size import images_per_step
from mmdet_ft.engine.build import Run, assemble
from mmdet_ft.engine.checks import manners, preflight
from mmdet_ft.engine.errors import UserError, is_user_mistake, message_of
from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.hooks.early_stop import EarlyStopHook
from mmdet_ft.engine.hooks.evaluation import EvalHook
from mmdet_ft.engine.hooks.hook import Hook
from mmdet_ft.engine.state import Place, resume_source

NUM_STEPS = 2
MOST_NAMES = 8  # of images in a line


class Checklist:
    """Lines on stdout, one a part: whether it went well, and what there is to know."""

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
            self.console.print(f'[red]FAILED[/]  {escape(title)}: {escape(message_of(error))}')
            error.exit_code = 1  # whatever it is
            raise
        seconds = time.monotonic() - began
        details = escape('; '.join(self._details))
        self.console.print(f'[green]ok[/]      {escape(title)}{": " if details else ""}{details} '
                           f'[dim]({seconds:.1f} s)[/]')

    def tell(self, detail: str) -> None:
        """Add to the line of the present part."""
        self._details.append(detail)

    def warn(self, text: str) -> None:
        self.console.print(f'[yellow]note[/]    {escape(text)}')


def dry_run(cfg: Config, **settings: Any) -> None:
    """Try a config without training: two steps, two validation images, a checkpoint, in a folder of
    the work_dir that is removed again. `settings` are arguments of `build.train`.

    Raises what fails, after the list has told it.
    """
    check = Checklist()
    cfg.log_level = 'ERROR'
    new = _first_missing(cfg.work_dir)
    scratch = None
    try:
        with check('work_dir'):
            scratch = _scratch(cfg.work_dir)
            check.tell(f'{cfg.work_dir} can be written')
        if cfg.get('auto_resume'):
            cfg.resume_from, cfg.auto_resume = resume_source(cfg, check.warn), False
        cfg.work_dir = scratch
        _try(cfg, check, settings)
    finally:
        for folder in (scratch, new):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _try(cfg: Config, check: Checklist, settings: Any) -> None:
    run = assemble(cfg, item=check, **settings)
    runner, hooks = run.runner, list(run.runner.hooks)
    found = manners.remarks(runner, run.cfg, run.epoch_length, images_per_step(run.cfg),
                            len(run.train_loader.dataset))
    with check('learning rate'):
        preflight.check_learning_rate(runner)
        check.tell(f'{runner.current_lr()[0]:g} for {images_per_step(run.cfg)} images a step')
    with check('room for checkpoints'):
        room = preflight.room_for_checkpoints(runner)
        check.tell(str(room) if room else 'none are saved')
    with check(f'{NUM_STEPS} training steps'):
        watch = _train(run)
        check.tell('loss ' + ', '.join(f'{loss:.4g}' for loss in watch.losses))
        if watch.files:
            more = ' ...' if len(watch.files) > MOST_NAMES else ''
            check.tell(f'images {", ".join(watch.files[:MOST_NAMES])}{more}')
    for hook in hooks:
        if isinstance(hook, EvalHook):
            with check(f'{preflight.NUM_IMAGES} validation images'):
                figures = preflight.check_evaluation(runner, hook)
                check.tell(f'figures: {", ".join(figures) or "none yet"}')
    with check('a checkpoint written and read'):
        check.tell(_save_and_read(runner))
    check.console.print(f'[green]ok[/]      memory: {_memory(runner)}')
    for remark in found:
        check.warn(remark)


class _Watch(Hook):

    def __init__(self):
        self.losses: List[float] = []
        self.files: List[str] = []

    def after_train_iter(self, runner: Any) -> None:
        runner.check_finite()
        self.losses.append(float(runner.outputs['loss']))
        views = runner.data_batch
        self.files += [
            os.path.basename(str(meta['filename'])) for meta in getattr(views, 'metas', ())
            if meta.get('filename')  # MNIST has arrays
        ]


class _FirstBatches:
    """A loader that ends after its first batches; else it is the loader itself."""

    def __init__(self, loader: Any, number: int):
        self.loader, self.number = loader, number

    def __len__(self) -> int:
        return min(self.number, len(self.loader))

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(self.loader, len(self))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def _train(run: Run) -> _Watch:
    """Steps with all hooks of the config but those that save and evaluate."""
    runner, watch = run.runner, _Watch()
    left_out = (CheckpointHook, EvalHook, EarlyStopHook)
    runner.hooks = [hook for hook in runner.hooks if not isinstance(hook, left_out)]
    runner.register_hook(watch, 'HIGHEST')
    runner.epoch = runner.iter = 0
    runner.resumed = Place()
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
    return watch


def _failed_hook(runner: Any) -> Optional[Hook]:
    return None if runner.calling is None else runner.hooks[len(runner.calling.done)]


def _save_and_read(runner: Any) -> str:
    path = os.path.join(runner.work_dir, 'dry_run.pth')
    runner.save_checkpoint(runner.work_dir, os.path.basename(path))
    found = read(path).state_dict
    for name, value in getattr(runner.model, 'module', runner.model).state_dict().items():
        if not torch.equal(found[name], value.cpu()):
            raise UserError(
                f'{name} was not read from {path} as it was written: the disk is not sound')
    return f'{os.path.getsize(path) / 1e6:.1f} MB'


def _memory(runner: Any) -> str:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # kB on Linux
    text = f'{used:.1f} GB of this process'
    if runner.device.type == 'cuda':
        total = torch.cuda.get_device_properties(runner.device).total_memory
        text += f'; {torch.cuda.max_memory_allocated(runner.device) / 1e9:.1f} of {total / 1e9:.1f} GB of the GPU'
    return f'{text}, in these steps; larger images and more objects take more'


def _first_missing(folder: str) -> Optional[str]:
    """The outermost folder that making `folder` would make."""
    folder, missing = os.path.abspath(folder), None
    while not os.path.exists(folder):
        folder, missing = os.path.dirname(folder), folder
    return missing


def _scratch(work_dir: str) -> str:
    try:
        os.makedirs(work_dir, exist_ok=True)
        scratch = tempfile.mkdtemp(prefix='.dry_run_', dir=work_dir)
        with writing.atomic_file(os.path.join(scratch, 'probe')) as file:
            file.write(b'probe')
    except OSError as error:
        raise UserError(
            f'cannot write to work_dir {work_dir!r}: {error.strerror or error}; name another with '
            '--work-dir') from None
    return scratch
