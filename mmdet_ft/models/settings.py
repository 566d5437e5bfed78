"""Parts of a config without a class of their own, as small frozen records with V2's keys.

A constructor names the record of a dict in its annotation, which the check of a config reads.
"""
import dataclasses
import difflib
from typing import Any, Dict, Optional, Tuple, Type, TypeVar, Union

from mmdet_ft.ops.soft_nms import METHODS

T = TypeVar('T')


def read_settings(kind: Type[T], values: Union[Dict[str, Any], T], where: str) -> T:
    """Build the record `kind` from a config's dict; a record is returned as it is.

    Raises TypeError with the location and the nearest key if a key is unknown or missing.
    """
    if isinstance(values, kind):
        return values
    assert isinstance(values, dict), f'{where}: {values!r}'
    known: Tuple[dataclasses.Field,
                 ...] = dataclasses.fields(kind)  # type: ignore[arg-type] # a dataclass
    fields = {field.name: field for field in known}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f'did you mean {near[0]!r}?' if near else f'known keys: {", ".join(fields)}'
            raise TypeError(f'{where}: unknown key {key!r}; {hint}')
    for name, field in fields.items():
        if name not in values and field.default is dataclasses.MISSING:
            raise TypeError(f'{where}: {name!r} is missing; add {name}=... to {dict(values)!r}')
    return kind(**values)


@dataclasses.dataclass(frozen=True)
class NMSSettings:
    """`nms=dict(type='nms', iou_threshold=0.5)` or `nms=dict(type='soft_nms', iou_threshold=0.5,
    min_score=0.05)`, with mmcv's keys and defaults.

    `iou_thr` is the older key; `split_thr` has no effect here. `offset` is added to widths and
    heights of boxes; `score_threshold` and `max_num` are of nms alone, the last three of soft_nms.
    """
    iou_threshold: float = None  # type: ignore[assignment] # read from iou_thr, or 0.3 for soft_nms
    type: str = 'nms'
    iou_thr: Optional[float] = None
    class_agnostic: bool = False
    split_thr: int = 10000
    offset: int = 0
    score_threshold: float = 0
    max_num: int = -1
    sigma: float = .5
    min_score: float = 1e-3
    method: str = 'linear'

    def __post_init__(self):
        example = f"write nms=dict(type={self.type!r}, iou_threshold=0.5)"
        if self.type not in _OTHER_KEYS:
            raise ValueError(f"nms type {self.type!r} is not available; "
                             "write nms=dict(type='nms', iou_threshold=0.5), or type='soft_nms'")
        for key in _OTHER_KEYS[self.type]:
            if getattr(self, key) != getattr(NMSSettings, key):
                raise TypeError(f'nms: type {self.type!r} has no {key!r}; {example}')
        if self.method not in METHODS:
            raise ValueError(
                f'nms: method is {self.method!r}; write one of {", ".join(map(repr, METHODS))}')
        threshold = self.iou_thr if self.iou_threshold is None else self.iou_threshold
        if threshold is None and self.type == 'nms':
            raise TypeError(f"nms: 'iou_threshold' is missing; {example}")
        object.__setattr__(self, 'iou_threshold', .3 if threshold is None else threshold)

    def limit(self, max_per_img: int, num_boxes: int) -> int:
        """Return the maximum number of boxes of an image; limits of 0 or less mean none."""
        limits = [limit for limit in (max_per_img, self.max_num) if limit > 0]
        return min([num_boxes, *limits])


# Unsupported keys by type of nms.
_OTHER_KEYS = dict(nms=('sigma', 'min_score', 'method'), soft_nms=('score_threshold', 'max_num'))


class ReadsNMS:
    """Converts `nms` of a settings record to NMSSettings; the last of several base classes."""

    def __post_init__(self):
        if self.nms is not None:
            object.__setattr__(self, 'nms', read_settings(NMSSettings, self.nms, 'nms'))
