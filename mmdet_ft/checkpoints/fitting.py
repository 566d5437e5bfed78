"""Loading a checkpoint into a model, with a report on each weight."""
import functools
import logging
from typing import (Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence,
                    Tuple, Union)

from torch import nn

from mmdet_ft.checkpoints.choosing import (Choice, Fit, best_fit, common_prefix, is_essential,
                                           measure_fit)
from mmdet_ft.checkpoints.class_rows import Match, copy_class_rows, match_classes
from mmdet_ft.checkpoints.classes import Comparison, compare, line_of, listed
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.formats.table import class_names
from mmdet_ft.checkpoints.input_format import InputFormat
from mmdet_ft.checkpoints.reading import Checkpoint, StateDict, read, require_sound
from mmdet_ft.checkpoints.report import Report, compare_input_format, find_input_format
from mmdet_ft.checkpoints.sanity import find_faults
from mmdet_ft.checkpoints.sources import Source
from mmdet_ft.parts import Rows, find_prediction_layers, part_of, rows_of

logger = logging.getLogger('mmdet_ft')


def fit(model: nn.Module,
        checkpoint: Checkpoint,
        strict: bool = True,
        heads: Optional[str] = None,
        aliases: Optional[Dict[str, str]] = None,
        run: InputFormat = InputFormat()) -> Report:
    """Load the weights that fit, and report those that do not.

    A weight of another shape keeps its fresh initialization if it belongs to one of
    `model.prediction_layers()`: classes and anchors are legitimate edits. Elsewhere a shape mismatch
    is an error. A file that fills less than half of the model or only its backbone is one too.
    `strict=False` loads whatever such a file has.

    Args:
        heads: 'by_class' copies the rows of prediction layers for the classes that the file also
            has, in any order. None loads a layer entirely or not at all.
        aliases: names of the model's classes -> their names in the file.
        run: image settings from the config of this run, to be compared with those of the weights.

    Raises CheckpointError that says how to fix it.
    """
    model = getattr(model, 'module', model)
    checkpoint = select_weights(checkpoint, model)
    own = model.state_dict()
    rows = find_prediction_layers(model)
    layers = tuple(rows)
    given, changes = _rename_to_model(model, checkpoint.state_dict)
    old_classes = checkpoint.meta.get('CLASSES')
    new_classes = getattr(model, 'CLASSES', None)
    match, remarks = None, ()
    is_asked = heads is not None
    if not is_asked:
        heads, remarks = _choose_heads(checkpoint, layers, new_classes)
    if heads is not None:
        match = match_classes(old_classes, new_classes, aliases or {})
        count = _reorder_rows(given, own, rows, match)
        if count and not is_asked:
            changes += [
                'the file has these classes in another order: rows of the heads are matched by name'
            ]
        elif not count and not is_asked:
            match = None
            remarks = (
                f'the classes that the file names ({_format_names(old_classes, 8)}) are in another order '
                f'than here, and its '
                'prediction layers have not one row for each: compare them with those it was trained on',
            )

    common = [name for name in own if name in given]
    differing = [(name, tuple(given[name].shape), tuple(own[name].shape)) for name in common
                 if given[name].shape != own[name].shape]
    reinitialised = [item for item in differing if item[0].startswith(layers)] if layers else []
    mismatched = [item for item in differing if item not in reinitialised]
    refused = {item[0] for item in differing}
    fitting = {name: given[name] for name in common if name not in refused}
    missing = [name for name in own if name not in given and is_essential(name)]
    unexpected = [name for name in given if name not in own and is_essential(name)]
    faults = find_faults(fitting, own)
    origin = checkpoint.origin
    report = Report(
        source=checkpoint.source,
        total=sum(map(is_essential, own)),
        loaded=list(filter(is_essential, fitting)),
        reinitialised=reinitialised,
        mismatched=mismatched,
        missing=missing,
        unexpected=unexpected,
        classes=(_num_classes(old_classes), _num_classes(new_classes)),
        origin=origin._replace(changes=(*origin.changes, *changes)),
        by_class=match,
        layers=rows,
        warnings=(*compare_input_format(
            find_input_format(checkpoint.meta, origin), run, given, missing, unexpected), *remarks,
                  *_warn_of_partial_parts(own, given, layers), *faults))
    if strict:
        _refuse_misfits(model, report, given)
        if faults:
            raise CheckpointError(
                f'{report}\n  These values cannot be right. To load them all the same, write '
                f'load_from=dict(checkpoint={report.source!r}, strict=False)')
    model.load_state_dict(fitting, strict=False)
    return report


