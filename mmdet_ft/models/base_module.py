"""Modules with weight initialization by `init_cfg`, as in V2's configs.

An `init_cfg` is one dict or a list of them: `dict(type='Kaiming', layer='Conv2d')`, `dict(type='Pretrained',
checkpoint=...)`. The initializers keep the names, arguments and defaults of mmcv 1.7.
"""
import copy
import difflib
import inspect
import logging
import math
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Callable, Dict, Iterator, Optional, Sequence, Union

import torch
from torch import Tensor, nn

InitCfg = Union[Dict, Sequence[Dict], None]
PartConfig = Union[Dict, nn.Module]  # `dict(type=..., ...)` of a part, or the part itself
Loader = Callable[[str], Dict[str, Tensor]]

logger = logging.getLogger('mmdet_ft')


def load_local(path: str) -> Dict[str, Tensor]:
    """Load the state_dict of a local file with `weights_only`; the loader if the engine gives none."""
    if '://' in path:
        raise ValueError(
            f'{path}: weights by name or URL are fetched by the engine; here name a local file, or call '
            'init_weights(load=...) with a function that reads it')
    checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    return checkpoint.get('state_dict', checkpoint)


# Models may not import the engine, which handles URLs and `torchvision://`; it passes its loader to the
# outermost `init_weights`. This is a context, not an argument passed down: a user's `def init_weights(self)`,
# as V2 documents it, has no such argument.
_loader: ContextVar[Loader] = ContextVar('loader', default=load_local)


@contextmanager
def checkpoint_loader(load: Optional[Loader]) -> Iterator[None]:
    """Make `Pretrained` read files by `load(path_or_url) -> state_dict` within the block."""
    if load is None:
        yield
        return
    token = _loader.set(load)
    try:
        yield
    finally:
        _loader.reset(token)


