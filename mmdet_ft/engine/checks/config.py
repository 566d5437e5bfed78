"""The whole config against signatures, before anything is built or read: every mistake with its line and
the nearest right name.

    prepare(config)           what the commands call: custom_imports, older spellings, then
      check(config)           raises CheckError, or returns warnings
        _Check.names          top-level names
        _Check.model, ...     one method for each section
          _Check.typed        dict(type=..., ...) against the constructor of its class, and what lies inside

A constructor's signature is the vocabulary. What has no class stands in the tables below: layers by mmcv's names, sections
of the engine. A dataclass in an annotation (`train_cfg: Union[Dict, RPNTrainSettings, None]`) is the vocabulary of its dict.
"""
import dataclasses
import difflib
import functools
import inspect
import re
import typing
from typing import (Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional,
                    Sequence, Tuple)

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS as LAYERS
from torch import nn

from mmdet_ft.config import (DATA_ROOT_VARIABLE, DELETE_KEY, OPTIONS_LABEL, CheckError, Config,
                             ConfigError, Layer, import_custom_modules, value_at)
from mmdet_ft.config_lines import read_source
from mmdet_ft.datasets.loader import build_dataloader
from mmdet_ft.engine import legacy, legacy_code
from mmdet_ft.engine.dist import init_dist
from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.hooks.checks import OTHER_CLASSES
from mmdet_ft.engine.hooks.early_stop import EarlyStopHook
from mmdet_ft.engine.hooks.evaluation import DistEvalHook
from mmdet_ft.engine.optimizer import DefaultOptimizerConstructor
from mmdet_ft.engine.runner import INERT_OF_UPDATE, BaseRunner, Update
from mmdet_ft.engine.schedules import MOMENTUM_POLICIES, POLICIES, LearningRate, Momentum
from mmdet_ft.models.base_module import INITIALIZERS
from mmdet_ft.registry import (DATASETS, HOOKS, MODELS, OPTIMIZER_BUILDERS, OPTIMIZERS, PIPELINES,
                               RUNNERS, SAMPLERS, Registry)

MOST_SHOWN = 10  # mistakes in one message

# Top-level names with a checker of their own: methods of _Check of these names.
SECTIONS = ('model', 'data', 'optimizer', 'optimizer_config', 'lr_config', 'momentum_config',
            'runner', 'evaluation', 'early_stop', 'checkpoint_config', 'log_config',
            'custom_hooks', 'fp16', 'auto_scale_lr', 'dist_params', 'workflow')
# Plain values that the engine or a command reads.
VALUES = ('work_dir', 'load_from', 'resume_from', 'auto_resume', 'log_level', 'seed',
          'find_unused_parameters', 'cudnn_benchmark', 'channels_last', 'compile', 'triton',
          'opencv_num_threads', 'mp_start_method', 'custom_imports')
# V2's commands write or read these; nothing here needs them.
INERT = ('gpu_ids', 'device', 'omp_num_threads', 'mkl_num_threads', 'cfg_name')
ENGINE_NAMES = SECTIONS + VALUES + INERT
# Variables of V2's own configs: what stands beside the sections in a file that a run of V2 has dumped.
V2_VARIABLES = ('data_root', 'dataset_type', 'img_norm_cfg', 'train_pipeline', 'test_pipeline',
                'val_pipeline', 'load_pipeline', 'train_dataset', 'norm_cfg', 'conv_cfg',
                'head_norm_cfg', 'pad_cfg', 'image_size', 'img_size', 'img_scale', 'input_size',
                'classes', 'CLASSES', 'num_classes', 'file_client_args', 'checkpoint',
                'checkpoint_file', 'albu_train_transforms', 'custom_keys', 'max_epochs',
                'max_iters', 'interval', 'dynamic_intervals')

NORM_LAYERS = ('BN', 'BN1d', 'BN2d', 'BN3d', 'SyncBN', 'GN', 'LN', 'IN', 'IN1d', 'IN2d', 'IN3d')
CONV_LAYERS = ('Conv1d', 'Conv2d', 'Conv3d', 'Conv', 'Conv2dAdaptivePadding', 'ConvWS', 'ConvAWS')
ACTIVATIONS = ('ReLU', 'LeakyReLU', 'PReLU', 'RReLU', 'ReLU6', 'ELU', 'Sigmoid', 'Tanh', 'SiLU',
               'GELU', 'Swish', 'HSwish', 'HSigmoid', 'Clip', 'Clamp')
UPSAMPLINGS = ('deconv', 'nearest', 'bilinear')
# What the model around gives a layer itself.
SIZES_OF_LAYERS = ('num_features', 'num_channels', 'normalized_shape', 'in_channels',
                   'out_channels', 'kernel_size')
# V2's arguments that the shipped classes refuse.
UNAVAILABLE = dict(
    dcn='deformable convolutions are not available', plugins='plugins are not available')
# Arguments of these classes that hold dicts of another library, or anything.
FREE = {('Albu', 'transforms'), ('Albu', 'bbox_params'), ('Albu', 'keymap'),
        ('CheckpointHook', 'meta'), ('AutoAugment', 'hparams'), ('RandAugment', 'hparams')}