def _reorder_rows(given: StateDict, own: StateDict, layers: Mapping[str, Rows],
                  match: Match) -> int:
    """Reorder the rows of prediction layers by the model's classes, in place, and return how many layers changed."""
    count = 0
    for name in own:
        rows = rows_of(name, layers)
        if rows is not None and name in given:
            moved = copy_class_rows(rows, given[name], own[name], match)
            if moved is not None:
                given[name] = moved
                count += 1
    return count


def _choose_heads(checkpoint: Checkpoint, layers: Tuple[str, ...],
                  classes: object) -> Tuple[Optional[str], Tuple[str, ...]]:
    """Return (how to load the heads if load_from does not say it, warnings).

    Heads are loaded by class if their rows would otherwise be initialized from other classes.
    """
    found = compare(checkpoint.meta.get('CLASSES'), classes)
    if found is None or found.is_same or not layers:
        return None, ()
    write = f"write load_from=dict(checkpoint={checkpoint.source!r}, heads='by_class')"
    if len(found.known) != len(found.wanted):
        if not found.shared:
            return None, ()
        return None, (
            f'{len(found.shared)} of the classes are in the file too ({_format_names(found.shared, 8)}), and '
            f'the heads begin '
            f'without them; to keep what the file knows of them {write}', )
    if found.are_moved:
        return 'by_class', ()
    pairs = [
        f'{new} as {old}' for old, new, index in zip(found.known, found.wanted, found.indices)
        if index is None
    ]
    more = f' and {len(pairs) - 8} more' if len(pairs) > 8 else ''
    return None, (
        f'classes start from others that the file has at their index: {", ".join(pairs[:8])}{more}; if these are not '
        f'other names of the same, {write}', )


def _warn_of_partial_parts(own: StateDict, given: StateDict, layers: Tuple[str, ...]) -> List[str]:
    """Return a warning for each part of the model that the file covers only partly."""
    parts: Dict[str, List[str]] = {}
    for name in own:
        if is_essential(name) and not (layers and name.startswith(layers)):
            parts.setdefault(part_of(name), []).append(name)
    found = []
    for part, names in parts.items():
        absent = [name for name in names if name not in given]
        if 0 < len(absent) < len(names):
            depth = part.count('.') + 2
            indices = list(dict.fromkeys('.'.join(name.split('.')[:depth]) for name in absent))
            found.append(
                f'{len(absent)} of the {len(names)} weights of {part} are not in the file and stay as '
                f'initialized: {_format_names(indices, 6)}')
    return found


def select_weights(checkpoint: Checkpoint, model: nn.Module) -> Checkpoint:
    """Select the weights that fit the model best, perhaps from another dict of the file or without a prefix."""
    return _select_weights(checkpoint, model.state_dict(),
                           lambda given: _rename_to_model(model, given)[0])


def _select_weights(checkpoint: Checkpoint, own: StateDict,
                    adapt: Callable[[StateDict], StateDict]) -> Checkpoint:
    first = Choice(checkpoint.state_dict, checkpoint.origin, Fit())
    choice = best_fit(checkpoint.content, checkpoint.meta, first, own, adapt)
    classes = class_names(checkpoint.meta, choice.origin.classes)
    meta = checkpoint.meta if classes is None else {**checkpoint.meta, 'CLASSES': classes}
    return checkpoint._replace(state_dict=choice.weights, origin=choice.origin, meta=meta)


