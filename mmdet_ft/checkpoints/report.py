"""The report on each weight of a loaded checkpoint, in five lines and in json."""
import re
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

from torch import Tensor

from mmdet_ft.checkpoints.class_rows import Match
from mmdet_ft.checkpoints.formats.origin import Origin
from mmdet_ft.checkpoints.input_format import (ANSWER_TO_GREY_LEVELS, InputFormat, input_scale,
                                               read_input_format, read_literals)
from mmdet_ft.parts import UNKNOWN, Rows, rows_of

Shapes = Tuple[str, Tuple[int, ...], Tuple[int, ...]]  # name, shape in the file, shape in the model


class Report(NamedTuple):
    """The outcome for each weight; num_batches_tracked is not counted, as old files lack it."""
    source: str
    total: int
    loaded: List[str]
    reinitialised: List[Shapes]
    mismatched: List[Shapes]  # dropped though not in a prediction layer
    missing: List[str]
    unexpected: List[str]
    classes: Tuple[Optional[int], Optional[int]]  # of the file, of the model
    origin: Origin = Origin()
    by_class: Optional[Match] = None
    warnings: Tuple[str, ...] = ()
    layers: Mapping[str, Rows] = {}  # the prediction layers of the model

    def __str__(self) -> str:
        share = round(100 * len(self.loaded) / max(self.total, 1))
        kind = f' ({self.origin.kind})' if self.origin.kind != Origin().kind else ''
        lines = [f'{self.source}{kind}: loaded {len(self.loaded)} of {self.total} ({share} %)']
        if self.origin.changes:
            lines.append('on the way: ' + '; '.join(self.origin.changes))
        if self.by_class is not None:
            lines.append(f'heads by class: {self.by_class}')
        for reason, items in group_reasons(self).items():
            lines.append(f're-initialized because {reason}: ' + '; '.join(map(_shapes, items)))
        if self.mismatched:
            lines.append('dropped because the shape differs: ' +
                         '; '.join(map(_shapes, self.mismatched)))
        lines.append(f'missing in the file, left as initialized: {_shorten_list(self.missing)}; '
                     f'unexpected in the file, ignored: {_shorten_list(self.unexpected)}')
        lines += [f'note: {advice}' for advice in self.origin.advice]
        lines += [f'warning: {warning}' for warning in self.warnings]
        return '\n  '.join(lines)

    def as_json(self) -> Dict[str, Any]:
        """Return the report for programs, with every name."""
        match = self.by_class
        return dict(
            source=self.source,
            kind=self.origin.kind,
            total=self.total,
            loaded=self.loaded,
            changes=self.origin.changes,
            heads_by_class=match and dict(
                copied={
                    match.new[new]: match.old[old]
                    for new, old in match.copied
                },
                new=match.new_classes),
            reinitialised=[_record(item) for item in self.reinitialised],
            mismatched=[_record(item) for item in self.mismatched],
            missing=self.missing,
            unexpected=self.unexpected,
            num_classes=dict(file=self.classes[0], model=self.classes[1]),
            advice=self.origin.advice,
            warnings=self.warnings)


def group_reasons(report: Report) -> Dict[str, List[Shapes]]:
    """Group the reinitialized layers by why their shapes differ: inputs, anchors, or classes."""
    found: Dict[str, List[Shapes]] = {}
    for item in report.reinitialised:
        rows = rows_of(item[0], report.layers) or UNKNOWN
        found.setdefault(_reason(item, report.classes, rows), []).append(item)
    return found


def _reason(item: Shapes, classes: Tuple[Optional[int], Optional[int]], rows: Rows) -> str:
    name, old, new = item
    if len(old) != len(new):
        return 'the layers are of another kind'
    if len(old) > 1 and old[1] != new[1]:
        return f'the layer before gives {new[1]} channels, {old[1]} in the file'
    if old[2:] != new[2:]:
        return f'the kernel is {_product(new[2:])}, {_product(old[2:])} in the file'
    each = rows.each or 1
    if rows.per == 'anchor' and old[0] % each == new[0] % each == 0:
        return (f'each location has {new[0] // each} anchors, {old[0] // each} in the file '
                '(anchor_generator.scales, ratios, octave_base_scale)')
    had, has = classes
    if had is not None and has is not None and had != has and rows.follow_classes and rows != UNKNOWN:
        return f'classes changed {had} -> {has}'
    return 'the shapes of the prediction layers differ'