class Mistake(NamedTuple):
    path: str  # dotted, of the value
    message: str
    where: Optional[str]  # 'configs/a.py:12'
    is_sentence: bool = False  # the message names the path itself

    def __str__(self) -> str:
        start = '' if self.is_sentence else f'{self.path}: '
        return f'{start}{self.message}' + (f' ({self.where})' if self.where else '')


def prepare(config: Config, for_training: bool = True) -> Tuple[Config, List[str]]:
    """A config as the engine reads it, and what the user should know: one sentence each, for the log.

    Imports `custom_imports`, rewrites older spellings, and checks the whole; builds and reads nothing else.

    Raises CheckError with all mistakes, each with its place, value, file, line and the nearest right name.
    """
    imports = _Check(config)
    imports.keys(
        names_of('imports', 'allow_failed_imports'), config.get('custom_imports'), 'custom_imports')
    if imports.mistakes:
        raise _refusal(config, imports.mistakes)
    import_user_code(config)
    config, notes = legacy.modernise(config)
    return config, notes + check(config, for_training)


def import_user_code(config: Config) -> None:
    """Import `custom_imports`; CheckError tells what cannot be imported, or what to write instead of names of V2."""
    try:
        modules = import_custom_modules(config)
    except Exception as error:  # an installed mmdet refuses today's mmcv by an assertion
        text = legacy_code.of_failed_import(error)
        if text is not None:
            raise _refusal(config, [_of_user_code(text)]) from error
        if not isinstance(error, ImportError):
            raise
        raise _refusal(config,
                       [_of_user_code(str(error), config.where('custom_imports'))]) from error
    text = legacy_code.of_modules(modules)
    if text is not None:
        raise _refusal(config, [_of_user_code(text)])


def _of_user_code(text: str, where: Optional[str] = None) -> Mistake:
    return Mistake('custom_imports', text, where, is_sentence=True)


def check(config: Config, for_training: bool = True) -> List[str]:
    """Warnings about a config in today's spelling; raises CheckError as `prepare` does."""
    checked = _Check(config)
    checked.everything(for_training)
    if checked.mistakes:
        raise _refusal(config, checked.mistakes)
    return checked.warnings


def _refusal(config: Config, mistakes: List[Mistake]) -> CheckError:
    lines = [str(mistake) for mistake in mistakes[:MOST_SHOWN]]
    if len(mistakes) > MOST_SHOWN:
        lines.append(f'... and {len(mistakes) - MOST_SHOWN} more')
    if len(mistakes) > 1:
        of_what = f'{config.filename}: ' if config.filename else ''
        lines.insert(0, f'{of_what}{len(mistakes)} mistakes in the config')
    error = CheckError('\n'.join(lines))
    error.mistakes = mistakes
    return error


def nearest(name: Any, names: Iterable[str], taken: Iterable[str] = ()) -> Optional[str]:
    """The name that was most likely meant: one of which a character was lost, else the most similar one.

    Of several, one that is not `taken` already.
    """
    names = sorted(map(str, names), key=lambda known: known in set(taken))
    name = str(name)
    for known in names:
        if len(known) == len(name) + 1 and any(known[:i] + known[i + 1:] == name
                                               for i in range(len(known))):
            return known
    near = difflib.get_close_matches(name, names, n=1, cutoff=.6)
    if not near:  # case aside
        lower = {known.lower(): known for known in names}
        near = [
            lower[known]
            for known in difflib.get_close_matches(name.lower(), lower, n=1, cutoff=.6)
        ]
    if not near and name:
        near = [known for known in names if known.startswith(name)]
    return near[0] if near else None


# ------------------------------------------------------------------------------------------------- signatures


class Vocabulary(NamedTuple):
    """What a dict may and must say."""
    parameters: Mapping[str, Any]  # name -> inspect.Parameter, or None
    is_open: bool = False  # takes anything
    required: Tuple[str, ...] = ()
    is_ours: bool = True  # a class of this package: all that it takes is known

    def without(self, *names: str) -> 'Vocabulary':
        return self._replace(
            parameters={
                name: value
                for name, value in self.parameters.items() if name not in names
            },
            required=tuple(name for name in self.required if name not in names))

    def plus(self, *names: str) -> 'Vocabulary':
        return self._replace(parameters={**self.parameters, **dict.fromkeys(names)})


