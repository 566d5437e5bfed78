"""Optimizers by name, with V2's per-parameter settings, and a step that can be skipped on the device."""
import inspect
from typing import Any, Dict, List, Optional

import torch
from torch import Tensor, nn

from mmdet_ft.registry import OPTIMIZER_BUILDERS, OPTIMIZERS

for _name, _class in vars(torch.optim).items():
    if inspect.isclass(_class) and issubclass(
            _class, torch.optim.Optimizer) and _class is not torch.optim.Optimizer:
        OPTIMIZERS.register_module(_name, module=_class)

NORM_LAYERS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.GroupNorm,
               nn.LayerNorm)

# Their fused kernels keep weights and state unchanged if `found_inf` is 1, without a host sync.
REFUSING_OPTIMIZERS = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


@OPTIMIZER_BUILDERS.register_module()
class DefaultOptimizerConstructor:
    """Parameter groups as in V2: a single one, or with `paramwise_cfg` one per parameter.

    Args:
        optimizer_cfg: `dict(type=..., lr=..., ...)`.
        paramwise_cfg: `bias_lr_mult` and `bias_decay_mult` (biases outside norm layers),
            `norm_decay_mult`, `dwconv_decay_mult` (depthwise convolutions), `dcn_offset_lr_mult`
            (offsets of deformable ones), `custom_keys={'part of a name': dict(lr_mult=...,
            decay_mult=...)}` (the longest matching key wins, and the other settings do not apply),
            `bypass_duplicate` (a shared parameter counts once).
    """

    known = ('bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'dwconv_decay_mult',
             'dcn_offset_lr_mult', 'custom_keys', 'bypass_duplicate')

    def __init__(self,
                 optimizer_cfg: Dict[str, Any],
                 paramwise_cfg: Optional[Dict[str, Any]] = None):
        self.optimizer_cfg = dict(optimizer_cfg)
        self.paramwise_cfg = dict(paramwise_cfg or {})
        self.base_lr = optimizer_cfg.get('lr')
        self.base_wd = optimizer_cfg.get('weight_decay')
        unknown = sorted(set(self.paramwise_cfg) - set(self.known))
        if unknown:
            raise ValueError(
                f'optimizer.paramwise_cfg has no {", ".join(unknown)}; it knows {", ".join(self.known)}'
            )
        customs = self.paramwise_cfg.get('custom_keys', {}).values()
        lr_asked = any('lr_mult' in key for key in ('bias_lr_mult', 'dcn_offset_lr_mult')
                       if key in self.paramwise_cfg)
        decay_asked = any('decay_mult' in key for key in self.paramwise_cfg)
        if self.base_wd is None and (decay_asked or any('decay_mult' in custom
                                                        for custom in customs)):
            raise ValueError(
                'optimizer.paramwise_cfg multiplies a weight decay: write optimizer.weight_decay too'
            )
        if self.base_lr is None and (lr_asked or customs):
            raise ValueError(
                'optimizer.paramwise_cfg multiplies a learning rate: write optimizer.lr too')

    def __call__(self, model: nn.Module) -> torch.optim.Optimizer:
        model = getattr(model, 'module', model)
        groups = self.parameter_groups(model) if self.paramwise_cfg else list(model.parameters())
        settings = dict(self.optimizer_cfg)
        optimizer_class = OPTIMIZERS.resolve(settings.pop('type', None))
        if _can_fuse(optimizer_class, settings, model):
            settings['fused'] = True
        return optimizer_class(groups, **settings)

    def parameter_groups(self, model: nn.Module) -> List[Dict[str, Any]]:
        groups, seen = [], set()
        custom_keys = self.paramwise_cfg.get('custom_keys', {})
        longest_first = sorted(sorted(custom_keys), key=len, reverse=True)
        # As in V2, a shared module is visited once per occurrence: torch then refuses it, unless
        # bypass_duplicate is set.
        for prefix, module in model.named_modules(remove_duplicate=False):
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad and self.paramwise_cfg.get(
                        'bypass_duplicate') and parameter in seen:
                    continue
                seen.add(parameter)
                group = {'params': [parameter]}
                if parameter.requires_grad:  # frozen ones are kept, because resuming depends on the order
                    custom = next((key for key in longest_first if key in f'{prefix}.{name}'), None)
                    if custom is not None:
                        group.update(self._custom(custom_keys[custom]))
                    else:
                        group.update(self._by_kind(module, prefix, name))
                groups.append(group)
        return groups

    def _custom(self, setting: Dict[str, float]) -> Dict[str, float]:
        group = {'lr': self.base_lr * setting.get('lr_mult', 1.)}
        if self.base_wd is not None:
            group['weight_decay'] = self.base_wd * setting.get('decay_mult', 1.)
        return group

    def _by_kind(self, module: nn.Module, prefix: str, name: str) -> Dict[str, float]:
        """Return lr and weight_decay by the kind of parameter; missing keys use the optimizer's values."""
        factor = {
            key: self.paramwise_cfg.get(key, 1.)
            for key in self.known if key.endswith('_mult')
        }
        group = {}
        is_norm = isinstance(module, NORM_LAYERS)
        is_depthwise = isinstance(module, nn.Conv2d) and module.in_channels == module.groups
        is_offset = 'conv_offset' in prefix and isinstance(module, nn.Conv2d)
        if name == 'bias' and not is_norm and not is_offset:
            group['lr'] = self._times(self.base_lr, factor['bias_lr_mult'])
        if is_offset:  # weight and bias alike
            group['lr'] = self._times(self.base_lr, factor['dcn_offset_lr_mult'])
        if self.base_wd is not None:
            if is_norm:
                group['weight_decay'] = self.base_wd * factor['norm_decay_mult']
            elif is_depthwise:
                group['weight_decay'] = self.base_wd * factor['dwconv_decay_mult']
            elif name == 'bias' and not is_offset:
                group['weight_decay'] = self.base_wd * factor['bias_decay_mult']
        return {key: value for key, value in group.items() if value is not None}

    @staticmethod
    def _times(rate: Optional[float], factor: float) -> Optional[float]:
        return None if rate is None else rate * factor


