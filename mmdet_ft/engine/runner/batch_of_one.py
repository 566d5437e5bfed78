"""Batch norm with a batch of one: torch refuses it, as one value per channel cannot be normalized."""
from typing import Any, List

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.runner import resume_state
from mmdet_ft.engine.runner.batches import is_endless
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.structures import to_device


def is_single_value(error: BaseException) -> bool:
    """Return whether torch has refused a batch norm of one value per channel."""
    return isinstance(error, ValueError) and 'Expected more than 1 value per channel' in str(error)


def with_running_statistics(model: nn.Module, batch: Any) -> Any:
    """Call a model in training with its batch norms using their running statistics."""
    layers = _learning_norms(model)
    for layer in layers:
        layer.eval()
    try:
        return model(batch)
    finally:
        for layer in layers:
            layer.train()


def last_batch_size(loader: Any) -> int:
    """Return the number of images in the last batch of an epoch, per rank; 0 if the loader does not give it."""
    size = getattr(loader, 'batch_size', None) or getattr(
        getattr(loader, 'batch_sampler', None), 'batch_size', None) or 0
    sampler = getattr(loader, 'sampler', None)
    if not size or sampler is None or is_endless(loader) or getattr(loader, 'drop_last', False):
        return size
    return len(sampler) % size or size


def check_last_batch(runner: Runner, loader: Any) -> None:
    """Refuse a last batch of one image if it gives a batch norm one value per channel.

    Runs the first image, and only if there is such a batch; has no side effects. Raises UserError.
    """
    model = getattr(runner.model, 'module', runner.model)
    if last_batch_size(loader) != 1:
        return
    random_state, was_training = resume_state.random_state(), model.training
    model.train()
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        layers = _learning_norms(model)
        if layers and not any(isinstance(layer, nn.SyncBatchNorm) for layer in layers):
            _try_one(runner, model, loader)
    except ValueError as error:
        if is_single_value(error):
            raise UserError(_advice(loader)) from None
    except Exception:
        pass  # the first step raises the error itself
    finally:
        for buffer, value in before:
            buffer.copy_(value)
        model.train(was_training)
        resume_state.set_random_state(random_state)


def _try_one(runner: Runner, model: nn.Module, loader: Any) -> None:
    dataset = loader.dataset
    batch = loader.collate_fn([dataset[next(iter(loader.sampler))]])
    with torch.no_grad(), runner.precision.autocast():
        model(to_device(batch, runner.device))


def _advice(loader: Any) -> str:
    number, size = len(loader.sampler), loader.batch_size
    if size == 1 or number == 1:
        return (
            'a step has 1 image, and the model ends in maps of 1 x 1: batch norm gets one value a channel and '
            'cannot train on it; to fix: data = dict(samples_per_gpu=2), larger images, or '
            'model = dict(backbone=dict(norm_eval=True))')
    return (
        f'{number} images (of a process) in steps of {size} leave a last batch of 1, and the model ends in maps of '
        '1 x 1: batch norm gets one value a channel and cannot train on it; to fix: leave that batch out with '
        'data = dict(train_dataloader=dict(drop_last=True))')


def _learning_norms(model: nn.Module) -> List[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, _BatchNorm) and layer.training]