class BaseModule(nn.Module):
    """A module with `init_cfg`; `init_weights` applies it to itself and then to its children."""

    def __init__(self, init_cfg: InitCfg = None):
        super().__init__()
        self.init_cfg = copy.deepcopy(init_cfg)
        self.is_init = False

    def init_weights(self, load: Optional[Loader] = None) -> None:
        """Apply `init_cfg` once: own rules, then the children's, then own pretrained weights.

        Children come later because their rules are more specific; pretrained weights come last so that no rule
        overwrites them. A second call does nothing.

        Args:
            load: `load(path_or_url) -> state_dict` for `Pretrained`; without it only local files are read.
        """
        if self.is_init:
            return
        rules = [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg or []
        pretrained = [rule for rule in rules if rule.get('type') == 'Pretrained']
        with checkpoint_loader(load):
            initialize(self, [rule for rule in rules if rule.get('type') != 'Pretrained'])
            for child in self.children():
                init_weights = getattr(child, 'init_weights', None)
                if init_weights is not None and not getattr(child, 'is_init', False):
                    init_weights()
            initialize(self, pretrained)
        self.is_init = True

    def __repr__(self) -> str:
        return super().__repr__() + (f'\ninit_cfg={self.init_cfg}' if self.init_cfg else '')


class Sequential(BaseModule, nn.Sequential):
    """`nn.Sequential` whose members' `init_weights` are called."""

    def __init__(self, *modules: nn.Module, init_cfg: InitCfg = None):
        BaseModule.__init__(self, init_cfg)
        nn.Sequential.__init__(self, *modules)


class ModuleList(BaseModule, nn.ModuleList):
    """`nn.ModuleList` whose members' `init_weights` are called."""

    def __init__(self, modules: Optional[Sequence[nn.Module]] = None, init_cfg: InitCfg = None):
        BaseModule.__init__(self, init_cfg)
        nn.ModuleList.__init__(self, modules)


class ModuleDict(BaseModule, nn.ModuleDict):
    """`nn.ModuleDict` whose members' `init_weights` are called."""

    def __init__(self, modules: Optional[Dict[str, nn.Module]] = None, init_cfg: InitCfg = None):
        BaseModule.__init__(self, init_cfg)
        nn.ModuleDict.__init__(self, modules)


# --- One layer -------------------------------------------------------------------------------------------------


def _fill(module: nn.Module, fill_weight: Callable[[Tensor], Tensor], bias: float) -> None:
    for name, fill in (('weight', fill_weight), ('bias',
                                                 lambda value: nn.init.constant_(value, bias))):
        parameter = getattr(module, name, None)
        if parameter is not None:
            fill(parameter)


def constant_init(module: nn.Module, val: float, bias: float = 0) -> None:
    _fill(module, lambda weight: nn.init.constant_(weight, val), bias)


def xavier_init(module: nn.Module,
                gain: float = 1,
                bias: float = 0,
                distribution: str = 'normal') -> None:
    fill = _by_distribution(distribution, nn.init.xavier_normal_, nn.init.xavier_uniform_)
    _fill(module, lambda weight: fill(weight, gain=gain), bias)


def normal_init(module: nn.Module, mean: float = 0, std: float = 1, bias: float = 0) -> None:
    _fill(module, lambda weight: nn.init.normal_(weight, mean, std), bias)


def trunc_normal_init(module: nn.Module,
                      mean: float = 0,
                      std: float = 1,
                      a: float = -2,
                      b: float = 2,
                      bias: float = 0) -> None:
    _fill(module, lambda weight: nn.init.trunc_normal_(weight, mean, std, a, b), bias)


def uniform_init(module: nn.Module, a: float = 0, b: float = 1, bias: float = 0) -> None:
    _fill(module, lambda weight: nn.init.uniform_(weight, a, b), bias)


def kaiming_init(module: nn.Module,
                 a: float = 0,
                 mode: str = 'fan_out',
                 nonlinearity: str = 'relu',
                 bias: float = 0,
                 distribution: str = 'normal') -> None:
    fill = _by_distribution(distribution, nn.init.kaiming_normal_, nn.init.kaiming_uniform_)
    _fill(module, lambda weight: fill(weight, a=a, mode=mode, nonlinearity=nonlinearity), bias)


def caffe2_xavier_init(module: nn.Module, bias: float = 0) -> None:
    """Initialize by Caffe2's XavierFill, which is PyTorch's uniform Kaiming over the fan in."""
    kaiming_init(module, 1, 'fan_in', 'leaky_relu', bias, 'uniform')


def bias_init_with_prob(prior_prob: float) -> float:
    """Return the bias whose sigmoid is `prior_prob` (Focal Loss, sec. 3.3)."""
    return -math.log((1 - prior_prob) / prior_prob)


def _by_distribution(distribution: str, normal: Callable, uniform: Callable) -> Callable:
    if distribution not in ('normal', 'uniform'):
        raise ValueError(f"init_cfg: distribution is {distribution!r}; write 'normal' or 'uniform'")
    return normal if distribution == 'normal' else uniform


# --- A module by its config ------------------------------------------------------------------------------------

INITIALIZERS: Dict[str, Callable] = {
    'Constant': constant_init,
    'Xavier': xavier_init,
    'Normal': normal_init,
    'TruncNormal': trunc_normal_init,
    'Uniform': uniform_init,
    'Kaiming': kaiming_init,
    'Caffe2Xavier': caffe2_xavier_init,
}


def initialize(module: nn.Module, init_cfg: InitCfg) -> None:
    """Apply initialization rules to a module, in order.

    A rule applies to layers whose class, or a direct base of it, is named in `layer`. `override` (a dict or a
    list) then initializes everything under the attribute `name`, with its own `type` or else this rule's
    arguments.

    Raises KeyError or TypeError for a rule that no initializer accepts, and ValueError for an override without
    a name or of a missing attribute.
    """
    for rule in [init_cfg] if isinstance(init_cfg, dict) else init_cfg or []:
        rule = dict(rule)
        overrides = rule.pop('override', None) or []
        if rule.get('type') == 'Pretrained':
            _pretrained(module, **{key: rule[key] for key in rule if key != 'type'})
            continue
        layers = rule.pop('layer', None) or []
        layers = {layers} if isinstance(layers, str) else set(layers)
        fill = _initializer(rule)
        for layer in module.modules():
            if layers & {cls.__name__ for cls in (type(layer), *type(layer).__bases__)}:
                fill(layer)
        for override in [overrides] if isinstance(overrides, dict) else overrides:
            _override(module, dict(override), rule)


def _override(module: nn.Module, override: Dict, rule: Dict) -> None:
    name = override.pop('name', None)
    if name is None or (override and 'type' not in override):
        raise ValueError(
            f"init_cfg: an override is dict(name='attribute') or dict(name=..., type=..., ...), "
            f'not {dict(override, name=name)!r}')
    target = getattr(module, name, None)
    if target is None:
        raise ValueError(
            f'init_cfg: override names {name!r}, which {type(module).__name__} does not have')
    fill = _initializer(override or rule)
    for layer in target.modules():
        fill(layer)


def _initializer(rule: Dict) -> Callable[[nn.Module], None]:
    """Return a rule, without its layer selection, as a function of one layer."""
    arguments = dict(rule)
    kind = arguments.pop('type', None)
    if kind not in INITIALIZERS:
        near = difflib.get_close_matches(str(kind), [*INITIALIZERS, 'Pretrained'], n=1)
        raise KeyError(f'init_cfg: unknown type {kind!r}; ' + (
            f'did you mean {near[0]!r}?' if near else f'known are {sorted(INITIALIZERS)}'))
    bias_prob = arguments.pop('bias_prob', None)
    if bias_prob is not None:
        arguments['bias'] = bias_init_with_prob(bias_prob)
    function = INITIALIZERS[kind]
    known = list(inspect.signature(function).parameters)[1:]
    unknown = sorted(set(arguments) - set(known))
    if unknown:
        raise TypeError(
            f'init_cfg: {kind} has no {", ".join(unknown)}; it takes {", ".join(known)}, bias_prob, '
            'layer and override')
    return lambda layer: function(layer, **arguments)


def _pretrained(module: nn.Module,
                checkpoint: str,
                prefix: Optional[str] = None,
                map_location: str = 'cpu') -> None:
    """Load pretrained weights on the CPU and copy them; `map_location` is accepted for V2's configs."""
    load = _loader.get()
    if hasattr(load, 'for_module'):  # the engine's loader, which matches the names of the module
        weights, prefix = load.for_module(module, checkpoint, prefix), None
    else:
        weights = load(checkpoint)
    load_pretrained(module, weights, checkpoint, prefix)


def load_pretrained(module: nn.Module,
                    state_dict: Dict[str, Tensor],
                    source: str,
                    prefix: Optional[str] = None) -> None:
    """Copy matching entries of `state_dict` into `module` and log the others.

    Args:
        state_dict: tensors by name; a leading `module.` is dropped.
        source: origin of the weights, for messages.
        prefix: use only entries under this name ('backbone.'), without it. By default those of a backbone if
            the file holds a whole model and the module lacks those names.

    Raises ValueError if less than half of the module's entries are found: the file is of another network.
    """
    state_dict = {
        name[7:] if name.startswith('module.') else name: value
        for name, value in state_dict.items()
    }
    # Files older than PyTorch 0.4.1 have no num_batches_tracked, and frozen statistics need none.
    own = {
        name: value
        for name, value in module.state_dict().items() if not name.endswith('num_batches_tracked')
    }
    whole = any(name.startswith('backbone.') for name in state_dict)
    if prefix is None and whole and not own.keys() & state_dict.keys():
        prefix = 'backbone.'
    if prefix:
        prefix = prefix if prefix.endswith('.') else prefix + '.'
        state_dict = {
            name[len(prefix):]: value
            for name, value in state_dict.items() if name.startswith(prefix)
        }
    rename_weights = getattr(module, 'rename_weights', None)
    if rename_weights is not None:  # a backbone with two sets of weight names
        state_dict = rename_weights(state_dict)
    fits = {
        name
        for name in own if name in state_dict and state_dict[name].shape == own[name].shape
    }
    other_shape = [
        f'{name} {tuple(state_dict[name].shape)} -> {tuple(own[name].shape)}' for name in own
        if name in state_dict and name not in fits
    ]
    missing = [name for name in own if name not in state_dict]
    kind = type(module).__name__
    if len(fits) * 2 < len(own):
        raise ValueError(
            f'{source}{f" ({prefix})" if prefix else ""} holds {len(fits)} of the {len(own)} weights of this {kind}: '
            f'it belongs to another network (first other shapes: {other_shape[:2]}, first missing: {missing[:2]}). '
            f'Name a checkpoint of this one, or write init_cfg=None to begin from random weights')
    module.load_state_dict(
        {
            name: value
            for name, value in state_dict.items()
            if name in fits or name.endswith('num_batches_tracked')
        },
        strict=False)
    message = f'{kind}: {len(fits)} of {len(own)} weights from {source}'
    for words, names in (('other shape', other_shape), ('missing', missing)):
        message += f'; {words}: {", ".join(names)}' if names else ''
    logger.log(logging.WARNING if missing or other_shape else logging.INFO, message)
