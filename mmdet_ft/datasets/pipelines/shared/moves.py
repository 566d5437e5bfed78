"""Declarations of the objects that a transform moves, and checks that none stay at their old position.

A transform that moves pixels declares `moves`, and optionally more, by class attributes:

    moves = ()                 changes pixel values only, not positions.
    moves = ('img', )          the image alone: for classifiers, refused where objects are loaded.
    moves = ('img', 'bbox')    boxes move too, masks and segmentation maps are refused.
    moves = EVERYTHING
    moves_with(arguments)      a static method instead of `moves` if it depends on the arguments.
    instead                    what to write for a refused transform (or `instead_of(arguments)`).
    loads_with(arguments)      for a loader: the kinds of objects that it loads.
    origin_stays = True        boxes are valid before and after the transform (Pad).
    is_undone = True           detections are reported in the image before the transform (Resize).
    holds_foreign = True       the inner dicts belong to another library.

A transform that holds others declares nothing: its inner transforms are checked. A user's transform
need not declare anything; Compose then checks what it does to the shape of the image.
"""
from typing import Any, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from mmdet_ft.config.errors import CheckError
from mmdet_ft.registry import PIPELINES

EVERYTHING = ('img', 'bbox', 'mask', 'seg')
WORDS = dict(bbox='boxes', mask='masks', seg='segmentation maps')
KEYS = dict(bbox='gt_bboxes', mask='gt_masks', seg='gt_semantic_seg')


def moved_by(kind: object, arguments: Mapping[str, Any]) -> Optional[Tuple[str, ...]]:
    """Return what a class or object moves with these arguments; None where it does not declare it."""
    ask = getattr(kind, 'moves_with', None)
    moves = ask(arguments) if ask is not None else getattr(kind, 'moves', None)
    is_declared = isinstance(moves, tuple) and set(moves) <= set(EVERYTHING)
    return moves if is_declared else None  # V2 has no such attribute: a user's may mean anything


def explain_refusal(kind: object, name: str, arguments: Mapping[str, Any],
                    left: Sequence[str]) -> str:
    """Return the message for a transform that would leave objects of these kinds at their old position."""
    words = [WORDS[what] for what in left]
    listed = ' and '.join([', '.join(words[:-1]), words[-1]] if len(words) > 1 else words)
    ask = getattr(kind, 'instead_of', None)
    instead = ask(arguments) if ask is not None else getattr(kind, 'instead', None)
    return (f'{name} moves the image and not its {listed}, which would stay where they were; ' +
            (instead or f'move them too, and declare it in the class: moves = {EVERYTHING}'))


def refuse_objects(transform: object, results: Mapping[str, Any]) -> None:
    """Raise CheckError for a sample with boxes, masks or maps that the transform would not move."""
    present = [
        what for what in WORDS
        if results.get(f'{what}_fields') or results.get(KEYS[what]) is not None
    ]
    left = [what for what in present if what not in moved_by(transform, vars(transform))]
    if left:
        name = type(transform).__name__
        raise CheckError(
            explain_refusal(transform, getattr(transform, 'type_name', name), vars(transform),
                            left))


class Step(NamedTuple):
    """One transform of a pipeline, from a config or as an object."""
    name: str
    kind: Any  # class, object, or None where the name is unknown
    arguments: Mapping[str, Any]
    path: str  # dotted, in the config
    owner: Any = None  # the class of the transform that holds it


def flatten(steps: object, path: str = '', owner: object = None) -> Iterator[Step]:
    """Yield the transforms of a pipeline in order, each followed by those in its arguments.

    steps: dicts with a type, objects, or lists of them; other values are skipped.
    """
    if isinstance(steps, (list, tuple)):
        for index, step in enumerate(steps):
            yield from flatten(step, f'{path}.{index}' if path else str(index), owner)
    elif isinstance(steps, Mapping):
        kind = steps.get('type')
        given = {**steps, **({steps['magnitude_key']: None} if _is_varied(steps) else {})}
        cls = PIPELINES.get(kind, given) if isinstance(kind, str) else kind
        if kind is not None:
            name = kind if isinstance(kind, str) else getattr(kind, '__name__', str(kind))
            yield Step(name, cls, given, path, owner)
        for key, value in () if getattr(cls, 'holds_foreign', False) else steps.items():
            if isinstance(value, (list, tuple, Mapping)):
                yield from flatten(value, f'{path}.{key}' if path else str(key), cls)
    elif callable(steps) and not isinstance(steps, type):
        yield Step(type(steps).__name__, steps, getattr(steps, '__dict__', {}), path, owner)


