"""MMClassification's defaults where they differ from MMDetection's, for types of both packages.

One class serves both, with MMDetection's defaults. A classifier uses these for missing keys.
"""
import inspect
from typing import Any, Dict

from mmdet_ft.registry import MODELS

_RESNET = dict(stem_channels=64, out_indices=(3, ), norm_eval=False, layout='mmcls')
OF_CLASSIFICATION: Dict[str, Dict[str, Any]] = dict(
    ResNet=_RESNET,
    ResNeXt=dict(_RESNET, groups=32),
    RegNet=dict(out_indices=(3, ), norm_eval=False, layout='mmcls'),
    ThinResNet_CIFAR={},  # a type of this package only
    MobileNetV2=dict(out_indices=(7, ), layout='mmcls'),
    CrossEntropyLoss=dict(weigh_negatives=True),
)


def build_for_classification(cfg: object) -> Any:
    """Build by `MODELS.build` with classification defaults, also for subclasses, such as a user's."""
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