def _rename_to_model(model: nn.Module, given: StateDict) -> Tuple[StateDict, List[str]]:
    """Rename the weights to the model's names where the kind of model determines them; also return the changes."""
    own = model.state_dict()
    # Hooks that average weights keep the other set in buffers of the model (V2's EMA hooks).
    averages = {f'ema_{name.replace(".", "_")}' for name in given} - set(own)
    buffers = averages.intersection(given)
    changes = [f'{len(buffers)} ema_ buffers left out: the weights themselves are the averages'
               ] if buffers else []
    given = {name: value for name, value in given.items() if name not in buffers}
    # A torchvision classifier: the names of a backbone, and fc.
    if 'fc.weight' in given and 'head.fc.weight' in own and not set(own).intersection(given):
        given = {
            f'head.{name}' if name.startswith('fc.') else f'backbone.{name}': value
            for name, value in given.items()
        }
        changes.append('fc is head.fc, the rest the backbone')
    return given, changes


def _num_classes(classes: object) -> Optional[int]:
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
    """Return the config line for a file that holds only the backbone of the model; None for other files."""
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        return None
    names = [name for name in backbone.state_dict() if is_essential(name)]
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
    """Check whether the file has every weight of `model.<part>` in its shape, so that nothing else
    needs to be loaded there."""
    module = functools.reduce(lambda at, name: getattr(at, name, None), part.split('.'), model)
    if checkpoint is None or not isinstance(module, nn.Module):
        return False
    given = checkpoint.state_dict
    names = {name: value for name, value in module.state_dict().items() if is_essential(name)}
    return bool(names) and all(
        f'{part}.{name}' in given and given[f'{part}.{name}'].shape == value.shape
        for name, value in names.items())


class LoadFrom(NamedTuple):
    """`load_from` of a config: the source of the weights and how to load them."""
    checkpoint: Source
    strict: bool = True  # see `fit`
    trust: bool = False  # see `reading.read`
    heads: Optional[str] = None  # see `fit`
    aliases: Optional[Dict[str, str]] = None


def parse_load_from(load_from: Union[Source, Dict[str, Any]]) -> LoadFrom:
    """Parse `'path'`, `['path', 'https://...']` (the first available one), or
    `dict(checkpoint=<one of these>, strict=False)`."""
    if not isinstance(load_from, dict):
        load_from = dict(checkpoint=load_from)
    unknown = sorted(set(load_from) - set(LoadFrom._fields))
    if unknown or not load_from.get('checkpoint'):
        known = ', '.join(f'{name}={value!r}' for name, value in LoadFrom._field_defaults.items())
        raise CheckpointError(
            'load_from is a path, a URL, a list of them (the first available one is used), '
            f'or dict(checkpoint=..., {known}); got {dict(load_from)!r}')
    read_as = LoadFrom(**load_from)
    if read_as.heads not in (None, 'by_class'):
        raise CheckpointError(
            f"load_from.heads is 'by_class' or left out (layers as wholes), not {read_as.heads!r}")
    if read_as.aliases and read_as.heads is None:
        raise CheckpointError("load_from.aliases goes with heads='by_class'; add that")
    return read_as


