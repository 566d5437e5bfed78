"""State of a checkpoint besides the weights, so that a resumed run continues as if uninterrupted.

A hook writes the checkpoint in the middle of a call of all hooks: later hooks have not evaluated or
logged yet. So the file records that call and the hooks that are done, and a resumed run finishes
the call first:

    after_train_epoch of epoch 3:   CheckpointHook   EvalHook   EarlyStopHook   TextLoggerHook
                                         saves |     <- killed in here, called (again) after resuming
"""
import os
import random
import time
from collections import Counter
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from mmdet_ft import __version__
from mmdet_ft.checkpoints import reading, writing
from mmdet_ft.checkpoints.classes import compare, line_of, listed, renaming_line
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.fitting import warn_of_spelling
from mmdet_ft.checkpoints.input_format import read_literals
from mmdet_ft.checkpoints.reading import Checkpoint
from mmdet_ft.engine.optimizers.optimizer import (explain_state_difference, load_optimizer_state,
                                                  match_layout)
from mmdet_ft.engine.runner.protocol import Runner

UNFINISHED = ('after_train_iter', 'after_train_epoch')  # calls that a resumed run finishes


class Call(NamedTuple):
    """A call of the hooks: its point, and the hooks that are done."""
    stage: str
    done: Sequence[str]


class Resumed(NamedTuple):
    """Progress of a resumed checkpoint; None for values that the file lacks."""
    world_size: Optional[int] = None
    epoch: Optional[int] = None  # the epoch in training then
    epoch_length: Optional[int] = None  # in iterations
    call: Optional[Call] = None
    run_state: Dict[str, Any] = {}


def newest_checkpoint(work_dir: str,
                      out_dir: Optional[str] = None,
                      warn: Callable[[str], None] = lambda message: None) -> Optional[str]:
    """Return the newest readable checkpoint of a work_dir, or of its folder in the `out_dir` of
    checkpoint_config; None without one. Passes a message to `warn` for each unreadable one."""
    folders = [work_dir]
    if out_dir:
        folders.append(os.path.join(out_dir, os.path.basename(os.path.abspath(work_dir))))
    found = [writing.find_latest_checkpoint(folder, warn) for folder in folders]
    found = [path for path in found if path is not None]
    if not found:
        warn(
            f'auto_resume: {" and ".join(folders)} hold no checkpoint to resume from; the run starts from the beginning'
        )
        return None
    return max(found, key=lambda path: reading.read(path).meta.get('iter', -1))


def names_of(hooks: Sequence[Any]) -> List[str]:
    """Return a name for each hook, stable across runs: its type, and its number within the type."""
    counts: Counter = Counter()
    names = []
    for hook in hooks:
        name = type(hook).__name__
        counts[name] += 1
        names.append(name if counts[name] == 1 else f'{name}#{counts[name]}')
    return names


