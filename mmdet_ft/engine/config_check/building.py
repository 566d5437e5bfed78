"""Check that a model can be built, and trained by a step, on PyTorch's meta device: without values.

The backbone and the neck are left out of the step; the heads get maps of the sizes that these give. What fails
there is tried again with values, since not every operation of a user's code runs without.
"""
import copy
import re
import warnings
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from mmdet_ft.engine.config_check.feature_levels import IMAGE, PartOutputs, with_some_classes
from mmdet_ft.engine.config_check.mistakes import Findings, parts_of, short
from mmdet_ft.engine.config_check.schema import allowed_keys
from mmdet_ft.engine.errors import first_line, is_user_mistake
from mmdet_ft.models.detectors.base import Detector
from mmdet_ft.models.layers import unsynchronize
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, GroundTruth, Masks, Regions, SemanticMaps

Failure = Tuple[str, str]  # path of the value, message
_known: Dict[str, Optional[Failure]] = {}  # cached, as a config is checked more than once


class Attempt(NamedTuple):
    """How far a model came."""
    error: Optional[Exception]
    built: Optional[nn.Module]


def check_building(found: Findings, maps: Optional[PartOutputs]) -> None:
    """Build the model and compute the losses of one batch; note what fails.

    maps: of the last neck, or None to build only.
    """
    if any(mistake.path.startswith('model') for mistake in found.mistakes):
        return
    model = found.config.model
    shapes = [tuple(output.shape[1:]) for output in maps.outputs] if maps else []
    key = repr((model, shapes))
    if key not in _known:
        _known[key] = find_failure(model, shapes)
    if _known[key] is not None:
        found.report(*_known[key])


def find_failure(model: Dict[str, Any], shapes: Sequence[Tuple[int, ...]]) -> Optional[Failure]:
    """Return the path and message of what fails in building or training a model; None if nothing does.

    shapes: (C, H, W) of the maps that its heads get.
    """
    attempt = Attempt(None, None)
    for device in ('meta', 'cpu'):
        attempt = _try(model, shapes, device)
        if attempt.error is None or isinstance(attempt.error, NotImplementedError):
            return None  # or an operation that the device lacks
        if is_user_mistake(attempt.error):
            break
    assert attempt.error is not None
    return _describe(model, attempt.error, attempt.built)


def _try(model: Dict[str, Any], shapes: Sequence[Tuple[int, ...]], device: str) -> Attempt:
    built = None
    try:
        with torch.device(device), warnings.catch_warnings(), torch.random.fork_rng(devices=()):
            warnings.simplefilter('ignore')
            built = MODELS.build(with_some_classes(copy.deepcopy(model)))
            if shapes and isinstance(built, Detector) and len(shapes[0]) == 3:
                _step(built, shapes)
    except Exception as error:
        return Attempt(error, built)
    return Attempt(None, built)


class GivenMaps(nn.Module):
    """A backbone whose maps do not depend on the images."""

    def __init__(self, maps: List[Tensor]):
        super().__init__()
        self.maps = maps

    def forward(self, images: Tensor) -> Tuple[Tensor, ...]:
        return tuple(self.maps)


def _step(detector: Detector, shapes: Sequence[Tuple[int, ...]]) -> None:
    """Compute the losses of two images with an object each."""
    detector.backbone = GivenMaps([torch.zeros(2, *shape) for shape in shapes])
    detector.neck = None
    unsynchronize(detector)
    with torch.no_grad():
        detector.train()(_batch_of_two())


