import functools
import inspect
from typing import Any, Callable, Dict

from mmdet_ft.models.backbones.residual import Bottleneck
from mmdet_ft.models.backbones.resnet import ResNet
from mmdet_ft.registry import MODELS


def arguments_of_blocks(**values: Any) -> Callable[[type], type]:
    """Return a class decorator that adds block arguments, with defaults, to a ResNet class."""

    def extend(cls: type) -> type:
        parent = cls.__init__  # type: ignore[misc] # wrapped, and called with its own arguments

        @functools.wraps(parent)
        def __init__(self, *positional, **named):
            bound = whole.bind(self, *positional, **named)
            own = {name: bound.arguments.pop(name, value) for name, value in values.items()}
            self.options = {
                **getattr(self, 'options', {}),
                **own
            }  # a subclass may add to its parent's
            parent(**bound.arguments)

        signature = inspect.signature(parent)
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=value)
            for name, value in values.items()
        ]
        whole = signature.replace(parameters=[*signature.parameters.values(), *added])
        setattr(__init__, '__signature__', whole)
        cls.__init__ = __init__  # type: ignore[misc]
        return cls

    return extend


@MODELS.register_module()
@arguments_of_blocks(groups=1, base_width=4, width_per_group=None)
class ResNeXt(ResNet):
    """ResNet of grouped bottlenecks (Aggregated Residual Transformations).

    Args:
        depth: 50, 101 or 152.
        groups: of the 3x3 convolutions: 32 in ResNeXt 32x4d.
        base_width: channels per group in the first stage: 4 in ResNeXt 32x4d.
        width_per_group: MMClassification's name for `base_width`, which it overrides.

    Other arguments as ResNet.
    """

    options: Dict[str, Any]  # see arguments_of_blocks
    arch_settings = {
        50: (Bottleneck, (3, 4, 6, 3)),
        101: (Bottleneck, (3, 4, 23, 3)),
        152: (Bottleneck, (3, 8, 36, 3)),
    }

    def block_arguments(self) -> Dict:
        options = dict(self.options)
        width = options.pop('width_per_group')
        if width is not None:
            options['base_width'] = width
        return dict(options, base_channels=self.base_channels)
