"""SimOTA as YOLOX tells it: one image, pair by pair."""
import math
from typing import List, Optional, Sequence, Tuple

from tests.reference.boxes import Box, overlap


def assign(points: List[Sequence[float]],
           strides: List[float],
           scores: List[List[float]],
           boxes: List[Box],
           gts: List[Box],
           labels: List[int],
           radius: float = 2.5,
           topk: int = 10) -> List[Optional[Tuple[int, float]]]:
    """(object, IoU with it) of each point, or None."""
    inside = [[min(x - gt[0], y - gt[1], gt[2] - x, gt[3] - y) > 0 for gt in gts]
              for x, y in points]
    central = [[
        max(abs(x - (gt[0] + gt[2]) / 2), abs(y - (gt[1] + gt[3]) / 2)) < radius * stride
        for gt in gts
    ] for (x, y), stride in zip(points, strides)]
    usable = [j for j in range(len(points)) if any(inside[j]) or any(central[j])]
    claims = {j: [] for j in usable}
    cost = {
        (j, i):
        pair_cost(scores[j], labels[i], overlap(boxes[j], gt)) +
        (0 if inside[j][i] and central[j][i] else 1e5)
        for j in usable
        for i, gt in enumerate(gts)
    }
    for i, gt in enumerate(gts):
        best = sorted((overlap(boxes[j], gt) for j in usable), reverse=True)[:topk]
        cheapest = sorted(usable, key=lambda j: cost[j, i])[:max(int(sum(best)), 1)]
        for j in cheapest:
            claims[j].append(i)
    answer: List[Optional[Tuple[int, float]]] = [None] * len(points)
    for j, claimed in claims.items():
        if claimed:
            gt = claimed[0] if len(claimed) == 1 else min(range(len(gts)), key=lambda i: cost[j, i])
            answer[j] = (gt, overlap(boxes[j], gts[gt]))
    return answer


def pair_cost(scores: List[float], label: int, iou: float) -> float:
    """Cross entropy of the roots of the scores, and three times -log IoU."""
    entropy = sum(-math.log(math.sqrt(score)) if i == label else -math.log(1 - math.sqrt(score))
                  for i, score in enumerate(scores))
    return entropy - 3 * math.log(iou + 1e-7)
