"""Walk over the dicts of a config that checks them against signatures; nothing is built.

The signature of a constructor gives the allowed keys. A dataclass in an annotation, as in
`train_cfg: Union[Dict, RPNTrainSettings, None]`, gives those of its dict. Dicts without a class,
such as layers by mmcv's names, are covered by the tables here.
"""
import functools
from typing import Any, Callable, Dict, Mapping, Sequence, Set

import torch.nn.functional as F
from mmengine.registry import MODELS as LAYERS

from mmdet_ft.config.config import Config
from mmdet_ft.datasets.build import ONE_EACH
from mmdet_ft.engine.config_check.mistakes import Findings, nearest, short
from mmdet_ft.engine.config_check.run_settings import not_a_text
from mmdet_ft.engine.config_check.schema import AllowedKeys, allowed_keys, names_of, record_of
from mmdet_ft.engine.config_check.value_kinds import describe_values, fits
from mmdet_ft.engine.legacy import user_code
from mmdet_ft.models.base_module import INITIALIZERS
from mmdet_ft.models.roi_heads.bbox_heads import LINEAR_LAYERS
from mmdet_ft.registry import DATASETS, MODELS, PIPELINES, Registry

NORM_LAYERS = ('BN', 'BN1d', 'BN2d', 'BN3d', 'SyncBN', 'GN', 'LN', 'IN', 'IN1d', 'IN2d', 'IN3d')
CONV_LAYERS = ('Conv1d', 'Conv2d', 'Conv3d', 'Conv', 'Conv2dAdaptivePadding', 'ConvWS', 'ConvAWS',
               'NormedConv2d', 'DCN', 'DCNv2')
ACTIVATIONS = ('ReLU', 'LeakyReLU', 'PReLU', 'RReLU', 'ReLU6', 'ELU', 'Sigmoid', 'Tanh', 'SiLU',
               'GELU', 'Swish', 'HSwish', 'HSigmoid', 'Clip', 'Clamp')
UPSAMPLINGS = ('deconv', 'nearest', 'bilinear')
# Arguments that the surrounding model passes to a layer.
SIZES_OF_LAYERS = ('num_features', 'num_channels', 'normalized_shape', 'in_channels',
                   'out_channels', 'kernel_size')
PLUGINS = ('ContextBlock', 'GeneralizedAttention', 'NonLocal2d', 'ConvModule')


