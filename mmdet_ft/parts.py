"""What the parts of a model say of themselves, so that nobody else keeps a list of them.

A backbone, neck or head is any module; each of these may be an attribute of its class, or of the module:

    prediction_rows       {name of a layer: Rows}: its layers whose shape follows the classes or the anchors. A
                          checkpoint may differ from the model there, and nowhere else
    takes()               list of Takes: the feature maps that it expects, and the arguments that say so
    learns_from           keys of a training sample that its loss needs, such as ('gt_bboxes', 'gt_labels')
    counts_classes        False where its `num_classes` is not the number of classes of the dataset
    has_background_class  True where its logits are one more than the classes

A detector adds `settings_of` and `pretrained_parts`, see models.detectors.base.
"""
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

from torch import nn


class Rows(NamedTuple):
    """The first dimension of a layer's weight.

    per: 'class' (rows of class 0, then of class 1, ...), 'anchor', or 'anchor and class' (classes of anchor 0, ...).
    each: rows of one of them; None where any number will do.
    background: after the classes comes a row for the background.
    """
    per: str = 'class'
    each: Optional[int] = 1
    background: bool = False

    @property
    def follow_classes(self) -> bool:
        return self.per != 'anchor'


UNKNOWN = Rows(each=None)  # of a layer that a model names without its layout
# The layouts of V2's usual names, for models that name their layers by a method alone.
V2_LAYERS = dict(
    fc=Rows(),
    fc_cls=Rows(background=True),
    fc_reg=Rows(each=4),
    conv_logits=Rows(),
    rpn_cls=Rows('anchor'),
    rpn_reg=Rows('anchor', 4),
    retina_cls=Rows('anchor and class'),
    retina_reg=Rows('anchor', 4))


class Takes(NamedTuple):
    """Feature maps that a part expects from what comes before it; what is None is not compared."""
    argument: str  # path below the part of the argument that says so, such as 'anchor_generator.strides'
    channels: Union[int, Sequence[int], None] = None  # of every level, or one number a level
    strides: Optional[Sequence[Any]] = None  # pixels of the image a pixel of each level
    first: int = 0  # the levels that are used: from this one
    last: Optional[int] = None  # to this one; None is the last there is
    may_be_fewer: bool = False  # levels beyond those of `strides` are not used
    is_vector: bool = False  # one vector an image, [B, C], of the last level


def takes_of(part: Any, prefix: str) -> List[Takes]:
    """Return what a part takes, with the arguments as paths below its parent; nothing of a part that does not say."""
    stated = getattr(part, 'takes', None)
    return [item._replace(argument=f'{prefix}.{item.argument}')
            for item in stated()] if callable(stated) else []


def part_of(name: str) -> str:
    """Return the part of a model that a weight belongs to, by its name: 'roi_head.bbox_head', 'backbone', 'neck'."""
    pieces = name.split('.')
    count = 1
    while count < len(pieces) - 1 and pieces[count - 1].endswith('head') and (
            pieces[count].endswith('head') or pieces[count].isdigit()):
        count += 1
    return '.'.join(pieces[:count])


def stated_layers(model: nn.Module) -> Dict[str, Rows]:
    """Return {prefix of state_dict names: rows} of the layers that a model and its parts state in `prediction_rows`."""
    layers: Dict[str, Rows] = {}
    for path, part in model.named_modules():
        stated: Mapping[str, Rows] = getattr(part, 'prediction_rows', {})
        layers.update({
            f'{path}.{name}.' if path else f'{name}.': rows
            for name, rows in stated.items()
        })
    return layers


def find_prediction_layers(model: nn.Module) -> Dict[str, Rows]:
    """Return the layers that a model states, and more prefixes where it has a method `prediction_layers()`."""
    layers = stated_layers(model)
    named = getattr(model, 'prediction_layers', None)
    for prefix in named() if callable(named) else ():
        layers.setdefault(prefix, V2_LAYERS.get(prefix.rstrip('.').rpartition('.')[2], UNKNOWN))
    return layers


def rows_of(name: str, layers: Mapping[str, Rows]) -> Optional[Rows]:
    """Return the rows of the layer that a weight's name belongs to, None for a weight of no prediction layer."""
    return next((rows for prefix, rows in layers.items() if name.startswith(prefix)), None)
