"""A synthetic picture that checks users' own transforms, which need not declare what they move."""
import contextlib
import copy
import random
from typing import Any, Callable, Dict, Iterable, Iterator, List, Sequence, Set

import numpy as np
import torch

from mmdet_ft.config.errors import CheckError
from mmdet_ft.datasets.annotations.masks import BitmapMasks
from mmdet_ft.datasets.pipelines.shared.compose import name_of
from mmdet_ft.datasets.pipelines.shared.moves import EVERYTHING, KEYS, moved_by
from mmdet_ft.datasets.protocol import Dataset

NUM_TRIES = 16  # tries of one transform: it may change an image only sometimes
SIZE = 96, 128  # of the picture, height and width
BOX = 12, 10, 24, 20  # 1 % of it, near a corner: a small rotation moves it by more than half its size
PAINT = 250


def check_own_transforms(dataset: Dataset) -> List[str]:
    """Check a dataset's transforms after the annotations that declare nothing, and return their names.

    Raises CheckError for a transform that moves a painted rectangle but not its box, or its mask or
    map where the dataset loads them. A transform that cannot run on such a picture is skipped.
    Random states are restored afterwards.
    """
    looked: List[str] = []
    for pipeline in _pipelines_of(dataset):
        loaded: Set[str] = set()
        for transform in _flat(pipeline):
            loads = getattr(transform, 'loads_with', None)
            loaded.update(loads(vars(transform)) if loads is not None else ())
            if 'bbox' in loaded and moved_by(transform, getattr(transform, '__dict__', {})) is None:
                if _try(transform, [what for what in KEYS if what in loaded]):
                    looked.append(name_of(transform))
    return looked


def _pipelines_of(dataset: Dataset) -> Iterator[List[Any]]:
    """Yield the transforms of a dataset's samples in order; those of a wrapper follow those of its inner dataset."""
    for part in getattr(dataset, 'datasets', None) or ():
        yield from _pipelines_of(part)
    inner = getattr(dataset, 'dataset', None)
    before = list(_pipelines_of(inner)) if inner is not None else [[]]
    own = getattr(dataset, 'pipeline', None)
    own = getattr(own, 'transforms', own)
    yield from ([*steps, *(own if isinstance(own, (list, tuple)) else ())] for steps in before)


def _flat(transforms: Iterable[Any]) -> Iterator[Any]:
    """Yield transforms, replacing this package's own containers with the transforms inside them."""
    for transform in transforms:
        inside = getattr(transform, 'transforms', None) or getattr(transform, 'sub_policy', None)
        if type(transform).__module__.startswith('mmdet_ft.') and isinstance(inside, (list, tuple)) \
                and not getattr(transform, 'holds_foreign', False):
            yield from _flat(inside)
        else:
            yield transform


def _picture(loaded: Sequence[str]) -> Dict[str, Any]:
    """Build a sample as the loader makes it. Masks are always there, a map only where one is loaded."""
    x1, y1, x2, y2 = BOX
    img = np.zeros((*SIZE, 3), dtype=np.uint8)
    img[y1:y2, x1:x2] = PAINT
    maps = dict(gt_semantic_seg=(img[..., 0] > 0).astype(np.uint8)) if 'seg' in loaded else {}
    return dict(
        img=img, img_fields=['img'], img_shape=img.shape, ori_shape=img.shape, pad_shape=img.shape, scale_factor=1.,
        filename='painted.png', ori_filename='painted.png', flip=False, flip_direction=None,
        img_info=dict(filename='painted.png', height=SIZE[0], width=SIZE[1]),
        gt_bboxes=np.array([BOX], dtype=np.float32), gt_labels=np.zeros(1, dtype=np.int64),
        gt_bboxes_ignore=np.zeros((0, 4), dtype=np.float32), bbox_fields=['gt_bboxes_ignore', 'gt_bboxes'],
        gt_masks=BitmapMasks((img[None, ..., 0] > 0).astype(np.uint8), *SIZE), mask_fields=['gt_masks'],
        seg_fields=list(maps), **maps)  # yapf: disable


def _try(transform: Callable[..., Any], loaded: Sequence[str]) -> bool:
    """Check whether a transform runs on the picture; raise CheckError if the paint leaves its box, mask or map."""
    with _kept_random_states():
        for seed in range(NUM_TRIES):
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            try:
                results = copy.deepcopy(transform)(_picture(loaded))
                if results is None:
                    continue
                img, boxes = np.asarray(results['img']), np.asarray(results['gt_bboxes'])
            except Exception:  # it needs something that the picture does not have
                return False
            if img.shape == (*SIZE, 3) and boxes.shape == (1, 4) and _paint_has_moved(img):
                before = _picture(loaded)
                left = [what for what in loaded if _stays(results, before, KEYS[what])]
                if left:
                    keys = ' and '.join(KEYS[what] for what in left)
                    fields = ' and '.join(f"results['{what}_fields']" for what in left)
                    name = name_of(transform)
                    raise CheckError(
                        f'{name} moves what is on the image and leaves {keys} as they were (seen on a painted '
                        f'picture); move the fields of {fields} too. If they are right, declare it in the class '
                        f'{name}: moves = {EVERYTHING}')
    return True


def _stays(results: Dict[str, Any], before: Dict[str, Any], key: str) -> bool:
    """Check whether boxes, masks or a map are still those of the picture."""
    now, old = (getattr(item.get(key), 'masks', item.get(key)) for item in (results, before))
    return isinstance(now, np.ndarray) and np.array_equal(now, old)


def _paint_has_moved(img: np.ndarray) -> bool:
    """Check whether most of the paint has left the box, and as much has appeared elsewhere."""
    paint = img.max(axis=2) > PAINT / 2
    x1, y1, x2, y2 = BOX
    area = (x2 - x1) * (y2 - y1)
    inside = int(paint[y1:y2, x1:x2].sum())
    # the whole picture is paint where colors are inverted
    return inside < area / 2 and area / 3 < paint.sum() - inside < 3 * area


@contextlib.contextmanager
def _kept_random_states() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