@functools.lru_cache(maxsize=None)
def vocabulary(function: Callable, skip: int = 0) -> Vocabulary:
    """The named arguments of a class or function, but for the first `skip`."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):  # written in C
        return Vocabulary({}, is_open=True)
    kinds = inspect.Parameter
    parameters = [
        value for value in signature.parameters.values() if value.kind != kinds.VAR_POSITIONAL
    ][skip:]
    named = {
        value.name: value
        for value in parameters if value.kind not in (kinds.VAR_KEYWORD, kinds.POSITIONAL_ONLY)
    }
    is_open = any(value.kind == kinds.VAR_KEYWORD for value in parameters)
    required = tuple(name for name, value in named.items() if value.default is kinds.empty)
    return Vocabulary(named, is_open, required, str(function.__module__).startswith('mmdet_ft.'))


@functools.lru_cache(maxsize=None)
def record_of(annotation: Any) -> Optional[type]:
    """The dataclass in an annotation, such as that of Union[Dict, RPNTrainSettings, None]."""
    for kind in (annotation, *typing.get_args(annotation)):
        if inspect.isclass(kind) and dataclasses.is_dataclass(kind):
            return kind
    return None


def names_of(*names: str) -> Vocabulary:
    return Vocabulary(dict.fromkeys(names))


# ------------------------------------------------------------------------------------------------- the walk


class _Check:

    def __init__(self, config: Config):
        self.config = config
        self.mistakes: List[Mistake] = []
        self.warnings: List[str] = []
        # Arguments that hold something else than a dict with a `type` of their owner's registry.
        self.slots: Dict[str, Callable[[Any, str], None]] = dict(
            norm_cfg=functools.partial(self.layer, 'norm layer', NORM_LAYERS, ('requires_grad', )),
            conv_cfg=functools.partial(self.layer, 'convolution', CONV_LAYERS, ()),
            predictor_cfg=functools.partial(self.layer, 'convolution', CONV_LAYERS, ()),
            act_cfg=functools.partial(self.layer, 'activation', ACTIVATIONS, ('inplace', )),
            reg_predictor_cfg=self.linear,
            cls_predictor_cfg=self.linear,
            upsample_cfg=self.upsample,
            init_cfg=self.init_cfg,
            pipeline=functools.partial(self.typed, PIPELINES),
            transforms=functools.partial(self.typed, PIPELINES),
            policies=self.policies,
            dataset=self.dataset,
            datasets=self.dataset,
            pad_val=functools.partial(self.keys, names_of('img', 'masks', 'seg')),
            file_client_args=self.file_client)

    # --- saying

    def say(self,
            path: str,
            message: str,
            where: Optional[str] = None,
            is_sentence: bool = False) -> None:
        """Note a mistake at a path; `where` is the path whose line is told, if another."""
        self.mistakes.append(Mistake(path, message, self.where(where or path), is_sentence))

    def where(self, path: str) -> Optional[str]:
        """`file:line` of a value; of what is around it where nothing sets it itself."""
        steps = path.split('.')
        places = (
            self.config.where('.'.join(steps[:length])) for length in range(len(steps), 0, -1))
        return next((place for place in places if place), None)

    def unknown_key(self, owner: str, known: Iterable[str], values: Dict[str, Any], key: Any,
                    path: str) -> None:
        known = [name for name in known if name != 'self']
        full = f'{path}.{key}' if path else str(key)
        if key == DELETE_KEY:
            return self.needless_delete(full)
        near = nearest(key, known, taken=values)
        hint = f'did you mean {near!r}?' if near else f'it knows {", ".join(known)}'
        newer = legacy.newer_key(key)
        if newer and not (near and len(near) == len(str(key)) + 1):
            hint = newer
        elif near and (self.where(full) or '').startswith(OPTIONS_LABEL):
            set_by = self.config.where(f'{path}.{near}' if path else near)
            hint += f' It is set in {set_by}' if set_by and not set_by.startswith(
                OPTIONS_LABEL) else ''
        self.say(full, f'{owner} has no {str(key)!r} (here {_short(values[key])}); {hint}')

    def needless_delete(self, path: str) -> None:
        self.say(path, f'there is nothing to delete here; remove {DELETE_KEY}')

    def unknown_type(self, kind: str, known: Iterable[str], value: Any, path: str) -> None:
        near = nearest(value, known) if isinstance(value, str) else None
        hint = f'did you mean {near!r}?' if near else (
            "a type of your own is found when its module is named in custom_imports=dict(imports=['your.module'])"
        )
        self.say(path, f'unknown {kind} type {value!r}; {legacy.newer_type(value) or hint}',
                 f'{path}.type')

    # --- parts

    def is_dict(self, value: Any, path: str) -> bool:
        if value is not None and not isinstance(value, dict):
            self.say(path, f'must be a dict, not {_short(value)}')
        return isinstance(value, dict)

    def is_list(self, value: Any, path: str) -> bool:
        if value is not None and not isinstance(value, (list, tuple)):
            self.say(path, f'must be a list, not {_short(value)}')
        return isinstance(value, (list, tuple))

    def keys(self, known: Vocabulary, value: Any, path: str, owner: Optional[str] = None) -> None:
        """A dict's keys, nothing inside; what is no dict passes."""
        if isinstance(value, dict) and not known.is_open:
            for key in value:
                if key not in known.parameters:
                    self.unknown_key(
                        owner or path.rpartition('.')[2], known.parameters, value, key, path)

    def typed(self,
              registry: Registry,
              value: Any,
              path: str,
              given: Sequence[str] = (),
              extra: Sequence[str] = ()) -> None:
        """`dict(type=Name, ...)` of a registry, or lists of them.

        Args:
            given: arguments that the builder adds: none of them is missed.
            extra: keys that the builder takes away first.
        """
        if isinstance(value, (list, tuple)):
            for place, item in enumerate(value):
                if isinstance(item, (dict, list, tuple)):
                    self.typed(registry, item, f'{path}.{place}', given, extra)
            return
        if not isinstance(value, dict):
            return
        if 'type' not in value:
            near = next((key for key in value if nearest(key, ['type']) and key not in extra), None)
            if near is not None and len(str(near)) < 6:
                return self.unknown_key(f'a {registry.name}', ['type'], value, near, path)
            return self.say(
                path, f'a {registry.name} needs a type: add type=... to {_short(dict(value))}')
        kind = value['type']
        cls = kind if callable(kind) else registry.get(kind, value) if isinstance(kind, str) else None
        if cls is None:
            return self.unknown_type(registry.name, registry, kind, path)
        written_for_v2 = legacy_code.of_class(cls) if registry is MODELS else None
        if written_for_v2:
            return self.say(path, written_for_v2)
        known = vocabulary(cls).plus('type', *extra)
        name = kind if isinstance(kind, str) else cls.__name__
        self.arguments(registry, known, value, path, name, given)

    def arguments(self, registry: Registry, known: Vocabulary, value: Dict[str, Any], path: str,
                  name: str, given: Sequence[str]) -> None:
        complete = True
        for key, item in value.items():
            if key not in known.parameters:
                if not known.is_open:
                    self.unknown_key(name, known.parameters, value, key, path)
                    complete = False
            elif isinstance(item, (dict, list, tuple)) and (name, key) not in FREE:
                self.argument(registry, known, key, item, f'{path}.{key}')
        missing = [key for key in known.required if key not in value and key not in given]
        if missing and complete:
            self.say(path, f'{name} needs {" and ".join(missing)}: add {missing[0]}=...')

    def argument(self, registry: Registry, known: Vocabulary, key: str, item: Any,
                 path: str) -> None:
        parameter = known.parameters[key]
        record = parameter is not None and record_of(parameter.annotation)
        if record:
            self.record(record, item, path)
        elif key in UNAVAILABLE and known.is_ours:
            self.say(path, f'{UNAVAILABLE[key]}; remove {key}={_short(item)}')
        elif key in self.slots:
            self.slots[key](item, path)
        elif isinstance(item, dict) and 'type' not in item:
            default = getattr(parameter, 'default', None)
            if isinstance(default, dict) and 'type' not in default:
                self.keys(names_of(*default), item, path)
            elif known.is_ours and parameter is not None:
                self.typed(registry, item, path)
        else:
            self.inner(registry, item, path, known.is_ours)

    def inner(self, registry: Registry, item: Any, path: str, is_ours: bool) -> None:
        """Dicts with a type, in lists too; other values of a list are values."""
        if isinstance(item, (list, tuple)):
            for place, part in enumerate(item):
                if isinstance(part, (dict, list, tuple)):
                    self.inner(registry, part, f'{path}.{place}', is_ours)
        elif is_ours or isinstance(item.get('type'), str) and item['type'] in registry:
            self.typed(registry, item, path)

    def record(self, kind: type, value: Any, path: str) -> None:
        """A dict against a dataclass; `assigner`, `sampler` and their like inside are models."""
        if isinstance(value, (list, tuple)):  # one record a stage
            for place, item in enumerate(value):
                self.record(kind, item, f'{path}.{place}')
        if not isinstance(value, dict):
            return
        name = '.'.join(step for step in path.split('.')[-2:])
        self.arguments(MODELS, vocabulary(kind), value, path, name, ())

    def layer(self, kind: str, names: Sequence[str], extra: Sequence[str], value: Any,
              path: str) -> None:
        """norm_cfg and its like: a layer of mmcv by name, with the arguments of its class."""
        if isinstance(value, (list, tuple)):
            for place, item in enumerate(value):
                self.layer(kind, names, extra, item, f'{path}.{place}')
        if not isinstance(value, dict):
            return
        if 'type' not in value:
            return self.typed(MODELS, value, path)
        cls = value['type'] if callable(value['type']) else LAYERS.get(str(value['type']))
        if cls is None:
            return self.unknown_type(kind, names, value['type'], path)
        known = vocabulary(cls).without(*SIZES_OF_LAYERS).plus('type', *extra)
        self.keys(known, value, path, owner=str(value['type']))

    def linear(self, value: Any, path: str) -> None:
        if isinstance(value, dict):
            if value.get('type', 'Linear') != 'Linear':
                return self.unknown_type('predictor', ['Linear'], value['type'], path)
            self.keys(vocabulary(nn.Linear, 2).plus('type'), value, path)

    def upsample(self, value: Any, path: str) -> None:
        """Of a mask head dict(type='deconv', scale_factor=2), of a neck dict(mode='nearest')."""
        if isinstance(value, dict):
            if value.get('type') not in (None, *UPSAMPLINGS):
                return self.unknown_type('upsampling', UPSAMPLINGS, value['type'], path)
            self.keys(vocabulary(F.interpolate, 1).plus('type'), value, path)

    def file_client(self, value: Any, path: str) -> None:
        """Each backend has its own arguments; here only the name of the name is known."""
        if isinstance(value, dict) and 'backend' not in value:
            near = next((key for key in value if nearest(key, ['backend'])), None)
            if near is not None:
                self.unknown_key('file_client_args', ['backend'], value, near, path)

    def init_cfg(self, value: Any, path: str) -> None:
        """One rule or a list of them."""
        if isinstance(value, (list, tuple)):
            for place, item in enumerate(value):
                self.init_cfg(item, f'{path}.{place}')
        if not isinstance(value, dict):
            return
        kind = value.get('type')
        if 'type' not in value:
            return self.typed(MODELS, value, path)
        if kind == 'Pretrained':
            return self.keys(
                names_of('type', 'checkpoint', 'prefix', 'map_location'), value, path, 'Pretrained')
        if not isinstance(kind, str) or kind not in INITIALIZERS:
            return self.unknown_type('initialiser', [*INITIALIZERS, 'Pretrained'], kind, path)
        own = vocabulary(INITIALIZERS[kind], 1).plus('type', 'bias_prob')
        self.keys(own.plus('layer', 'override'), value, path, str(kind))
        overrides = value.get('override')
        for place, item in enumerate(
                overrides if isinstance(overrides, (list, tuple)) else [overrides]):
            inside = f'{path}.override.{place}' if isinstance(overrides,
                                                              (list, tuple)) else f'{path}.override'
            if isinstance(item, dict):
                other = vocabulary(INITIALIZERS[item['type']], 1) if str(
                    item.get('type')) in INITIALIZERS else own
                self.keys(
                    other.plus('type', 'name', 'bias_prob', 'layer', 'checkpoint', 'prefix'), item,
                    inside, 'override')

    def policies(self, value: Any, path: str) -> None:
        """Changes of AutoAugment and RandAugment, which fill in what `hparams` and `magnitude_key` name."""
        if isinstance(value, (list, tuple)):
            for place, item in enumerate(value):
                self.policies(item, f'{path}.{place}')
        elif isinstance(value, dict):
            given = [value['magnitude_key']] if 'magnitude_key' in value else []
            self.typed(PIPELINES, value, path, given, extra=('magnitude_key', 'magnitude_range'))

    def dataset(self, value: Any, path: str, extra: Sequence[str] = ()) -> None:
        """A dataset, a wrapper around others, or a list."""
        if isinstance(value, (list, tuple)):
            for place, item in enumerate(value):
                self.dataset(item, f'{path}.{place}', extra)
        elif isinstance(value, dict):
            joins = isinstance(value.get('ann_file'), (list, tuple))
            self.typed(DATASETS, value, path, extra=[*extra, 'separate_eval'] if joins else extra)
        elif isinstance(value, (str, int, float)):
            self.say(path, f'must be a dict, or a list of them, not {_short(value)}')

    # --- sections

    def everything(self, for_training: bool) -> None:
        config = self.config
        self.names()
        for name in SECTIONS:
            if config.get(name) is not None:
                getattr(self, name)(config[name], name)
        told = {mistake.path for mistake in self.mistakes}
        for path in _paths_of(DELETE_KEY, config._cfg_dict):
            if path not in told:
                self.needless_delete(path)
        if not self.mistakes:
            needed = ('model', 'data', 'optimizer', 'runner') if for_training else ('model', 'data')
            for name in needed:
                if config.get(name) is None:
                    self.mistakes.append(
                        Mistake(name, f'the config has no {name}', config.filename))
        if not self.mistakes:
            self.num_classes()

    def model(self, value: Any, path: str) -> None:
        if self.is_dict(value, path):
            self.typed(MODELS, value, path, given=('train_cfg', 'test_cfg'))
            # What a part asks of train_cfg and test_cfg is not known before its type is.
            settings = (f'{path}.train_cfg.', f'{path}.test_cfg.')
            if any('unknown model type' in mistake.message and not mistake.path.startswith(settings)
                   for mistake in self.mistakes):
                self.mistakes = [
                    mistake for mistake in self.mistakes if not mistake.path.startswith(settings)
                ]

    def data(self, value: Any, path: str) -> None:
        if not self.is_dict(value, path):
            return
        splits = ('train', 'val', 'test')
        loaders = [f'{split}_dataloader' for split in splits]
        self.keys(
            names_of('samples_per_gpu', 'workers_per_gpu', 'persistent_workers', *splits, *loaders),
            value, path)
        for split in splits:
            self.dataset(
                value.get(split), f'{path}.{split}', () if split == 'train' else
                ('samples_per_gpu', ))
        known = vocabulary(build_dataloader).without('dataset')
        for name in loaders:
            if self.is_dict(value.get(name), f'{path}.{name}'):
                self.keys(known, value[name], f'{path}.{name}')
                sampler = value[name].get('sampler')
                self.typed(SAMPLERS, sampler, f'{path}.{name}.sampler', given=('dataset', ))

    def optimizer(self, value: Any, path: str) -> None:
        if not self.is_dict(value, path):
            return
        constructor = value.get('constructor', 'DefaultOptimizerConstructor')
        if constructor not in OPTIMIZER_BUILDERS:
            near = nearest(constructor, OPTIMIZER_BUILDERS)
            self.say(
                f'{path}.constructor', f'unknown optimizer constructor {constructor!r}' +
                (f'; did you mean {near!r}?' if near else ''))
        elif OPTIMIZER_BUILDERS.get(constructor) is not DefaultOptimizerConstructor:
            return  # it reads its dict as it likes
        self.typed(
            OPTIMIZERS, value, path, given=('params', 'lr'), extra=('constructor', 'paramwise_cfg'))
        paramwise = value.get('paramwise_cfg')
        if isinstance(paramwise, dict):
            inside = f'{path}.paramwise_cfg'
            self.keys(names_of(*DefaultOptimizerConstructor.known), paramwise, inside)
            customs = paramwise.get('custom_keys')
            if self.is_dict(customs, f'{inside}.custom_keys'):
                known = names_of('lr_mult', 'decay_mult')
                for name, settings in customs.items():
                    self.keys(known, settings, f'{inside}.custom_keys.{name}', 'custom_keys')

    def optimizer_config(self, value: Any, path: str) -> None:
        if self.is_dict(value, path):
            known = names_of('type', *Update._fields, *INERT_OF_UPDATE)
            if 'Fp16' in str(value.get('type')):
                known = known.plus('loss_scale')
            self.keys(known, value, path)
            clip = vocabulary(torch.nn.utils.clip_grad_norm_, 1)
            self.keys(clip, value.get('grad_clip'), f'{path}.grad_clip')

    def lr_config(self, value: Any, path: str) -> None:
        self._schedule(value, path, LearningRate, POLICIES)

    def momentum_config(self, value: Any, path: str) -> None:
        self._schedule(value, path, Momentum, MOMENTUM_POLICIES)

    def _schedule(self, value: Any, path: str, schedule: Any, policies: Mapping[str, Any]) -> None:
        if not self.is_dict(value, path):
            return
        if 'policy' not in value:
            near = next((key for key in value if nearest(key, ['policy'])), None)
            if near is not None:
                return self.unknown_key(schedule.where, ['policy'], value, near, path)
            return self.say(path, "needs a policy: add policy='step' or another")
        policy = policies.get(str(value['policy']).lower())
        if policy is None:
            near = nearest(value['policy'],
                           [cls.__name__.replace('Momentum', '') for cls in policies.values()])
            return self.say(
                f'{path}.policy', f'unknown policy {value["policy"]!r}; ' +
                (f'did you mean {near!r}?' if near else f'there are {", ".join(policies)}'))
        known = vocabulary(schedule).without('policy').plus('policy',
                                                            *vocabulary(policy).parameters)
        self.keys(known, value, path, f'{schedule.where} of policy {value["policy"]!r}')

    def runner(self, value: Any, path: str) -> None:
        if self.is_dict(value, path):
            by_engine = set(vocabulary(BaseRunner).parameters) - {'max_epochs', 'max_iters'}
            cls = RUNNERS.get(value.get('type')) if isinstance(value.get('type'), str) else None
            if cls is None:
                return self.typed(RUNNERS, value, path)
            known = vocabulary(cls).without(*by_engine).plus('type')
            self.arguments(RUNNERS, known, value, path, value['type'], ())

    def evaluation(self, value: Any, path: str) -> None:
        if not self.is_dict(value, path):
            return
        known = vocabulary(DistEvalHook).without('dataloader', 'eval_options')
        data = self.config.get('data')
        kinds = list(_dataset_classes(data.get('val'))) if isinstance(data, dict) else []
        for cls in kinds:
            own = vocabulary(cls.evaluate, 1).without('results', 'logger') if hasattr(
                cls, 'evaluate') else known
            known = known._replace(is_open=known.is_open or own.is_open).plus(*own.parameters)
        if kinds:
            self.keys(known, value, path)

    def early_stop(self, value: Any, path: str) -> None:
        if self.is_dict(value, path):
            self.keys(vocabulary(EarlyStopHook), value, path)
            if 'monitor' not in value:
                self.say(path, "needs a monitor: the metric to watch, such as monitor='bbox_mAP'")

    def checkpoint_config(self, value: Any, path: str) -> None:
        if self.is_dict(value, path):
            self.keys(vocabulary(CheckpointHook).plus('type'), value, path)

    def log_config(self, value: Any, path: str) -> None:
        if self.is_dict(value, path):
            self.keys(names_of('interval', 'hooks'), value, path)
            if self.is_list(value.get('hooks'), f'{path}.hooks'):
                self.typed(HOOKS, value['hooks'], f'{path}.hooks', extra=('priority', ))

    def custom_hooks(self, value: Any, path: str) -> None:
        if self.is_list(value, path):
            self.typed(HOOKS, value, path, extra=('priority', ))

    def fp16(self, value: Any, path: str) -> None:
        if self.is_dict(value, path):
            self.keys(names_of('loss_scale', 'dtype', 'distributed'), value, path)
            scaler = ('init_scale', 'growth_factor', 'backoff_factor', 'growth_interval', 'enabled',
                      'mode')
            self.keys(names_of(*scaler), value.get('loss_scale'), f'{path}.loss_scale')

    def auto_scale_lr(self, value: Any, path: str) -> None:
        if self.is_dict(value, path):
            self.keys(names_of('enable', 'base_batch_size'), value, path)

    def dist_params(self, value: Any, path: str) -> None:
        if self.is_dict(value, path):
            process_group = vocabulary(torch.distributed.init_process_group).parameters \
                if torch.distributed.is_available() else ()
            known = vocabulary(init_dist).without('launcher')._replace(is_open=False).plus(
                *process_group)
            self.keys(known, value, path)

    def workflow(self, value: Any, path: str) -> None:
        good = isinstance(value, (list, tuple)) and all(
            isinstance(entry, (list, tuple)) and len(entry) == 2 and entry[0] in ('train', 'val')
            for entry in value)
        if not good:
            self.say(
                path,
                f"must be like [('train', 1)] or [('train', 1), ('val', 1)], not {_short(value)}")

    # --- top-level names

    def names(self) -> None:
        for name in self.config:
            if name in ENGINE_NAMES:
                continue
            said = [
                layer for layer in self.config.layers
                if name in layer.values and layer.label != DATA_ROOT_VARIABLE
            ]
            files = [layer for layer in said if layer.path is not None]
            if said and said[-1].label == OPTIONS_LABEL and files:
                self.variable_on_the_command_line(name, files)
            elif not files or not self.is_read(files[-1], name):
                if any(self.is_read(base, name) for base in files[:-1]):
                    self.warn_of_override(name, files)
                elif not (files and self.is_left_in_a_dump(name)):
                    self.unknown_name(name)

    def unknown_name(self, name: str) -> None:
        known = [*ENGINE_NAMES, *legacy.OLDER_NAMES, '_base_', '_delete_']
        variables = {key
                     for layer in self.config.layers
                     for key in layer.values} - set(known) - {name}
        near = nearest(name, known, taken=self.config) or nearest(name, variables)
        hint = f'did you mean {near!r}?' if near else 'remove it, or correct its spelling'
        self.say(name, f'nothing reads this name (= {_short(self.config[name])}); {hint}')

    def is_read(self, layer: Layer, name: str) -> bool:
        """Whether an expression takes a variable: in its own file, by {{ _base_.name }} in an heir, or by ${name}."""
        if name in self.source(layer).names_read:
            return True
        braces = re.compile(rf'\$_base_\.{re.escape(name)}\b|\$\{{{re.escape(name)}\b')
        return any(braces.search(other.source) for other in self.config.layers)

    def source(self, layer: Layer) -> Any:
        return read_source(layer.source, layer.path.endswith('.py'))

    def copies(self, name: str, layer: Layer) -> List[str]:
        """Paths whose value came out of a variable, as a file set it, and still does."""
        roots = [root for root in self.config if root in ENGINE_NAMES]
        paths = self.source(layer).readers(name, roots)
        for heir in self.config.layers:
            if heir.path is not None and f'$_base_.{name}' in heir.source:
                paths += self.source(heir).readers(f'$_base_.{name}', roots)
        return [path for path in paths if _has(self.config, path)]

    def variable_on_the_command_line(self, name: str, files: List[Layer]) -> None:
        copies = self.copies(name, files[-1])
        set_in = files[-1].where((name, ))
        if not copies:
            return self.unknown_name(name)
        value = self.config[name]
        self.say(
            name,
            f'{name} is a variable of {set_in}: expressions have read it before the command line is, so '
            f'{_short(value)} would change nothing. Set what holds its value: {_listed(copies)}',
            is_sentence=True)

    def warn_of_override(self, name: str, files: List[Layer]) -> None:
        base = files[-2].where((name, )).rpartition(':')[0]
        copied = self.copies(name, files[-2])
        copies = [
            path for path in copied if (self.config.where(path) or '').rpartition(':')[0] == base
        ]
        if copied and not copies:
            return  # the heir sets anew all that the base has copied
        held = f'; {_listed(copies)} keep the value of the base' if copies else ''
        self.warnings.append(
            f'{name} ({files[-1].where((name, ))}) is a variable of the base '
            f'{files[-2].where((name, ))}: values already copied from it do not change{held}')

    def is_left_in_a_dump(self, name: str) -> bool:
        """A config that a run has dumped holds all in one file, and its variables beside their
        copies.
        """
        files = [layer for layer in self.config.layers if layer.path is not None]
        if len(files) != 1 or self.source(
                files[0]).names_read - {'dict', 'range', 'float', 'globals'}:
            return False
        if name in V2_VARIABLES:
            return True
        near = nearest(name, ENGINE_NAMES) or ''
        alike = difflib.SequenceMatcher(None, name, near).ratio()
        if alike > .9 or len(near) == len(name) + 1 and alike > .75:
            return False
        value = self.config[name]
        sections = [self.config[key] for key in self.config if key in SECTIONS]
        return any(_is_copy(value, item) for item in _all_values(sections))

    # --- classes

    def num_classes(self) -> None:
        """Heads against data sets, where the config tells both and asks for it by NumClassCheckHook."""
        config = self.config
        hooks = [
            hook.get('type') for hook in config.get('custom_hooks') or () if isinstance(hook, dict)
        ]
        if 'NumClassCheckHook' not in hooks:
            return
        heads = list(_heads(config.model, 'model'))
        modes = [entry[0] for entry in config.get('workflow') or [('train', 1)]]
        for split in sorted(set(modes), reverse=True):
            for name, classes, classes_path in _classes(config.data.get(split), f'data.{split}'):
                if isinstance(classes, str):
                    self.say(
                        classes_path,
                        f'is the string {classes!r}; for a single class write classes=({classes!r}, )'
                    )
                    continue
                for path, count in heads:
                    if count == len(classes):
                        continue
                    given = self.config.where(f'{path}.num_classes')
                    stated = f' ({self.config.where(classes_path)})' if self.config.where(
                        classes_path) else ''
                    place = '' if given else ' by default'
                    self.say(
                        f'{path}.num_classes',
                        f'{name} has {len(classes)} classes{stated} but {path}.num_classes is '
                        f'{count}{place}; write num_classes={len(classes)} there or in your config',
                        is_sentence=True)
            if self.mistakes:
                return


