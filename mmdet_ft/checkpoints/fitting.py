"""Fitting a checkpoint to a model, and saying what became of each weight."""
import functools
import logging
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from torch import nn

from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.facts import Facts
from mmdet_ft.checkpoints.heads import by_class, match_classes
from mmdet_ft.checkpoints.reading import Checkpoint, StateDict, read, require_sound
from mmdet_ft.checkpoints.report import Report, facts_of_file, warnings_of
from mmdet_ft.checkpoints.sources import Source
from mmdet_ft.checkpoints.values import faults_of

logger = logging.getLogger('mmdet_ft')


def _counts(name: str) -> bool:
    return not name.endswith('num_batches_tracked')


def fit(model: nn.Module,
        checkpoint: Checkpoint,
        strict: bool = True,
        heads: Optional[str] = None,
        aliases: Optional[Dict[str, str]] = None,
        run: Facts = Facts()) -> Report:
    """Load what fits, and say what did not.

    A weight of another shape is left at its fresh initialisation if it belongs to one of
    `model.prediction_layers()`: classes and anchors are legitimate edits. Elsewhere it is an error,
    as is a file that fills less than half of the model or nothing but its backbone; `strict=False`
    loads what there is of such a file.

    Args:
        heads: 'by_class' takes the rows of prediction layers for the classes that the file has
            too, whatever their order; `aliases` says for classes of the model what the file calls
            them. None takes a layer whole or not at all.
        run: what the config of this run says of its images, to be compared with the weights'.

    Raises CheckpointError with the way out.
    """
    model = getattr(model, 'module', model)
    own = model.state_dict()
    layers = tuple(model.prediction_layers()) if hasattr(model, 'prediction_layers') else ()
    given, changes = _as_whole_model(model, checkpoint.state_dict)
    old_classes = checkpoint.meta.get('CLASSES')
    new_classes = getattr(model, 'CLASSES', None)
    match = None
    if heads is not None:
        match = match_classes(old_classes, new_classes, aliases or {})
        for name in (name for name in own if layers and name.startswith(layers) and name in given):
            rows = by_class(name, given[name], own[name], match)
            given[name] = given[name] if rows is None else rows

    common = [name for name in own if name in given]
    differing = [(name, tuple(given[name].shape), tuple(own[name].shape)) for name in common
                 if given[name].shape != own[name].shape]
    reinitialised = [item for item in differing if item[0].startswith(layers)] if layers else []
    mismatched = [item for item in differing if item not in reinitialised]
    refused = {item[0] for item in differing}
    fitting = {name: given[name] for name in common if name not in refused}
    missing = [name for name in own if name not in given and _counts(name)]
    unexpected = [name for name in given if name not in own and _counts(name)]
    faults = faults_of(fitting, own)
    origin = checkpoint.origin
    report = Report(
        source=checkpoint.source,
        total=sum(map(_counts, own)),
        loaded=list(filter(_counts, fitting)),
        reinitialised=reinitialised,
        mismatched=mismatched,
        missing=missing,
        unexpected=unexpected,
        classes=(_num_classes(old_classes), _num_classes(new_classes)),
        origin=origin._replace(changes=(*origin.changes, *changes)),
        by_class=match,
        warnings=(*warnings_of(
            facts_of_file(checkpoint.meta, origin), run, given, missing, unexpected), *faults))
    if strict:
        _refuse_misfits(model, report, given)
        if faults:
            raise CheckpointError(
                f'{report}\n  These values cannot be right. To load them all the same, write '
                f'load_from=dict(checkpoint={report.source!r}, strict=False)')
    model.load_state_dict(fitting, strict=False)
    return report


def _as_whole_model(model: nn.Module, given: StateDict) -> Tuple[StateDict, List[str]]:
    """The weights under the model's names, where these follow from what kind of model it is."""
    own = model.state_dict()
    # Hooks that average weights keep the other set in buffers of the model (V2's EMA hooks).
    averages = {f'ema_{name.replace(".", "_")}' for name in given} - set(own)
    buffers = averages.intersection(given)
    changes = [f'{len(buffers)} ema_ buffers left out: the weights themselves are the averages'
               ] if buffers else []
    given = {name: value for name, value in given.items() if name not in buffers}
    # A classifier of torchvision: a backbone's names, and fc.
    if 'fc.weight' in given and 'head.fc.weight' in own and not set(own).intersection(given):
        given = {
            f'head.{name}' if name.startswith('fc.') else f'backbone.{name}': value
            for name, value in given.items()
        }
        changes.append('fc is head.fc, the rest the backbone')
    return given, changes


def _num_classes(classes: Any) -> Optional[int]:
    return len(classes) if isinstance(classes, (list, tuple)) else None