class PretrainedLoader:
    """The loader that `init_weights(load=...)` of a model calls for `init_cfg=dict(type='Pretrained', ...)`.

    Args:
        run: image settings from the config of this run, to be compared with those of the weights.
        locate: called as locate(source, load), returns load(source); adds the location of the source in the config to a
            CheckpointError.
        classes: class names of this run.
    """

    def __init__(self,
                 run: InputFormat,
                 locate: Optional[Callable[[Source, Callable], Any]] = None,
                 classes: Optional[Sequence[str]] = None):
        self.run = run
        self.classes = classes
        self.locate = locate or (lambda source, load: load(source))

    def __call__(self, source: Source) -> StateDict:
        """Read a file, and warn where its weights do not match the images of this run. Raises CheckpointError."""
        return self.locate(source, lambda source: self._read(source).state_dict)

    def for_module(self, module: nn.Module, source: Source, prefix: Optional[str]) -> StateDict:
        """Return the weights of a file under the names of the module to initialize.

        prefix: use only the weights whose names start with it; by default the best fit is used.

        Raises CheckpointError for weights of another network or of another kind of dtype.
        """
        return self.locate(source, lambda source: self._for_module(module, source, prefix))

    def _read(self, source: Source) -> Checkpoint:
        checkpoint = read(source)
        require_sound(checkpoint)
        facts = find_input_format(checkpoint.meta, checkpoint.origin)
        for warning in compare_input_format(facts, self.run, checkpoint.state_dict):
            logger.warning('%s (%s): %s', checkpoint.source, checkpoint.origin.kind, warning)
        return checkpoint

    def _for_module(self, module: nn.Module, source: Source, prefix: Optional[str]) -> StateDict:
        checkpoint = self._read(source)
        own = module.state_dict()
        adapt = getattr(module, 'rename_weights', dict)  # a backbone with two naming schemes
        if prefix:
            prefix = prefix if prefix.endswith('.') else prefix + '.'
            given = adapt(_strip_prefix(prefix, checkpoint.state_dict))
            if not 2 * measure_fit(given, own).fits >= measure_fit(
                    own, own).fits:  # then try the other dicts of the file
                whole = {prefix + name: value for name, value in own.items()}
                checkpoint = _select_weights(checkpoint, whole, dict)
                given = adapt(_strip_prefix(prefix, checkpoint.state_dict))
        else:
            checkpoint = _select_weights(checkpoint, own, adapt)
            given = adapt(checkpoint.state_dict)
        changes = [change for change in checkpoint.origin.changes if change not in SILENT]
        if changes:
            logger.info('%s: %s', checkpoint.source, '; '.join(changes))
        _refuse_other_network(module, checkpoint, given, prefix)
        found = compare(checkpoint.meta.get('CLASSES'), self.classes)
        if found is not None and found.are_moved and len(found.known) == len(found.wanted):
            given, match = dict(given), match_classes(found.known, found.wanted, {})
            if _reorder_rows(given, own, find_prediction_layers(module), match):
                logger.warning(
                    '%s has these classes in another order: rows of the heads are matched by name: %s',
                    checkpoint.source, match)
        return given


# Changes that are too common to log: V2 itself saves names under `backbone.`.
SILENT = ("names without their 'backbone.'", )


def _strip_prefix(prefix: str, given: StateDict) -> StateDict:
    return {name[len(prefix):]: value for name, value in given.items() if name.startswith(prefix)}


def pretrained_loader(run: InputFormat,
                      locate: Optional[Callable[[Source, Callable], Any]] = None,
                      classes: Optional[Sequence[str]] = None) -> PretrainedLoader:
    """Build the loader for `init_weights(load=...)` of a model; see PretrainedLoader."""
    return PretrainedLoader(run, locate, classes)


def _refuse_other_network(module: nn.Module, checkpoint: Checkpoint, given: StateDict,
                          prefix: Optional[str]) -> None:
    own = {name: value for name, value in module.state_dict().items() if is_essential(name)}
    fits = {
        name: given[name]
        for name in own if name in given and given[name].shape == own[name].shape
    }
    faults = find_faults(fits, own)
    if faults:
        raise CheckpointError(f'{checkpoint.source} cannot be used: {"; ".join(faults)}')
    if 2 * len(fits) >= len(own):
        return
    kind = type(module).__name__
    shapes = [
        f'{name} {tuple(given[name].shape)} -> {tuple(own[name].shape)}' for name in own
        if name in given and name not in fits
    ]
    missing = [name for name in own if name not in given]
    under = f' under prefix={prefix!r}' if prefix else ''
    facts = [f'its names begin with {_format_names(checkpoint.state_dict)}']
    facts += [f'the {kind} has {_format_names(own)}']
    facts += [f'first other shapes: {", ".join(shapes[:2])}'] if shapes else []
    facts += [f'first missing: {", ".join(missing[:2])}'] if missing else []
    better = common_prefix(checkpoint.state_dict, own) if prefix else None
    hint = f'write prefix={better!r}, or name' if better else 'Name'
    raise CheckpointError(
        f'{checkpoint.source} holds {len(fits)} of the {len(own)} weights of this {kind}{under}: it belongs to '
        f'another network ({"; ".join(facts)}). {hint} a checkpoint of this one')


