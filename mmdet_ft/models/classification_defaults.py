"""Where MMClassification's defaults differ from MMDetection's, for types that both packages name.

One class serves both; its own defaults are MMDetection's. A classifier states these where its config is silent.
"""
import inspect
from typing import Any, Dict

from mmdet_ft.registry import MODELS

_RESNET = dict(stem_channels=64, out_indices=(3, ), norm_eval=False, layout='mmcls')
OF_CLASSIFICATION: Dict[str, Dict[str, Any]] = dict(
    ResNet=_RESNET,
    ResNeXt=dict(_RESNET, groups=32),
    RegNet=dict(out_indices=(3, ), norm_eval=False, layout='mmcls'),
    ThinResNet_CIFAR={},  # no type of either package: its own
    MobileNetV2=dict(out_indices=(7, ), layout='mmcls'),
    CrossEntropyLoss=dict(weigh_negatives=True),
)


def build_for_classification(cfg: Any) -> Any:
    """`MODELS.build` with the defaults of classification; they hold for subclasses too, a user's as well."""
    if not isinstance(cfg, dict) or 'type' not in cfg:
        return MODELS.build(cfg)
    cls = MODELS.resolve(cfg['type'])
    parameters = inspect.signature(cls).parameters.values()
    named = {parameter.name for parameter in parameters}
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    base = next(
        (base for base in getattr(cls, '__mro__', ()) if base.__name__ in OF_CLASSIFICATION), None)
    defaults = OF_CLASSIFICATION[base.__name__] if base is not None else {}
    return MODELS.build(
        cfg, **{
            key: value
            for key, value in defaults.items() if is_open or key in named
        })