class Walk(Findings):
    """A walk whose methods each check one kind of value and note the mistakes inside."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.read_by_parts: Set[str] = set(
        )  # paths of settings that a part of the model reads, see parts
        self.shared: Dict[str, Sequence[str]] = {
        }  # path of a part: arguments that its parent gives, see parts
        # Arguments that do not hold a dict with a `type` of their owner's registry.
        self.slots: Dict[str, Callable[[Any, str], None]] = dict(
            norm_cfg=functools.partial(self.layer, 'norm layer', NORM_LAYERS, ('requires_grad', )),
            conv_cfg=functools.partial(self.layer, 'convolution', CONV_LAYERS, ()),
            dcn=functools.partial(self.layer, 'convolution', CONV_LAYERS[-2:],
                                  ('fallback_on_stride', )),
            plugins=self.plugins,
            pre_cfg=self.layer_of_rois,
            post_cfg=self.layer_of_rois,
            predictor_cfg=functools.partial(self.layer, 'convolution', CONV_LAYERS, ()),
            act_cfg=functools.partial(self.layer, 'activation', ACTIVATIONS, ('inplace', )),
            reg_predictor_cfg=self.linear,
            cls_predictor_cfg=self.linear,
            upsample_cfg=self.upsample,
            init_cfg=self.init_cfg,
            pipeline=self.pipeline,
            transforms=functools.partial(self.typed, PIPELINES),
            policies=self.policies,
            dataset=self.dataset,
            datasets=self.dataset,
            pad_val=functools.partial(self.keys, names_of('img', 'masks', 'seg')),
            file_client_args=self.file_client)

    def typed(self,
              registry: Registry,
              value: object,
              path: str,
              given: Sequence[str] = (),
              extra: Sequence[str] = ()) -> None:
        """Check `dict(type=Name, ...)` of a registry, or lists of such dicts.

        Args:
            given: arguments that the builder adds: never reported as missing.
            extra: keys that the builder removes first.
        """
        if isinstance(value, (list, tuple)):
            for key_path, item in enumerate(value):
                if item is None:
                    self.report(f'{path}.{key_path}',
                                f'must be a dict with the type of a {registry.name}, not None')
                self.typed(registry, item, f'{path}.{key_path}', given, extra)
            return
        if not self.is_dict(value, path):
            return
        if 'type' not in value:
            near = next((key for key in value if nearest(key, ['type']) and key not in extra), None)
            if near is not None and len(str(near)) < 6:
                return self.report_unknown_key(f'a {registry.name}', ['type'], value, near, path)
            return self.report(
                path, f'a {registry.name} needs a type: add type=... to {short(dict(value))}')
        kind = value['type']
        cls = kind if callable(kind) else registry.get(kind, [*value, *given]) if isinstance(
            kind, str) else None
        if cls is None:
            return self.report_unknown_type(registry.name, registry, kind, path)
        written_for_v2 = user_code.explain_class(cls) if registry is MODELS else None
        if written_for_v2:
            return self.report(path, written_for_v2)
        known = allowed_keys(cls).plus('type', *extra)
        name = kind if isinstance(kind, str) else cls.__name__
        given = (*given, *self.shared.get(path, ()))
        self.shared.update({
            f'{path}.{key}': names
            for key, names in getattr(cls, 'shares', {}).items()
        })
        settings_of = getattr(cls, 'settings_of', {})
        self.read_by_parts.update(f'{path}.{key_path}' for key_path in settings_of)
        free = getattr(cls, 'passes_on', ())
        self.arguments(registry, known, value, path, name, given, free)
        self.settings_of_parts(settings_of, value, path)

    def settings_of_parts(self, settings_of: Mapping[str, str], value: Dict[str, Any],
                          path: str) -> None:
        """Check the dicts of `train_cfg` and `test_cfg` that parts of a detector read, each by its record."""
        for key_path, argument in settings_of.items():
            name, _, parameter = argument.partition('.')
            part, settings = value.get(name), value
            for key in key_path.split('.'):
                settings = settings.get(key) if isinstance(settings, dict) else None
            cls = MODELS.class_of(part)
            reads = allowed_keys(cls).parameters.get(parameter) if cls is not None else None
            record = reads is not None and record_of(reads.annotation)
            if record and settings is not None:
                self.record(record, settings, f'{path}.{key_path}')

    def arguments(self,
                  registry: Registry,
                  known: AllowedKeys,
                  value: Dict[str, Any],
                  path: str,
                  name: str,
                  given: Sequence[str],
                  free: Sequence[str] = ()) -> None:
        complete = True
        for key, item in value.items():
            if key not in known.parameters:
                if not known.is_open:
                    other = self.other_spelling(registry, name, value, key)
                    if other:
                        self.report(f'{path}.{key}', other)
                    else:
                        names = self.all_names(registry, name, known, value)
                        near = nearest(key, names, value)
                        meant = known.parameters if near is None or near in known.parameters else names
                        self.report_unknown_key(name, meant, value, key, path)
                    complete = False
            elif not self.is_of_kind(known, key, item, f'{path}.{key}') or key in free:
                continue
            elif isinstance(item, (dict, list, tuple)):
                self.argument(registry, known, key, item, f'{path}.{key}')
        missing = [key for key in known.required if key not in value and key not in given]
        if missing and complete:
            needs = {' and '.join(missing): registry.get(name)}
            if isinstance(value.get('type'), str):
                needs.update({
                    argument: cls
                    for argument, cls in registry.spellings(name).items()
                    if argument and not set(missing) & set(allowed_keys(cls).required)
                })
            text = ', or '.join(f'{argument}{_describe_task(cls)}'
                                for argument, cls in needs.items())
            first = next(
                (argument for argument, cls in needs.items() if 'detector' in _describe_task(cls)),
                missing[0])
            self.report(path, f'{name} needs {text}: add {first.split(" and ")[0]}=...')

    def is_of_kind(self, known: AllowedKeys, key: str, value: object, path: str) -> bool:
        """Return whether a value has the type that a signature of this package asks for; note it if not."""
        parameter = known.parameters[key]
        is_list_of_sets = key in ONE_EACH and isinstance(value, (list, tuple))  # see build_dataset
        if parameter is None or not known.is_ours or is_list_of_sets or key == 'num_classes' and value == 'auto':
            return True
        default = parameter.default
        if fits(parameter.annotation, value) or value is None and default is None:
            return True
        words = describe_values(parameter.annotation)
        if isinstance(value, str) and words.startswith(('a number', 'a whole number')):
            message = not_a_text(key, value)
        else:
            is_example = isinstance(default, (bool, int, float, str)) and words != 'a dict'
            message = f'must be {words}, not {short(value)}' + (f'; write {key}={default!r}'
                                                                if is_example else '')
        self.report(path, message)
        return False

    def values(self, known: AllowedKeys, value: Dict[str, Any], path: str) -> None:
        """Check the values of a dict against a signature."""
        for key, item in value.items():
            if key in known.parameters:
                self.is_of_kind(known, key, item, f'{path}.{key}')

    @staticmethod
    def all_names(registry: Registry, name: str, known: AllowedKeys,
                  value: Dict[str, Any]) -> Sequence[str]:
        """Return the arguments of all classes of a name: a misspelt one may identify the class."""
        others = registry.spellings(name).values() if isinstance(value.get('type'), str) else ()
        return [*known.parameters, *(key for cls in others for key in allowed_keys(cls).parameters)]

    @staticmethod
    def other_spelling(registry: Registry, name: str, value: Dict[str, Any], key: str) -> str:
        """Explain an argument that belongs to another class of the same name; '' for any other."""
        spellings = registry.spellings(name) if isinstance(value.get('type'), str) else {}
        chosen = next((argument for argument in spellings if argument in value), None)
        own = allowed_keys(spellings[chosen]).parameters if chosen in spellings else {}
        for argument, cls in spellings.items():
            if argument != chosen and key in allowed_keys(cls).parameters and key not in own:
                with_it = f'with {chosen}=' if chosen else f'without {argument}='
                mine, other = (allowed_keys(spellings[chosen]), allowed_keys(cls))
                return (
                    f'{name} {with_it} has no {key!r} (here {short(value[key])}), which belongs to the other {name}. '
                    f'Write one of them: {name}({", ".join(mine.parameters)}) or {name}({", ".join(other.parameters)})'
                )
        return ''

    def argument(self, registry: Registry, known: AllowedKeys, key: str, item: object,
                 path: str) -> None:
        if path in self.read_by_parts:
            return
        parameter = known.parameters[key]
        record = parameter is not None and record_of(parameter.annotation)
        if record:
            self.record(record, item, path)
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

    def inner(self, registry: Registry, item: object, path: str, is_ours: bool) -> None:
        """Check dicts with a type, also inside lists; other items of a list are plain values."""
        if isinstance(item, (list, tuple)):
            for key_path, part in enumerate(item):
                if isinstance(part, (dict, list, tuple)):
                    self.inner(registry, part, f'{path}.{key_path}', is_ours)
        elif is_ours or isinstance(item.get('type'), str) and item['type'] in registry:
            self.typed(registry, item, path)

    def record(self, kind: type, value: object, path: str) -> None:
        """Check a dict against a dataclass; `assigner`, `sampler` and the like inside are models."""
        if isinstance(value, (list, tuple)):  # one record per stage
            for key_path, item in enumerate(value):
                self.record(kind, item, f'{path}.{key_path}')
        if not isinstance(value, dict):
            return
        name = '.'.join(step for step in path.split('.')[-2:])
        self.arguments(MODELS, allowed_keys(kind), value, path, name, ())

    # --- dicts that are not a type of a registry

    def layer(self, kind: str, names: Sequence[str], extra: Sequence[str], value: object,
              path: str) -> None:
        """Check norm_cfg and the like: a layer of mmcv by name, with the arguments of its class."""
        if isinstance(value, (list, tuple)):
            for key_path, item in enumerate(value):
                self.layer(kind, names, extra, item, f'{path}.{key_path}')
        if not isinstance(value, dict):
            return
        if 'type' not in value:
            return self.typed(MODELS, value, path)
        cls = value['type'] if callable(value['type']) else LAYERS.get(str(value['type']))
        if cls is None:
            return self.report_unknown_type(kind, names, value['type'], path)
        known = allowed_keys(cls).without(*SIZES_OF_LAYERS).plus('type', *extra)
        self.keys(known, value, path, owner=str(value['type']))

    def plugins(self, value: object, path: str) -> None:
        """Check layers in the blocks of a backbone, each with its position and stages."""
        if self.is_list(value, path):
            for key_path, item in enumerate(value):
                if self.is_dict(item, f'{path}.{key_path}'):
                    self.keys(
                        names_of('cfg', 'stages', 'position'), item, f'{path}.{key_path}',
                        'a plugin')
                    self.layer('plugin', PLUGINS, ('postfix', 'out_channels', 'kernel_size'),
                               item.get('cfg'), f'{path}.{key_path}.cfg')

    def layer_of_rois(self, value: object, path: str) -> None:
        """Check a layer of GenericRoIExtractor, which gives its sizes itself."""
        self.layer('plugin', PLUGINS, ('postfix', 'in_channels', 'out_channels', 'kernel_size'),
                   value, path)

    def linear(self, value: object, path: str) -> None:
        if isinstance(value, dict):
            layer = LINEAR_LAYERS.get(value.get('type', 'Linear'))
            if layer is None:
                return self.report_unknown_type('predictor', list(LINEAR_LAYERS), value['type'],
                                                path)
            self.keys(allowed_keys(layer, 2).plus('type'), value, path)

    def upsample(self, value: object, path: str) -> None:
        """Check dict(type='deconv', scale_factor=2) of a mask head, or dict(mode='nearest') of a neck."""
        if isinstance(value, dict):
            if value.get('type') not in (None, *UPSAMPLINGS):
                return self.report_unknown_type('upsampling', UPSAMPLINGS, value['type'], path)
            self.keys(allowed_keys(F.interpolate, 1).plus('type'), value, path)

    def file_client(self, value: object, path: str) -> None:
        """Check for a misspelt `backend` key only: the other arguments differ between backends."""
        if isinstance(value, dict) and 'backend' not in value:
            near = next((key for key in value if nearest(key, ['backend'])), None)
            if near is not None:
                self.report_unknown_key('file_client_args', ['backend'], value, near, path)

    def init_cfg(self, value: object, path: str) -> None:
        """Check one initialization rule or a list of them."""
        if isinstance(value, (list, tuple)):
            for key_path, item in enumerate(value):
                self.init_cfg(item, f'{path}.{key_path}')
        if not isinstance(value, dict):
            return
        kind = value.get('type')
        if 'type' not in value:
            return self.typed(MODELS, value, path)
        if kind == 'Pretrained':
            return self.keys(
                names_of('type', 'checkpoint', 'prefix', 'map_location'), value, path, 'Pretrained')
        if not isinstance(kind, str) or kind not in INITIALIZERS:
            return self.report_unknown_type('initializer', [*INITIALIZERS, 'Pretrained'], kind,
                                            path)
        own = allowed_keys(INITIALIZERS[kind], 1).plus('type', 'bias_prob')
        self.keys(own.plus('layer', 'override'), value, path, str(kind))
        overrides = value.get('override')
        for key_path, item in enumerate(
                overrides if isinstance(overrides, (list, tuple)) else [overrides]):
            inside = f'{path}.override.{key_path}' if isinstance(overrides,
                                                                 (list,
                                                                  tuple)) else f'{path}.override'
            if isinstance(item, dict):
                other = allowed_keys(INITIALIZERS[item['type']], 1) if str(
                    item.get('type')) in INITIALIZERS else own
                self.keys(
                    other.plus('type', 'name', 'bias_prob', 'layer', 'checkpoint', 'prefix'), item,
                    inside, 'override')

    def policies(self, value: object, path: str) -> None:
        """Check policies of AutoAugment and RandAugment, which fill in the arguments named by
        `hparams` and `magnitude_key`."""
        if isinstance(value, (list, tuple)):
            for key_path, item in enumerate(value):
                self.policies(item, f'{path}.{key_path}')
        elif isinstance(value, dict):
            given = [value['magnitude_key']] if 'magnitude_key' in value else []
            self.typed(PIPELINES, value, path, given, extra=('magnitude_key', 'magnitude_range'))

    def pipeline(self, value: object, path: str) -> None:
        """Check the transforms of a dataset; those of a test may be missing until it is run."""
        if not value and not path.startswith('data.test.'):
            return self.report(
                path,
                "has no transform, and images become a batch by them; leave it out where a base has it, or write "
                "[dict(type='LoadImageFromFile'), ..., dict(type='Collect', keys=['img'])]")
        self.typed(PIPELINES, value, path)

    def dataset(self, value: object, path: str, extra: Sequence[str] = ()) -> None:
        """Check a dataset, a wrapper around others, or a list."""
        if isinstance(value, (list, tuple)):
            for key_path, item in enumerate(value):
                self.dataset(item, f'{path}.{key_path}', extra)
        elif isinstance(value, dict):
            joins = isinstance(value.get('ann_file'), (list, tuple))
            self.typed(DATASETS, value, path, extra=[*extra, 'separate_eval'] if joins else extra)
        elif isinstance(value, (str, int, float)):
            self.report(path, f'must be a dict, or a list of them, not {short(value)}')


def _describe_task(cls: Any) -> str:
    """Return ' (a detector)' or ' (a classifier)' for a class of a shared name; '' if neither applies."""
    moves = getattr(cls, 'moves', ())
    return ' (a detector)' if 'bbox' in moves else ' (a classifier)' if moves == ('img', ) else ''