def _format_names(weights: Iterable[str], most: int = 3) -> str:
    names = list(weights)
    return ', '.join(names[:most]) + (', ...' if len(names) > most else '')


def load_checkpoint(model: nn.Module, source: str, strict: bool = True) -> Checkpoint:
    """Read a file and load it into a model with `fit`."""
    checkpoint = read(source)
    fit(model, checkpoint, strict)
    return checkpoint


def load_trained(model: nn.Module, source: Union[str, Checkpoint]) -> Checkpoint:
    """Load a model's own checkpoint, as for a test: every weight must be present in its shape.

    Raises CheckpointError that names differing or invalid weights. Also raised for classes with other names or in
    another order than the model's.
    """
    checkpoint = source if isinstance(source, Checkpoint) else read(source)
    own = getattr(model, 'module', model)
    checkpoint = select_weights(checkpoint, own)
    require_sound(checkpoint)
    if checkpoint.meta.get('CLASSES') is not None and getattr(own, 'CLASSES', None) is None:
        own.CLASSES = checkpoint.meta['CLASSES']
    found = compare(checkpoint.meta.get('CLASSES'), getattr(own, 'CLASSES', None))
    if found is not None and found.is_spelling and not found.is_same:
        warn_of_spelling(checkpoint.source, found)
    elif found is not None and not found.is_same:
        raise CheckpointError(
            f'{checkpoint.source} was trained on {listed(found.known)}, and the model is built for '
            f'{listed(found.wanted)}:\n{found.table("model")}\n  Write {line_of(found.known)}')
    report = fit(own, checkpoint, strict=False)
    if report.missing or report.mismatched or report.reinitialised:
        raise CheckpointError(
            f'{report}\n  This is not a checkpoint of the model in the config. {_describe_other_file(report, own)}'
        )
    return checkpoint


def warn_of_spelling(source: str, found: Comparison) -> None:
    """Warn about the few classes that a checkpoint spells differently at the same indices."""
    pairs = [
        f'{new} for {old}' for old, new, index in zip(found.known, found.wanted, found.indices)
        if index is None
    ]
    logger.warning('%s has other names for %d of its %d classes, taken as the same ones: %s',
                   source, len(pairs), len(found.known), _format_names(pairs, 8))


def _describe_other_file(report: Report, model: nn.Module) -> str:
    """Describe what a file that is not the model's checkpoint seems to be, and what to do."""
    share = len(report.loaded) / max(report.total, 1)
    if not report.loaded:
        return (
            f'None of its names is one of the {type(model).__name__}: name the checkpoint that a run of this config '
            'has written, or the config of the run that has written this one')
    parts = sorted({name.split('.')[0] for name in report.loaded})
    absent = sorted({name.split('.')[0] for name in report.missing} - set(parts))
    if absent and not report.mismatched:
        return (
            f'It holds {", ".join(parts)} and no {", ".join(absent)}: weights to begin a training from '
            '(load_from or init_cfg), not those of a finished one')
    if report.reinitialised and not report.mismatched and not report.missing:
        old, new = report.classes
        of = '' if old is None else f' (it has {old} classes, the config {new})'
        return f'Only its prediction layers differ{of}: write num_classes and anchors as they were in training'
    return (
        f'{share:.0%} of the model fit: write the settings of the training (depth, channels, norm_cfg), or name '
        'the config in its work_dir')
