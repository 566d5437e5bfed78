"""Declarations of model parts about themselves, which replace central lists of parts.

A backbone, neck or head is any module. Each of these may be an attribute of its class, or of the module:

    prediction_rows       {name of a layer: Rows}: layers whose shape depends on the classes or the anchors. A
                          checkpoint may differ from the model only there
    takes()               list of Takes: the expected feature maps, and the arguments that define them
    learns_from           keys of a training sample that its loss needs, such as ('gt_bboxes', 'gt_labels')
    counts_classes        False if its `num_classes` is not the number of classes of the dataset
    takes_logits          True where it has no layer of its own: the part before it gives the scores
    one_each              {argument with a number: arguments whose lists have one item each, such as
                          dict(num_stages=('bbox_head', 'train_cfg'))}
    has_background_class  True if its logits are one more than the classes
    shares                {argument that holds a part: arguments that the part gets from this one}

A detector adds `settings_of` and `pretrained_parts`, see models.detectors.base.
"""
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Union

from torch import nn


class Rows(NamedTuple):
    """The first dimension of a layer's weight.

    per: 'class' (rows of class 0, then of class 1, ...), 'anchor', 'anchor and class' (classes of anchor 0, ...), or
        'semantic class' (of maps of the whole image, not of boxes).
    each: rows per unit; None if any number is valid.
    background: rows after those of the classes, such as one for the background.
    first: rows of each anchor before those of its classes.
    """
    per: str = 'class'
    each: Optional[int] = 1
    background: int = 0
    first: int = 0

    @property
    def follow_classes(self) -> bool:
        return self.per in ('class', 'anchor and class')


UNKNOWN = Rows(each=None)  # for a layer that a model names without its layout
# The layouts of V2's usual names, for models that name their layers by a method alone.
V2_LAYERS = dict(
    fc=Rows(),
    fc_cls=Rows(background=1),
    fc_reg=Rows(each=4),
    conv_logits=Rows(),
    rpn_cls=Rows('anchor'),
    rpn_reg=Rows('anchor', 4),
    retina_cls=Rows('anchor and class'),
    retina_reg=Rows('anchor', 4))


class Takes(NamedTuple):
    """Feature maps that a part expects from the preceding part; None is not compared."""
    argument: str  # path of the defining argument inside the part, such as 'anchor_generator.strides'
    channels: Union[int, Sequence[int], None] = None  # of every level, or one number per level
    strides: Optional[Sequence[Any]] = None  # image pixels per feature pixel of each level
    first: int = 0  # first level used
    last: Optional[int] = None  # last level used; None for the last of all
    may_be_fewer: bool = False  # levels beyond those of `strides` are not used
    num_levels: Optional[int] = None  # number of the feature maps
    is_vector: bool = False  # one vector per image, [B, C], of the last level
    coarsest_first: bool = False  # `channels` are listed from the coarsest level on


def takes_of(part: object, prefix: str) -> List[Takes]:
    """Return the inputs a part takes, with arguments as paths below its parent; empty if undeclared."""
    stated = getattr(part, 'takes', None)
    return [item._replace(argument=f'{prefix}.{item.argument}')
            for item in stated()] if callable(stated) else []


def part_of(name: str) -> str:
    """Return the part that a weight belongs to, by its name: 'roi_head.bbox_head', 'backbone', 'neck'."""
    pieces = name.split('.')
    count = 1
    while count < len(pieces) - 1 and pieces[count - 1].endswith('head') and (
            pieces[count].endswith('head') or pieces[count].isdigit()):
        count += 1
    return '.'.join(pieces[:count])


def stated_layers(model: nn.Module) -> Dict[str, Rows]:
    """Return {state_dict prefix: rows} of the layers in `prediction_rows` of a model and its parts."""
    layers: Dict[str, Rows] = {}
    for path, part in model.named_modules():
        stated: Mapping[str, Rows] = getattr(part, 'prediction_rows', {})
        layers.update({
            f'{path}.{name}.' if path else f'{name}.': rows
            for name, rows in stated.items()
        })
    return layers


def find_prediction_layers(model: nn.Module) -> Dict[str, Rows]:
    """Return the declared layers, and more prefixes if the model has a method `prediction_layers()`."""
    layers = stated_layers(model)
    named = getattr(model, 'prediction_layers', None)
    for prefix in named() if callable(named) else ():
        layers.setdefault(prefix, V2_LAYERS.get(prefix.rstrip('.').rpartition('.')[2], UNKNOWN))
    return layers


def rows_of(name: str, layers: Mapping[str, Rows]) -> Optional[Rows]:
    """Return the rows of the layer that a weight's name belongs to, or is; None if not in a prediction layer."""
    return next((rows for prefix, rows in layers.items() if f'{name}.'.startswith(prefix)), None)
