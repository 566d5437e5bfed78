"""Overlap, matching and suppression, box by box."""
import math
from typing import List, Optional, Sequence, Tuple

Box = Sequence[float]


def overlap(a: Box, b: Box, mode: str = 'iou') -> float:
    width = max(0., min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0., min(a[3], b[3]) - max(a[1], b[1]))
    inter = width * height
    area_a, area_b = ((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))
    return inter / max(area_a + area_b - inter if mode == 'iou' else area_a, 1e-6)


def match(boxes: List[Box],
          gts: List[Box],
          pos_iou: float,
          neg_iou: Tuple[float, float],
          min_pos_iou: float,
          low_quality: bool,
          all_best: bool,
          usable: Optional[List[bool]] = None,
          ignored: Sequence[Box] = (),
          ignore_iof: float = -1) -> List[Tuple[int, int]]:
    """(ground truth, label) of each box: 1 positive, 0 background, -1 neither."""
    usable = usable or [True] * len(boxes)
    if not gts:
        return [(0, 0 if ok else -1) for ok in usable]
    table = [[overlap(gt, box) for box in boxes] for gt in gts]
    for j, box in enumerate(boxes):
        in_ignored = ignore_iof > 0 and any(
            overlap(box, region, 'iof') > ignore_iof for region in ignored)
        if in_ignored or not usable[j]:
            for row in table:
                row[j] = -1.
    answer = []
    for j in range(len(boxes)):
        column = [row[j] for row in table]
        best = max(column)
        label = 1 if best >= pos_iou else 0 if neg_iou[0] <= best < neg_iou[1] else -1
        answer.append((column.index(best), label))
    if low_quality:
        for i, row in enumerate(table):
            best = max(row)
            if best < min_pos_iou:
                continue
            winners = [j for j, value in enumerate(row)
                       if value == best] if all_best else [row.index(best)]
            for j in winners:
                answer[j] = (i, 1)
    return [pair if ok else (pair[0], -1) for pair, ok in zip(answer, usable)]


def nms(boxes: List[Box], scores: List[float], threshold: float) -> List[int]:
    """Indices of the survivors, best first."""
    kept: List[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(overlap(boxes[k], boxes[i]) <= threshold for k in kept):
            kept.append(i)
    return kept


def soft_nms(boxes: List[Box],
             scores: List[float],
             threshold: float,
             sigma: float,
             min_score: float,
             method: str,
             offset: int = 0) -> List[Tuple[int, float]]:
    """(index, score when taken) of the boxes that are taken, in this order."""
    boxes = [(x0, y0, x1 + offset, y1 + offset) for x0, y0, x1, y1 in boxes]
    left = dict(enumerate(scores))
    taken = []
    while left:
        best = max(left, key=left.get)
        taken.append((best, left.pop(best)))
        for i in list(left):
            iou = overlap(boxes[best], boxes[i])
            if method == 'gaussian':
                left[i] *= math.exp(-iou * iou / sigma)
            elif iou >= threshold:
                left[i] *= 0. if method == 'naive' else 1 - iou
            if left[i] < min_score:
                del left[i]
    return taken