def _product(sizes: Sequence[int]) -> str:
    return ' x '.join(map(str, sizes))


def _record(item: Shapes) -> Dict[str, Any]:
    return dict(name=item[0], shape_in_file=item[1], shape_in_model=item[2])


def _shapes(item: Shapes) -> str:
    name, old, new = item
    return f'{name} {tuple(old)} -> {tuple(new)}'


def _shorten_list(names: Sequence[str], limit: int = 12) -> str:
    if not names:
        return 'none'
    rest = f' and {len(names) - limit} more' if len(names) > limit else ''
    return f'{len(names)}: {", ".join(names[:limit])}{rest}'


# ----------------------------------------------------------------------------------------- warnings


def find_input_format(meta: Mapping[str, Any], origin: Origin) -> InputFormat:
    """Return image settings from the file's own config, else those known for its kind."""
    own = InputFormat()
    for key in ('config', 'cfg'):  # mmengine's is the second
        if isinstance(meta.get(key), str):
            own = read_input_format(read_literals(meta[key]))
    return InputFormat(*(known if stated is None else stated
                         for stated, known in zip(own, origin.facts)))


def compare_input_format(
    file: InputFormat,
    run: InputFormat,
    weights: Mapping[str, Tensor],
    missing: Iterable[str] = (),
    unexpected: Iterable[str] = ()
) -> Tuple[str, ...]:
    """Return a sentence, with the fix, for each setting of the run that does not match the weights."""
    found = []
    if file.mean is not None and run.mean is not None and not _same_images(file, run):
        found.append(
            f'these weights were trained on {_images(file)}, the data here come as {_images(run)}; '
            f'write img_norm_cfg = dict(mean={list(file.mean)}, std={list(file.std or ())}, '
            f'to_rgb={file.to_rgb}) and use it in the pipelines')
    if file.mean is None and run.std is not None:
        found += _scale_warning(weights, run.std)
    style = run.style or 'pytorch'
    if run != InputFormat() and file.style not in (None, style):
        found.append(f'these weights are of style {file.style!r} (where a block has its stride), '
                     f"the model of {style!r}; write model.backbone.style='{file.style}'")
    old, new = _norms(unexpected), _norms(missing)
    if old and new and old != new:
        found.append(f'norm layers differ: {" and ".join(sorted(old))} in the file, '
                     f'{" and ".join(sorted(new))} in the model; see norm_cfg')
    return tuple(found)


def _same_images(a: InputFormat, b: InputFormat) -> bool:
    pairs = [(x, y) for one, other in ((a.mean, b.mean), (a.std, b.std)) if one and other
             for x, y in zip(one, other)]
    return a.to_rgb == b.to_rgb and all(
        abs(x - y) <= .01 * max(abs(x), abs(y), 1) for x, y in pairs)


def _images(facts: InputFormat) -> str:
    return (f'{"RGB" if facts.to_rgb else "BGR"} with mean {list(facts.mean)}' +
            (f' and std {list(facts.std)}' if facts.std else ''))


def _scale_warning(weights: Mapping[str, Tensor], std: Tuple[float, ...]) -> List[str]:
    scale = input_scale(weights)
    if scale is None:
        return []
    divided = max(
        std) > 8  # images are divided by their std, about 58; else the network gets gray levels
    if divided == (scale > ANSWER_TO_GREY_LEVELS):
        return []
    expects = 'gray levels (caffe style: std=[1, 1, 1])' if divided else 'images divided by their std, some 58'
    return [
        f"the first convolution answers to a unit of its input by {scale:.3g}, as it would to {expects}; "
        f'img_norm_cfg has std={list(std)}: compare it with what the weights were trained with'
    ]


def _norms(names: Iterable[str]) -> Set[str]:
    kinds = dict(bn='batch norm', gn='group norm', ln='layer norm', **{'in': 'instance norm'})
    found = (re.search(r'(?:^|\.)(bn|gn|ln|in)\d*\.', name) for name in names)
    return {kinds[match.group(1)] for match in found if match}