# ------------------------------------------------------------------------------------------------- helpers


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


def _listed(paths: Sequence[str], most: int = 12) -> str:
    more = f' and {len(paths) - most} more' if len(paths) > most else ''
    return ', '.join(paths[:most]) + more


def _has(config: Config, path: str) -> bool:
    try:
        value_at(config, path)
    except ConfigError:
        return False
    return True


def _paths_of(key: str, value: Any, path: str = '') -> Iterator[str]:
    """Dotted paths at which dicts hold a key."""
    if isinstance(value, dict):
        if key in value:
            yield f'{path}.{key}' if path else key
        for name, item in value.items():
            if isinstance(item, (dict, list, tuple)):
                yield from _paths_of(key, item, f'{path}.{name}' if path else str(name))
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            if isinstance(item, (dict, list, tuple)):
                yield from _paths_of(key, item, f'{path}.{place}')


def _all_values(value: Any) -> Iterator[Any]:
    yield value
    for item in value.values() if isinstance(
            value, dict) else value if isinstance(value, (list, tuple)) else ():
        yield from _all_values(item)


def _is_copy(value: Any, item: Any) -> bool:
    """Whether `item` may have been made from a variable of this value."""
    if isinstance(value, str) and isinstance(item, str):
        return item == value or len(value) > 1 and item.startswith(value)
    if isinstance(value, dict) and isinstance(item, dict):
        return bool(value) and all(key in item and item[key] == value[key] for key in value)
    return type(value) is type(item) and value == item