def build_optimizer(model: nn.Module, cfg: Dict[str, Any]) -> torch.optim.Optimizer:
    """Build an optimizer from V2's `optimizer` of a config, for a model already on its device.

    `cfg` holds `type` and its arguments, and may hold `paramwise_cfg` and `constructor`.
    """
    settings = dict(cfg)
    constructor = settings.pop('constructor', 'DefaultOptimizerConstructor')
    paramwise_cfg = settings.pop('paramwise_cfg', None)
    build = OPTIMIZER_BUILDERS.resolve(constructor)
    return build(optimizer_cfg=settings, paramwise_cfg=paramwise_cfg)(model)


def _can_fuse(optimizer_class: type, settings: Dict[str, Any], model: nn.Module) -> bool:
    """Return whether the fused kernel supports the settings; an explicit `foreach` or `fused` is kept."""
    if optimizer_class not in REFUSING_OPTIMIZERS or {'foreach', 'fused', 'differentiable'
                                                      } & set(settings):
        return False
    if settings.get(
            'dampening'
    ):  # the zeroed momentum of `zero_missing_momentum` would be damped at the first step
        return False
    return all(
        parameter.device.type in ('cpu', 'cuda') and parameter.is_floating_point()
        for parameter in model.parameters())


def zero_missing_momentum(optimizer: torch.optim.Optimizer, scheduled: bool = False) -> None:
    """Allocate the momentum of each parameter of a fused SGD before the first step.

    The kernel would otherwise create it uninitialized and fill it in a step that may be refused;
    and it does not support parameters that join later. A zero momentum gives the same first step.
    """
    if not isinstance(optimizer, torch.optim.SGD):
        return
    for group in optimizer.param_groups:
        if not group.get('fused') or not (group['momentum'] or scheduled):
            continue
        for parameter in group['params']:
            if parameter.requires_grad and optimizer.state[parameter].get(
                    'momentum_buffer') is None:
                optimizer.state[parameter]['momentum_buffer'] = torch.zeros_like(parameter)


def step_unless(optimizer: torch.optim.Optimizer, refuse: Tensor) -> None:
    """Take one optimizer step, or none if `refuse` (bool scalar on the device) is True.

    A fused optimizer decides on the device. Any other needs a host sync, which waits for the device
    once per step.
    """
    if getattr(optimizer, '_step_supports_amp_scaling', False) and all(
            group.get('fused') for group in optimizer.param_groups):
        optimizer.grad_scale, optimizer.found_inf = None, refuse.float()
        try:
            optimizer.step()
        finally:
            del optimizer.grad_scale, optimizer.found_inf
    elif not refuse.item():
        optimizer.step()


# Keys of a group for the implementation of a step, or set by a schedule: they do not identify the optimizer.
NOT_TELLING = {
    'params', 'param_names', 'initial_lr', 'initial_momentum', 'maximize', 'foreach',
    'differentiable', 'fused', 'capturable', 'decoupled_weight_decay'
}


def explain_state_difference(optimizer: torch.optim.Optimizer, state: Dict[str,
                                                                           Any]) -> Optional[str]:
    """Explain why a saved state is not one of this optimizer, to follow 'its optimizer'; None if it is."""
    saved, own = state['param_groups'], optimizer.param_groups
    name = type(optimizer).__name__
    has = set(saved[0]) - NOT_TELLING if saved else set()
    needs = set(optimizer.defaults) - NOT_TELLING
    if saved and needs - has and has - needs:
        return f'has {", ".join(sorted(has))}, and {name} needs {", ".join(sorted(needs - has))}'
    decoupled = [group.get('decoupled_weight_decay') for group in (*saved[:1], own[0])]
    if None not in decoupled and len(set(decoupled)) > 1:
        kinds = [f'{"decoupled" if value else "coupled"}' for value in decoupled]
        return f'has a {kinds[0]} weight decay (Adam and AdamW differ in that), and that of {name} is {kinds[1]}'
    if len(saved) != len(own):
        return (
            f'has {len(saved)} parameter groups, and optimizer of the config makes {len(own)}: paramwise_cfg or '
            'constructor is another one')
    for index, (theirs, mine) in enumerate(zip(saved, own)):
        if len(theirs['params']) != len(mine['params']):
            return (
                f'has {len(theirs["params"])} parameters in group {index}, and this run has {len(mine["params"])}: '
                'paramwise_cfg or constructor is another one')
    return None


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Dict[str, Any]) -> None:
    """Load a saved state, but keep the implementation of this run: a file of V2 has no `fused`, and
    one of a run with another `channels_last` has another memory layout."""
    kept = [{
        key: group[key]
        for key in ('fused', 'foreach', 'capturable') if key in group
    } for group in optimizer.param_groups]
    # Before loading: the optimizer chooses the device of its step counter by `fused`.
    groups = [{**saved, **own} for saved, own in zip(state['param_groups'], kept)]
    groups += state['param_groups'][len(kept):]  # too many, which torch reports
    optimizer.load_state_dict({**state, 'param_groups': groups})
    for group in optimizer.param_groups:
        for parameter in group['params']:
            values = optimizer.state.get(parameter, {})
            for key, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    values[key] = match_layout(parameter, value)
    zero_missing_momentum(optimizer)


def match_layout(parameter: Tensor, value: Tensor) -> Tensor:
    """Return a tensor in the memory layout of a parameter of its shape, which fused kernels assume."""
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