def _batch_of_two() -> Batch:
    """Return two images with an object, a proposal and a semantic map each."""
    side = IMAGE // 2
    sizes = torch.full((2, 2), float(IMAGE))
    boxes = torch.tensor([[[8., 8., side + 8., side + 8.]]]).expand(2, 1, 4)
    present = torch.ones(2, 1, dtype=torch.bool)
    masks = Masks(
        torch.ones(2 * side * side, dtype=torch.uint8), torch.tensor([[0], [side * side]]),
        torch.tensor([[[8, 8, side, side]]]).expand(2, 1, 4), (side, side))
    semantic = SemanticMaps(torch.zeros(2, IMAGE // 8, IMAGE // 8, dtype=torch.int64), (0, ))
    truth = GroundTruth(boxes, torch.zeros(2, 1, dtype=torch.int64), present, torch.zeros(2, 0, 4),
                        torch.zeros(2, 0, dtype=torch.bool), masks, semantic)
    metas: List[Dict[str, Any]] = [{}, {}]
    return Batch(
        torch.zeros(2, 3, IMAGE, IMAGE),
        sizes,
        sizes,
        torch.ones(2, 4),
        metas,
        gt=truth,
        proposals=Regions(boxes, present))


def _describe(model: Dict[str, Any], error: Exception, built: Optional[nn.Module]) -> Failure:
    """Return the path of the part that failed, and what to write."""
    parts = {path: (settings, cls) for path, settings, cls in parts_of(model)}
    place = next((path for path in _candidates(parts, error, built)), 'model')
    text = first_line(error)
    if is_user_mistake(error) or isinstance(error, AssertionError):
        return _key_in(model, parts, place, text), text
    name = getattr(parts[place][1], '__name__', place) if place in parts else place
    what = f'a training step fails in {name}' if built else f'{name} cannot be built'
    return _key_in(model, parts, place,
                   text), f'{what}: {type(error).__name__}: {text}{_fix(parts, place)}'


def _candidates(parts: Dict[str, Tuple[Dict[str, Any], Any]], error: Exception,
                built: Optional[nn.Module]) -> Iterator[str]:
    """Yield the paths of the parts that an error speaks of or comes from, the likeliest first."""
    text, callers = str(error), []
    traceback = error.__traceback__
    while traceback is not None:
        callers.insert(0, traceback.tb_frame.f_locals.get('self'))
        traceback = traceback.tb_next
    notes = [note.rpartition(' ')[2].strip("'") for note in getattr(error, '__notes__', ())]
    for path, (_, cls) in parts.items():
        if f'{getattr(cls, "__name__", "?")}.' in text:  # 'ATSSAssigner.__call__() takes'
            yield path
    for name in notes:
        yield from (path for path, (_, cls) in parts.items()
                    if getattr(cls, '__name__', None) == name)
    modules = {id(part): f'model.{path}' for path, part in built.named_modules()} if built else {}
    yield from (modules[id(part)] for part in callers if modules.get(id(part)) in parts)
    for part in callers:
        yield from (path for path, (_, cls) in parts.items() if cls is type(part))


def _key_in(model: Dict[str, Any], parts: Dict[str, Tuple[Dict[str, Any], Any]], place: str,
            text: str) -> str:
    """Return the path of the argument of a part that a message names first, or of the part."""
    of_settings = re.search(r'\b(train_cfg|test_cfg)((?:\.\w+)*)', text)
    if of_settings and of_settings.group(1) in model:
        return f'model.{of_settings.group(0)}'
    settings = parts[place][0] if place in parts else model
    named = {
        key: re.search(rf'\b{re.escape(str(key))}\b', text)
        for key in settings if key != 'type'
    }
    first = min((match.start(), key) for key, match in named.items()
                if match) if any(named.values()) else None
    return f'{place}.{first[1]}' if first else place


def _fix(parts: Dict[str, Tuple[Dict[str, Any], Any]], place: str) -> str:
    """Return '; write loss_bbox={...}' for a part for which its owner has a default."""
    owner, _, key = place.rpartition('.')
    if owner in parts and parts[owner][1] is not None:
        parameter = allowed_keys(parts[owner][1]).parameters.get(key)
        default = getattr(parameter, 'default', None)
        if isinstance(default, dict):
            return f'; its default is {key}={short(default)}'
    if key in ('assigner', 'sampler'):
        return f'; the {key} of another head: take that of a config of this detector in configs/'
    return ''