def capture(runner: Runner, save_optimizer: bool,
            about: Dict[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return (`meta` of the file with `about` added, its other content) for the run's current state."""
    model = getattr(runner.model, 'module', runner.model)
    epochs, iterations = runner.num_done()
    meta = {**runner.meta, **about}
    meta.update(
        epoch=epochs,
        iter=iterations,
        time=time.asctime(),
        mmdet_ft_version=__version__,
        run_id=runner.run_id,
        world_size=runner.world_size,
        epoch_length=runner.epoch_length)
    meta.setdefault('CLASSES', getattr(model, 'CLASSES', None))
    meta.setdefault('PALETTE', getattr(model, 'PALETTE', None))
    if runner.precision.scaler is not None:
        meta['fp16'] = dict(loss_scaler=runner.precision.scaler.state_dict())
    if not save_optimizer or runner.optimizer is None:
        return meta, {}
    others: Dict[str, Any] = dict(
        optimizer=runner.optimizer.state_dict(),
        random_state=random_state(),
        run_state=dict(
            epoch=runner.epoch,
            hooks={
                name: hook.state_dict()
                for name, hook in zip(names_of(runner.hooks), runner.hooks)
            },
            log=runner.log_buffer.state_dict(),
            schedule=runner.schedules.state_dict()))
    if runner.calling is not None and runner.calling.stage in UNFINISHED:
        others['run_state'].update(stage=runner.calling.stage, done=list(runner.calling.done))
    if iterations % runner.update.cumulative_iters and iterations < runner.max_iters:
        others['gradients'] = {
            name: parameter.grad
            for name, parameter in model.named_parameters() if parameter.grad is not None
        }  # of the accumulation window that is not full yet
    return meta, others


def restore(runner: Runner, checkpoint: Checkpoint, resume_optimizer: bool) -> Resumed:
    """Restore the weights and all other state of a checkpoint to a run, except the state of its hooks.

    Raises CheckpointError for a file without its progress, or of another model.
    """
    source, meta, content = checkpoint.source, checkpoint.meta, checkpoint.content
    model = getattr(runner.model, 'module', runner.model)
    if 'epoch' not in meta or 'iter' not in meta:
        raise CheckpointError(
            f'{source} does not say how far it was trained: use it as load_from, not resume_from')
    _require_same_classes(checkpoint, model)
    if resume_optimizer and 'optimizer' in content:
        _require_same_optimizer(checkpoint, runner.optimizer)
    try:
        model.load_state_dict(checkpoint.state_dict)
    except RuntimeError as error:
        raise CheckpointError(
            f'{source} cannot be resumed, the model has changed: {error}. To start a new run from its '
            'weights use load_from') from None
    runner.epoch, runner.iter = int(meta['epoch']), int(meta['iter'])
    runner.run_id = meta.get('run_id', runner.run_id)
    runner.meta.setdefault('hook_msgs', {}).update(meta.get('hook_msgs') or {})
    if resume_optimizer and 'optimizer' in content:
        load_optimizer_state(runner.optimizer, _owned(content['optimizer']))
    if runner.precision.scaler is not None and 'loss_scaler' in (meta.get('fp16') or {}):
        runner.precision.scaler.load_state_dict(meta['fp16']['loss_scaler'])
    for name, gradient in content.get('gradients', {}).items():
        parameter = model.get_parameter(name)
        parameter.grad = match_layout(parameter, _owned(gradient).to(parameter.device))
    if 'random_state' in content:
        set_random_state(content['random_state'])
    state = _owned(content.get('run_state') or {})
    return Resumed(
        world_size=meta.get('world_size'),
        epoch=state.get('epoch'),
        epoch_length=meta.get('epoch_length'),
        call=Call(state['stage'], state['done']) if 'stage' in state else None,
        run_state=state)


def _require_same_classes(checkpoint: Checkpoint, model: Any) -> None:
    """Refuse a checkpoint of other classes, or of the same in another order: its heads would predict others."""
    found = compare(checkpoint.meta.get('CLASSES'), getattr(model, 'CLASSES', None))
    if found is None or found.is_same:
        return
    if found.is_spelling:
        return warn_of_spelling(checkpoint.source, found)
    begin = (
        f'load_from={checkpoint.source!r} instead of resume_from (or --auto-resume), which begins a new run from '
        'its weights')
    if len(found.known) != len(found.wanted):
        ways = f'write {begin}'
    elif not found.missing:
        ways = (
            f'to fix: write {line_of(found.known)} in data.train, data.val and data.test, the order of the '
            f'checkpoint; or {begin}')
    else:
        ways = (
            f'to fix: write {line_of(found.known)} in data.train, data.val and data.test. If only the names have '
            f'changed: {renaming_line(checkpoint.source, found.wanted)}, and resume that. Or write {begin}'
        )
    table = f':\n{found.table("this run")}\n' if len(found.known) == len(found.wanted) else '; '
    raise CheckpointError(
        f'{checkpoint.source} cannot be resumed: it was trained on {listed(found.known)}, and this run has '
        f'{listed(found.wanted)}{table}{ways}')


def _require_same_optimizer(checkpoint: Checkpoint, optimizer: Any) -> None:
    """Refuse the state of another optimizer: the first step would fail, or train by settings of both."""
    text = checkpoint.meta.get('config')
    given = read_literals(text).get('optimizer') if isinstance(text, str) else None
    given = given if isinstance(given, dict) else {}
    difference = explain_state_difference(optimizer, checkpoint.content['optimizer'])
    name = type(optimizer).__name__
    if difference is None and given.get('type', name) != name:
        difference = f'is another one than the {name} of the config'
    if difference is None:
        return
    settings = ', '.join(f'{key}={value!r}' for key, value in given.items())
    same = f'optimizer = dict({settings})' if settings else 'the optimizer that the checkpoint was trained with'
    kind = f'({given["type"]}) ' if 'type' in given else ''
    raise CheckpointError(
        f'{checkpoint.source} cannot be resumed: its optimizer {kind}{difference}. To fix: write {same}; or write '
        f'load_from={checkpoint.source!r} instead of resume_from (or --auto-resume), which begins a new run from its '
        'weights with the optimizer of the config')


def _owned(value: Any) -> Any:
    """Copy tensors that are views of the mapped file, which may be removed or overwritten during the run."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _owned(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_owned(item) for item in value)
    return value


def restore_hooks(runner: Runner, state: Dict[str, Any]) -> None:
    """Restore the state of the hooks and the log; a hook that is not in the file starts fresh."""
    for name, hook in zip(names_of(runner.hooks), runner.hooks):
        if state.get('hooks', {}).get(name):
            hook.load_state_dict(state['hooks'][name])
    runner.log_buffer.load_state_dict(state.get('log', ()), runner.device)
    if 'schedule' in state:
        runner.schedules.load_state_dict(state['schedule'])


def random_state() -> Dict[str, Any]:
    """Return the random state of python, numpy and torch, in types that `weights_only` reads."""
    name, keys, index, has_gauss, cached = np.random.get_state()
    return dict(
        python=random.getstate(),
        torch=torch.get_rng_state(),
        numpy=(name, torch.from_numpy(keys.astype(np.int64)), index, has_gauss, cached))


def set_random_state(state: Dict[str, Any]) -> None:
    version, numbers, gauss = state['python']
    random.setstate((version, tuple(numbers), gauss))
    name, keys, index, has_gauss, cached = state['numpy']
    np.random.set_state((name, keys.numpy().astype(np.uint32), index, has_gauss, cached))
    torch.set_rng_state(state['torch'])
