"""State of a failed run: `failure_<rank>.pt`, from which tools/misc/replay.py repeats the step.

It holds, readable with `weights_only`: the batch, its image paths, the iteration, learning rates
and gradient norm, the random states, the weights before the step, the config and the error.
"""
import contextlib
import os
import re
import shlex
import traceback
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mmdet_ft import structures
from mmdet_ft.checkpoints import writing
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.command_names import how_to_run
from mmdet_ft.engine.errors import NonFiniteError, UserError, first_line, is_consequence
from mmdet_ft.engine.hooks.ema import BaseEMAHook
from mmdet_ft.engine.runner import resume_state
from mmdet_ft.engine.runner.protocol import Runner


class OutOfMemory(UserError):
    """The GPU or the machine has too little memory for a step; the message names images and settings."""


class LoaderDied(UserError):
    """A loader process has ended without an error: killed, or by a crash of a library."""


@contextlib.contextmanager
def record_failures(runner: Runner) -> Iterator[None]:
    """Write `failure_<rank>.pt` into the work_dir if `runner.run` inside fails, and explain an
    out-of-memory error."""
    try:
        yield
    except Exception as error:
        if not is_step_failure(runner, error):
            raise
        path = os.path.join(runner.work_dir, f'failure_{runner.rank}.pt')
        try:
            torch_save(path, record(runner, error))
            _note(error,
                  f'{path} holds the step; {how_to_run("replay")} {shlex.quote(path)} repeats it')
        except Exception as second:  # never hide the error itself
            _note(error, f'{path} could not be written: {second}')
        if is_out_of_memory(error):
            raise _explain_memory(runner, error) from error
        if re.match(r'DataLoader worker \(pid.*\) (exited|is killed)', str(error)):
            raise _explain_death(error) from error
        raise


def is_step_failure(runner: Runner, error: Exception) -> bool:
    """Return whether the batch, the model or the loader of this process failed, not a setting, a
    disk or another rank."""
    if isinstance(error, (UserError, CheckpointError)) and not isinstance(error, NonFiniteError):
        return False
    if is_consequence(error):
        return False
    return runner.mode is not None and (runner.calling is None
                                        or not runner.calling.stage.startswith('before_'))


def _note(error: BaseException, text: str) -> None:
    """Add a note to an error, as Python 3.11's add_note does."""
    error.__notes__ = [*getattr(error, '__notes__', ()), text]


def torch_save(path: str, content: Dict[str, Any]) -> None:
    with writing.atomic_file(path) as file:
        torch.save(writing.plain(content), file)


def record(runner: Runner, error: BaseException) -> Dict[str, Any]:
    """Return the state of the step that failed."""
    iteration = error.iteration if isinstance(error, NonFiniteError) else runner.iter
    batch = runner.data_batch if iteration == runner.iter else None
    indices = None
    if runner.mode == 'train' and iteration is not None:
        indices = locate_samples(runner.data_loader, iteration, runner)
        if batch is None and isinstance(error, NonFiniteError):
            batch = load(runner.data_loader, indices)
    norm = runner.outputs.get('log_vars', {}).get('grad_norm')
    return dict(
        error=''.join(traceback.format_exception_only(type(error), error)).strip(),
        traceback=''.join(traceback.format_exception(None, error, error.__traceback__)),
        mode=runner.mode,
        iteration=iteration,
        epoch=runner.epoch,
        seed=runner.seed,
        rank=runner.rank,
        world_size=runner.world_size,
        device=str(runner.device),
        learning_rates=runner.current_lr(),
        grad_norm=None if norm is None else float(norm),
        losses=runner.latch.losses_of(iteration),
        files=files_of(batch),
        places=indices,
        batch=pack(batch),
        random_state=resume_state.random_state(),
        # A sample that cannot be loaded needs no weights.
        state_dict=None if batch is None else training_weights(runner),
        config=runner.meta.get('config'),
        classes=getattr(getattr(runner.model, 'module', runner.model), 'CLASSES', None))


def training_weights(runner: Runner) -> Dict[str, Tensor]:
    """Return the trained weights, even if the model holds their moving averages."""
    weights = dict(getattr(runner.model, 'module', runner.model).state_dict())
    for hook in runner.hooks:
        if isinstance(hook, BaseEMAHook):
            weights = hook.training_weights(weights)
    return weights


# ------------------------------------------------------------------------------------------- a batch