def _innermost(split: Any, path: str) -> Iterator[Tuple[Dict[str, Any], str]]:
    """The data sets under wrappers and lists."""
    if isinstance(split, (list, tuple)):
        for place, part in enumerate(split):
            yield from _innermost(part, f'{path}.{place}')
    elif isinstance(split, dict):
        inner = next((key for key in ('dataset', 'datasets') if key in split), None)
        if inner is None:
            yield split, path
        else:
            yield from _innermost(split[inner], f'{path}.{inner}')


def _dataset_class(split: Dict[str, Any]) -> Any:
    kind = split.get('type')
    return kind if callable(kind) else DATASETS.get(kind, split) if isinstance(kind, str) else None


def _dataset_classes(split: Any) -> Iterator[Any]:
    for part, _ in _innermost(split, ''):
        if _dataset_class(part) is not None:
            yield _dataset_class(part)


def _classes(split: Any, path: str) -> Iterator[Tuple[str, Any, str]]:
    """(type, classes, where they stand) of data sets whose classes are known without reading a file."""
    for part, part_path in _innermost(split, path):
        cls = _dataset_class(part)
        classes = part.get('classes')
        if classes is None:
            classes = getattr(cls, 'CLASSES', None)
        is_file = isinstance(part.get('classes'), str)  # a file with one name a line
        if classes is not None and not is_file:
            yield getattr(cls, '__name__', str(part.get('type'))), classes, f'{part_path}.classes'


def _heads(value: Any, path: str) -> Iterator[Tuple[str, int]]:
    """(path, num_classes) of the parts of a model that count classes."""
    if isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from _heads(item, f'{path}.{place}')
    elif isinstance(value, dict):
        cls = MODELS.get(value.get('type')) if isinstance(value.get('type'), str) else None
        bases = {base.__name__ for base in getattr(cls, '__mro__', ())}
        parameter = vocabulary(cls).parameters.get('num_classes') if cls is not None else None
        count = value.get('num_classes', getattr(parameter, 'default', None))
        if isinstance(count, int) and count > 0 and not bases & set(OTHER_CLASSES):
            yield path, count
        for key, item in value.items():
            yield from _heads(item, f'{path}.{key}')