def _refuse_misfits(model: nn.Module, report: Report, given: StateDict) -> None:
    allow = f"To load what fits all the same, write load_from=dict(checkpoint={report.source!r}, strict=False)"
    backbone_only = _init_cfg_line(model, report, given)
    if backbone_only is not None:
        raise CheckpointError(
            f'{report.source} holds a backbone, and load_from is for a whole model. Write\n'
            f'    {backbone_only}\n  instead of load_from. {allow}.')
    if report.mismatched:
        raise CheckpointError(
            f'{report}\n  These weights belong to another model: only prediction layers '
            f'may differ in shape. {allow}.')
    if 2 * len(report.loaded) < report.total:
        raise CheckpointError(
            f'{report}\n  Less than half of the model was found in the file. {allow}.')


def _init_cfg_line(model: nn.Module, report: Report, given: StateDict) -> Optional[str]:
    """The config line for a file that holds the backbone of the model and nothing else of it."""
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        return None
    names = [name for name in backbone.state_dict() if _counts(name)]
    beyond = [name for name in report.loaded if not name.startswith('backbone.')]
    for prefix in ('', 'backbone.'):
        found = sum(prefix + name in given for name in names)
        if 2 * found >= len(names) > 0 and not beyond and not report.reinitialised and len(
                names) < report.total:
            entry = f", prefix='{prefix}'" if prefix else ''
            return (
                f"model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint={report.source!r}{entry})))"
            )
    return None


def covers(checkpoint: Optional[Checkpoint], model: nn.Module, part: str = 'backbone') -> bool:
    """Whether the file holds every weight of `model.<part>` in its shape, so that nothing else need
    be loaded there."""
    module = functools.reduce(lambda at, name: getattr(at, name, None), part.split('.'), model)
    if checkpoint is None or not isinstance(module, nn.Module):
        return False
    given = checkpoint.state_dict
    names = {name: value for name, value in module.state_dict().items() if _counts(name)}
    return bool(names) and all(
        f'{part}.{name}' in given and given[f'{part}.{name}'].shape == value.shape
        for name, value in names.items())


class LoadFrom(NamedTuple):
    """`load_from` of a config: where the weights are, and how they are taken."""
    checkpoint: Source
    strict: bool = True  # see `fit`
    trust: bool = False  # see `reading.read`
    heads: Optional[str] = None  # see `fit`
    aliases: Optional[Dict[str, str]] = None


def parse_load_from(load_from: Union[Source, Dict[str, Any]]) -> LoadFrom:
    """`'path'`, `['path', 'https://...']` (the first that is there), or
    `dict(checkpoint=<one of these>, strict=False)`."""
    if not isinstance(load_from, dict):
        load_from = dict(checkpoint=load_from)
    unknown = sorted(set(load_from) - set(LoadFrom._fields))
    if unknown or not load_from.get('checkpoint'):
        known = ', '.join(f'{name}={value!r}' for name, value in LoadFrom._field_defaults.items())
        raise CheckpointError(
            'load_from is a path, a URL, a list of such of which the first is taken that is there, '
            f'or dict(checkpoint=..., {known}); got {dict(load_from)!r}')
    read_as = LoadFrom(**load_from)
    if read_as.heads not in (None, 'by_class'):
        raise CheckpointError(
            f"load_from.heads is 'by_class' or left out (layers as wholes), not {read_as.heads!r}")
    if read_as.aliases and read_as.heads is None:
        raise CheckpointError("load_from.aliases goes with heads='by_class'; add that")
    return read_as


def pretrained_loader(run: Facts) -> Callable[[Source], StateDict]:
    """What `init_weights(load=...)` of a model asks for: reads a file, and warns where its weights do not go with
    the images of this run."""

    def load(source: Source) -> StateDict:
        checkpoint = read(source)
        require_sound(checkpoint)
        facts = facts_of_file(checkpoint.meta, checkpoint.origin)
        for warning in warnings_of(facts, run, checkpoint.state_dict):
            logger.warning('%s (%s): %s', checkpoint.source, checkpoint.origin.kind, warning)
        return checkpoint.state_dict

    return load


def load_checkpoint(model: nn.Module, source: str, strict: bool = True) -> Checkpoint:
    """Read a file and load it into a model by the contract of `fit`."""
    checkpoint = read(source)
    fit(model, checkpoint, strict)
    return checkpoint


def load_trained(model: nn.Module, source: str) -> Checkpoint:
    """Load a model's own checkpoint, as for a test: every weight must be there in its shape.

    Raises CheckpointError that names what differs, or cannot be right.
    """
    checkpoint = read(source)
    require_sound(checkpoint)
    own = getattr(model, 'module', model)
    if checkpoint.meta.get('CLASSES') is not None and getattr(own, 'CLASSES', None) is None:
        own.CLASSES = checkpoint.meta['CLASSES']
    report = fit(own, checkpoint, strict=False)
    if report.missing or report.mismatched or report.reinitialised:
        raise CheckpointError(f'{report}\n  This is not a checkpoint of the model in the config')
    return checkpoint