def locate_samples(loader: DataLoader, iteration: int, runner: Runner) -> Optional[List[List[int]]]:
    """Return [epoch, index] of the samples of an iteration, by the loader's sampler; None for an
    unknown kind of sampler."""
    batch_sampler = getattr(loader, 'batch_sampler', None)
    sampler = getattr(loader, 'sampler', None)
    if hasattr(batch_sampler, 'set_start'):
        batch_sampler.set_start(iteration)
    elif hasattr(sampler, 'set_start') and hasattr(sampler, 'set_epoch'):
        epoch, within = divmod(iteration, runner.epoch_length)
        sampler.set_epoch(epoch)
        sampler.set_start(within * loader.batch_size)
    else:
        return None
    indices = next(iter(batch_sampler), [])
    return [[getattr(index, 'epoch', 0), int(index)] for index in indices]


def load(loader: DataLoader, indices: Optional[List[List[int]]]) -> Any:
    """Load the batch of these indices in this process instead of a worker."""
    if indices is None:
        return None
    from mmdet_ft.datasets.loading.collate import collate
    from mmdet_ft.datasets.loading.samplers import SampleIndex
    return collate([loader.dataset[SampleIndex.of(index, epoch)] for epoch, index in indices])


def files_of(batch: object) -> List[str]:
    views = batch[0] if isinstance(batch, tuple) and not hasattr(batch, '_fields') else batch
    return [str(meta.get('filename')) for meta in getattr(views, 'metas', None) or ()]


def pack(value: object) -> Any:
    """Convert named tuples to dicts with their type, for a file of plain values."""
    if isinstance(value, tuple) and hasattr(value, '_fields'):
        fields = {name: pack(field) for name, field in zip(value._fields, value)}
        return dict(fields, __type__=type(value).__name__)
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, (list, tuple)):
        return type(value)(pack(item) for item in value)
    return value


def unpack(value: object) -> Any:
    """Restore the input of `pack`, for the types of structures.py."""
    if isinstance(value, dict) and '__type__' in value:
        fields = {name: unpack(field) for name, field in value.items() if name != '__type__'}
        return getattr(structures, value['__type__'])(**fields)
    if isinstance(value, (list, tuple)):
        return type(value)(unpack(item) for item in value)
    return value


# ------------------------------------------------------------------------------------------- memory


def is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, RuntimeError):  # torch's own among them
        return re.search("can't allocate memory|out of memory|_ALLOC_FAILED",
                         str(error)) is not None  # the last of those of CUDA libraries
    return isinstance(error, MemoryError)


class _Image(NamedTuple):
    name: str
    size: str
    num_truths: Optional[int]

    def __str__(self) -> str:
        truths = '' if self.num_truths is None else f', {self.num_truths} truths'
        return f'{self.name} ({self.size}{truths})'


def _images(batch: object) -> List[_Image]:
    valid = getattr(getattr(batch, 'gt', None), 'valid', None)
    # Computed on the host: the device may have no memory left for a single number.
    counts = [None] * len(files_of(batch)) if valid is None else valid.cpu().sum(1).tolist()
    sizes = getattr(batch, 'sizes', None)
    sizes = [('?', '?')] * len(counts) if sizes is None else sizes.cpu().int().tolist()
    return [
        _Image(name, f'{size[1]} x {size[0]}', count)
        for name, size, count in zip(files_of(batch), sizes, counts)
    ]


def _explain_memory(runner: Runner, error: BaseException) -> OutOfMemory:
    images = _images(runner.data_batch)
    most = max((image.num_truths or 0 for image in images), default=0)
    remedies = []
    if len(images) > 1:
        remedies.append(
            f'data.samples_per_gpu below {len(images)} (and optimizer.lr in proportion)')
    remedies.append('a smaller img_scale of Resize in data.train.pipeline')
    if runner.device.type == 'cuda' and runner.precision.dtype is None:
        remedies.append("fp16 = dict(dtype='bfloat16')")
    if most > 100:
        remedies.insert(
            0, 'a RandomCrop in data.train.pipeline, or fewer truths in the image that has '
            f'{most}')
    if runner.mode != 'train':
        remedies = ['data.val.samples_per_gpu=1', 'a smaller img_scale in data.val.pipeline']
    where = f'iteration {runner.iter + 1}' if runner.mode == 'train' else 'an evaluation'
    listed = '; '.join(map(str, images)) or 'unknown'
    cause = first_line(error)
    explained = OutOfMemory(
        f'out of memory on {runner.device} in {where}: {cause}\n  images: {listed}\n'
        f'  what helps: {"; ".join(remedies)}')
    explained.__notes__ = getattr(error, '__notes__', [])
    return explained


def _explain_death(error: BaseException) -> LoaderDied:
    text = first_line(error)
    explained = LoaderDied(
        f'{text}. It had no time to say why. "Killed" is nearly always the machine out of memory: lower '
        'data.workers_per_gpu, or data.samples_per_gpu; "Bus error" too little shared memory: docker run '
        '--shm-size=8g; a crash shows with data.workers_per_gpu=0')
    explained.__notes__ = getattr(error, '__notes__', [])
    return explained
