"""Selection of the weights in a file that fit a model best, among its dicts and their prefixes."""
import re
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from torch import Tensor

from mmdet_ft.checkpoints.formats.layout import PARALLEL, Candidate, candidates_in
from mmdet_ft.checkpoints.formats.origin import Origin, StateDict
from mmdet_ft.checkpoints.formats.table import convert

# (preferred, other) of two networks that fit equally: the averaged one, or the one that is trained.
BEFORE = (('ema_model', 'online_model'), ('teacher', 'student'), ('encoder_q', 'encoder_k'),
          ('base_encoder', 'momentum_encoder'), ('online_net', 'target_net'),
          ('online_network', 'target_network'), ('backbone', 'target_backbone'))
LEAST_SHARE = .2  # minimum share of weights under a prefix that makes it a candidate
DEPTH = 3  # maximum number of nested prefixes

Adapt = Callable[[StateDict], StateDict]


class Fit(NamedTuple):
    """How well names and shapes fit a model; higher is better."""
    fits: int = 0  # names of the model in the shape of the model
    present: int = 0  # names of the model


class Choice(NamedTuple):
    """The weights of a file that fit a model best."""
    weights: StateDict
    origin: Origin
    fit: Fit


def is_essential(name: str) -> bool:
    """Check whether a weight counts: files older than torch 0.4.1 lack num_batches_tracked."""
    return not name.endswith('num_batches_tracked')


def measure_fit(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Fit:
    """Count the model's weights that are present by name, and those that also have its shape."""
    common = [name for name in own if name in given and is_essential(name)]
    return Fit(sum(given[name].shape == own[name].shape for name in common), len(common))


def best_fit(content: Mapping[str, Any], meta: Dict[str, Any], first: Choice,
             own: Mapping[str, Tensor], adapt: Adapt) -> Choice:
    """Return the weights of a file that fit a model best; `first` unless others fit better.

    Args:
        content: the file's content, as read.
        meta: its V2 meta, to which class names are added if this kind of file has them elsewhere.
        first: the choice made without the model.
        own: the model's state_dict.
        adapt: renames weights of the file to the model's names.
    """
    whole = sum(map(is_essential, own))
    best = first._replace(fit=measure_fit(adapt(first.weights), own))
    if best.fit.fits == whole:
        return best
    best = max([best, *_strip_prefixes(first.weights, first.origin, own, adapt)],
               key=lambda choice: choice.fit)
    for candidate in candidates_in(content):
        for weights, notes in _variants(candidate):
            try:
                converted, origin = convert(weights, dict(meta), dict(content))
            except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
                continue  # not of the kind that its names suggest
            origin = origin._replace(changes=(*notes, *origin.changes))
            found = [
                Choice(converted, origin, measure_fit(adapt(converted), own)),
                *_strip_prefixes(converted, origin, own, adapt)
            ]
            best = max([best, *found], key=lambda choice: choice.fit)
            if best.fit.fits == whole:
                return best
    return best


def _variants(candidate: Candidate) -> Iterator[Tuple[StateDict, Tuple[str, ...]]]:
    """Yield the weights unchanged, then those under each common prefix, with the prefix cut off."""
    waiting = [(candidate.weights, '', 0)]
    while waiting:
        weights, prefix, depth = waiting.pop(0)
        yield weights, (*candidate.notes, *_cut(prefix))
        parts: Dict[str, StateDict] = {}
        for name, value in weights.items():
            part, dot, rest = name.partition('.')
            if dot:
                parts.setdefault(part, {})[rest] = value
        large = [part for part in parts if len(parts[part]) >= LEAST_SHARE * len(weights)]
        if depth < DEPTH:
            waiting += [(parts[part], f'{prefix}{part}.', depth + 1) for part in _sort_pairs(large)]


def _sort_pairs(names: List[str]) -> List[str]:
    """Keep the order of the file, except for the pairs of BEFORE."""
    second = {later for first, later in BEFORE if first in names}
    return sorted(names, key=lambda name: name in second)


def _cut(prefix: str) -> Tuple[str, ...]:
    return (f'names without their {prefix!r}', ) if prefix else ()


def _strip_prefixes(given: StateDict, origin: Origin, own: Mapping[str, Tensor],
                    adapt: Adapt) -> Iterator[Choice]:
    """Yield the weights without DataParallel's `module.`, and those under the prefix that fits the model best."""
    if not any(f'.{PARALLEL}' in f'.{name}' for name in own):
        plain = {_strip_parallel(name): value for name, value in given.items()}
        if plain.keys() != given.keys():
            changes = (*origin.changes, f'{PARALLEL!r} taken out of names')
            choice = Choice(plain, origin._replace(changes=changes), measure_fit(adapt(plain), own))
            if choice.fit.present == 0:
                yield from _strip_prefixes(plain, choice.origin, own, adapt)
            yield choice
    prefix = common_prefix(given, own)
    if prefix:
        inner = {
            name[len(prefix):]: value
            for name, value in given.items() if name.startswith(prefix)
        }
        changes = (*origin.changes, *_cut(prefix))
        yield Choice(inner, origin._replace(changes=changes), measure_fit(adapt(inner), own))


def _strip_parallel(name: str) -> str:
    return re.sub(r'(^|\.)module\.', r'\1', name)


def common_prefix(given: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Optional[str]:
    """Return the prefix under which most names and shapes match the model; None without one."""
    found: Dict[str, int] = {}
    for name, value in given.items():
        start = name.find('.') + 1
        while start:
            mine = own.get(name[start:])
            if mine is not None and mine.shape == value.shape and is_essential(name):
                found[name[:start]] = found.get(name[:start], 0) + 1
            start = name.find('.', start) + 1
    prefixes = sorted(found, key=found.get, reverse=True)
    if not prefixes:
        return None
    alike = [prefix for prefix in prefixes if found[prefix] == found[prefixes[0]]]
    for first, later in BEFORE:
        for prefix in alike:
            if prefix.replace(first, later) in alike and prefix.replace(first, later) != prefix:
                return prefix
    return alike[0]