def _is_varied(step: Mapping[str, Any]) -> bool:
    """Return whether RandAugment fills in an argument."""
    return isinstance(step.get('magnitude_key'), str)


def find_unmoved_objects(
    steps: Sequence[Step], loaded: Sequence[str] = ()) -> Iterator[Tuple[str, str]]:
    """Yield (path, message) of each transform of a pipeline that would leave objects at their old position.

    loaded: kinds of objects that are there from the start, such as those of an unknown loader.
    """
    here: List[str] = list(loaded)
    early: List[Step] = []
    for step in steps:
        loads = getattr(step.kind, 'loads_with', None)
        new = loads(step.arguments) if loads is not None else ()
        for mover in early:
            if any(what != 'bbox' or not getattr(mover.kind, 'origin_stays', False)
                   for what in new):
                yield mover.path, (
                    f'{mover.name} comes before {step.name}, so that boxes and masks would stay where they '
                    f'were; put {step.name} right after LoadImageFromFile')
        early = [] if new else early
        here += [what for what in new if what not in here]
        moves = moved_by(step.kind, step.arguments)
        if not moves or 'img' not in moves:
            continue
        left = [what for what in WORDS if what in here and what not in moves]
        if left:
            around = getattr(step.owner, 'instead', None)
            message = explain_refusal(step.kind, step.name, step.arguments, left)
            yield step.path, f'{message}; {around}' if around else message
        else:
            early.append(step)


def collected_kinds(steps: Sequence[Step]) -> List[str]:
    """Return the kinds of objects that Collect asks for; they show what a user's own loader loads."""
    lists = [step.arguments.get('keys') for step in steps if step.name == 'Collect']
    keys = [key for item in lists if isinstance(item, (list, tuple)) for key in item]
    return [what for what, key in KEYS.items() if key in keys]


def check_steps(transforms: Sequence[Any]) -> None:
    """Raise CheckError for a pipeline with a transform that does not move the loaded objects."""
    found = [message for _, message in find_unmoved_objects(list(flatten(transforms)))]
    if found:
        raise CheckError('\n'.join(dict.fromkeys(found)))


def check_effect(transform: object, img: np.ndarray, boxes: np.ndarray,
                 results: Mapping[str, Any]) -> None:
    """Raise CheckError if a transform that declares nothing resizes or crops the image but leaves the boxes.

    img, boxes: the input of the transform, the boxes as a copy. Padding at the right and bottom is
    recognized by its pixels: those of the input are unchanged.
    """
    new, now = results.get('img'), results.get('gt_bboxes')
    if not isinstance(new, np.ndarray) or new.shape[:2] == img.shape[:2] or not len(boxes):
        return
    if not isinstance(now, np.ndarray) or not np.array_equal(now, boxes) or _is_padded(img, new):
        return
    name = type(transform).__name__
    raise CheckError(
        f'{name} has made an image of {img.shape[0]} x {img.shape[1]} pixels (height x width) one of {new.shape[0]} x '
        f"{new.shape[1]}, and has left gt_bboxes as they were; move the fields of results['bbox_fields'] too. If the "
        f"boxes are right, declare it in the class {name}: moves = {EVERYTHING}")


def _is_padded(img: np.ndarray, new: np.ndarray) -> bool:
    """Check whether the top left part of one image equals the other image, colors aside."""
    rows, columns = (min(sides) for sides in zip(img.shape[:2], new.shape[:2]))
    old, new = (
        np.asarray(item if item.ndim == 2 else item.mean(axis=2), dtype=np.float32)
        for item in (img, new))
    corner, whole = old[:rows, :columns], cv2.resize(new, old.shape[::-1])
    return _alike(corner, new[:rows, :columns]) >= max(_alike(old, whole), .5)


def _alike(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of two images; 1 where one of them has a single color."""
    first, second = first - first.mean(), second - second.mean()
    norm = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / norm if norm else 1.
