"""Weights that stay random: frozen, and in no loaded file."""
import contextlib
import inspect
from typing import Any, Dict, Iterator, List, Set, Tuple

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_ft.checkpoints.choosing import is_essential
from mmdet_ft.parts import part_of
from mmdet_ft.registry import MODELS

# Settings that freeze parts -> the value that makes them trainable.
FREEZING = {'frozen_stages': -1, 'norm_eval': False}


class Loaded:
    """Names of the weights of a model that have come from a state_dict, whoever loaded it."""

    def __init__(self):
        self.names: Set[str] = set()


@contextlib.contextmanager
def watch_loading(model: nn.Module) -> Iterator[Loaded]:
    """Record within the block each weight of the model that load_state_dict sets, of the model or a part."""
    loaded = Loaded()
    handles = []
    for path, module in model.named_modules():
        if not module._parameters and not module._buffers:
            continue

        def note(_: nn.Module,
                 state_dict: Dict[str, Any],
                 prefix: str,
                 *__: Any,
                 path: str = path,
                 module: nn.Module = module) -> None:
            for name in (*module._parameters, *module._buffers):
                if prefix + name in state_dict:
                    loaded.names.add(f'{path}.{name}' if path else name)

        handles.append(module.register_load_state_dict_pre_hook(note))
    try:
        yield loaded
    finally:
        for handle in handles:
            handle.remove()


def find_random_frozen(model: nn.Module, loaded: Set[str]) -> Dict[str, List[str]]:
    """Return the frozen weights that no file has set: {part of the model: names of weights}.

    These are weights without gradients, and the statistics of batch norms in evaluation mode during
    training. Calls `train()`, in which parts freeze themselves, and restores the mode of the model.

    Args:
        loaded: names of state_dict() that a file has set.
    """
    was_training = model.training
    model.train()
    found: Dict[str, List[str]] = {}
    for path, module in model.named_modules():
        names = [
            name for name, parameter in module._parameters.items()
            if parameter is not None and not parameter.requires_grad
        ]
        if isinstance(module, _BatchNorm) and not module.training and module.track_running_stats:
            names += ['running_mean', 'running_var']
        for name in names:
            whole = f'{path}.{name}' if path else name
            if whole not in loaded and is_essential(whole):
                found.setdefault(part_of(whole), []).append(whole)
    model.train(was_training)
    return found


def remarks(model: nn.Module, settings: Dict[str, Any], loaded: Set[str]) -> Tuple[str, ...]:
    """Return a sentence for each part that is frozen at random weights, with the line that makes it trainable.

    settings: `model` of the config.
    """
    return tuple(
        _describe_part(part, names, model, settings)
        for part, names in find_random_frozen(model, loaded).items())


def _describe_part(part: str, names: List[str], model: nn.Module, settings: Dict[str, Any]) -> str:
    module = model.get_submodule(part)
    present = {key: getattr(module, key) for key in FREEZING if hasattr(module, key)}
    own = settings_at(settings, part)
    edits = _freeing(present, own)
    causes = [f'{key}={present[key]!r}' for key in edits if key in present]
    causes += ['norm_cfg.requires_grad=False'] if 'norm_cfg' in edits else []
    weights = [name for name in names if not name.endswith(('running_mean', 'running_var'))]
    what = [f'{len(weights)} weights keep their random initial values'] if weights else []
    if len(names) > len(weights):
        what.append('batch norm keeps statistics of no image (mean 0, variance 1)')
    line = f'model = dict({nest_settings(part, edits)})' if edits else 'requires_grad_(True)'
    because = f' ({", ".join(causes)})' if causes else ''
    return (
        f'model.{part} is frozen{because} and no file gives it weights: {", and ".join(what)}, such as {names[0]}. '
        f'Let it learn: {line}; or give it weights by {part}.init_cfg=dict(type=\'Pretrained\', checkpoint=...) or '
        'load_from')


def freeing_line(settings: Dict[str, Any], part: str, changes: Dict[str, Any]) -> str:
    """Return the config line by which a part of the model starts from random weights and trains all of them.

    Args:
        settings: `model` of the config.
        part: dotted path of the part below it.
        changes: other settings of the part on the line; `pretrained=None` is set on the model.
    """
    own = settings_at(settings, part)
    cls = MODELS.class_of(own)
    parameters = inspect.signature(cls).parameters if cls is not None else {}
    present = {key: own.get(key, parameters[key].default) for key in FREEZING if key in parameters}
    above = {key: value for key, value in changes.items() if key == 'pretrained'}
    within = {key: value for key, value in changes.items() if key not in above}
    within.update(_freeing(present, own))
    edits = [f'{key}={value!r}' for key, value in above.items()]
    return f'model = dict({", ".join(edits + ([nest_settings(part, within)] if within else []))})'


def nest_settings(part: str, edits: Dict[str, Any]) -> str:
    """Return nested settings, such as `roi_head=dict(shared_head=dict(norm_eval=False))`."""
    line = ', '.join(f'{key}={value!r}' for key, value in edits.items())
    for key in reversed(part.split('.')):
        line = f'{key}=dict({line})'
    return line


def _freeing(present: Dict[str, Any], own: Dict[str, Any]) -> Dict[str, Any]:
    """Return the settings to change so that nothing is frozen."""
    edits = {
        key: FREEZING[key]
        for key, value in present.items() if value not in (FREEZING[key], None)
    }
    norm_cfg = own.get('norm_cfg')
    if isinstance(norm_cfg, dict) and norm_cfg.get('requires_grad') is False:
        edits['norm_cfg'] = dict(norm_cfg, requires_grad=True)
    return edits


def settings_at(settings: object, part: str) -> Dict[str, Any]:
    """Return the dict at a dotted path of a model's settings, {} if there is no such dict."""
    for key in part.split('.'):
        settings = settings.get(key) if isinstance(settings, dict) else None
    return settings if isinstance(settings, dict) else {}
