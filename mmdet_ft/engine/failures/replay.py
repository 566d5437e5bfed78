"""Replay of the step of a failed run from its state: `failure_<rank>.pt`."""
import dataclasses
from types import SimpleNamespace
from typing import Any, Dict, List, Optional

import torch
from torch import Tensor, nn

from mmdet_ft.checkpoints import reading
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.config.config import Config
from mmdet_ft.datasets.build import build_dataset
from mmdet_ft.datasets.loading.loader import build_loader
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.errors import UserError, first_line
from mmdet_ft.engine.failures.forensics import load, unpack
from mmdet_ft.engine.models.build import build_model
from mmdet_ft.engine.runner.resume_state import set_random_state
from mmdet_ft.engine.runner.seeds import begin_step, seed_of
from mmdet_ft.engine.settings.read import read_run_settings
from mmdet_ft.engine.speed.precision import build_precision
from mmdet_ft.models.layers import unsynchronize
from mmdet_ft.structures import to_device
from mmdet_ft.untrusted import require_plain_config


def read_failure(path: str) -> Dict[str, Any]:
    """Read the state of a failed run; raises UserError for another file."""
    try:
        failure = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError:
        raise UserError(
            f'{path} does not exist; a run that fails in a step leaves failure_<rank>.pt in its '
            'work_dir') from None
    except Exception as error:
        raise UserError(f'{path} is not what a failed run leaves: {first_line(error)}') from None
    if not isinstance(failure, dict) or 'random_state' not in failure:
        raise UserError(f'{path} is not what a failed run leaves (failure_<rank>.pt)')
    return failure


def replay(failure: Dict[str, Any],
           checkpoint: Optional[str] = None,
           device: str = 'cpu') -> Dict[str, float]:
    """Repeat the step with the same batch, weights and random numbers; returns the losses and `grad_norm`.

    Args:
        failure: of `read_failure`. If it has no batch, the samples are loaded again.
        checkpoint: weights to use instead of those before the step.
        device: to run on. A CPU uses float32 instead of float16.

    Raises the error of the step, if it occurs again.
    """
    require_plain_config(failure['config'], 'the failure file')
    settings = read_run_settings(prepare(Config.fromstring(failure['config'], '.py'))[0])
    set_random_state(failure['random_state'])
    batch = unpack(failure['batch'])
    if batch is None:
        if failure['places'] is None:
            raise UserError(f'the file holds neither a batch nor its indices: {failure["error"]}')
        of_train = settings.data.train_loader(runner_type=settings.runner['type'])
        loader = build_loader(
            build_dataset(settings.data.train),
            dataclasses.replace(
                of_train, seed=failure['seed'], workers_per_gpu=0, dist=False, num_gpus=1))
        batch = load(loader, failure['places'])
    model = build_model(settings.model, SimpleNamespace(CLASSES=failure['classes']))
    _load_weights(model, failure, checkpoint)
    model.to(device).train()
    if device == 'cpu':
        unsynchronize(model)
    torch.manual_seed(seed_of(failure['seed'], failure['iteration'], failure['rank']))
    begin_step(model, failure['iteration'], failure['seed'])
    fp16 = settings.fp16
    if device == 'cpu' and 'bf' not in str((fp16 or {}).get('dtype')):
        fp16 = None  # a CPU has no float16
    precision = build_precision(fp16, device)
    with precision.autocast():
        losses = model(to_device(batch, torch.device(device)))
    values = {**losses.terms, **losses.metrics, 'loss': losses.total}
    precision.scale(losses.total).backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    precision.unscale(gradients)
    values['grad_norm'] = _norm(gradients)
    return {key: float(value.detach()) for key, value in values.items()}


def _load_weights(model: nn.Module, failure: Dict[str, Any], checkpoint: Optional[str]) -> None:
    weights = failure['state_dict'] if checkpoint is None else reading.read(checkpoint).state_dict
    if weights is None:
        raise UserError('the file holds no weights: name a checkpoint with --checkpoint')
    own = model.state_dict()
    missing = [
        name for name in own if name not in weights or weights[name].shape != own[name].shape
    ]
    if missing:
        raise CheckpointError(
            f'{checkpoint or "the file"} lacks weights of the model: {", ".join(missing[:5])}')
    model.load_state_dict({name: weights[name] for name in own})


def _norm(gradients: List[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(gradients)).norm()
