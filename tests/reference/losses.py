"""The losses as the papers tell them: one number at a time."""
import math
from typing import List, Optional


def softmax_entropy(logits: List[float], label: int) -> float:
    return math.log(sum(math.exp(x) for x in logits)) - logits[label]


def sigmoid_entropy(logit: float, target: float, positive_weight: float = 1.) -> float:
    probability = 1 / (1 + math.exp(-logit))
    return -(
        positive_weight * target * math.log(probability) + (1 - target) * math.log(1 - probability))


def focal(logit: float, is_target: bool, gamma: float, alpha: float) -> float:
    probability = 1 / (1 + math.exp(-logit))
    if is_target:
        return -alpha * (1 - probability)**gamma * math.log(probability)
    return -(1 - alpha) * probability**gamma * math.log(1 - probability)


def smooth_l1(difference: float, beta: float) -> float:
    size = abs(difference)
    return size * size / (2 * beta) if size < beta else size - beta / 2


class Pair:
    """Two boxes, xyxy."""

    def __init__(self, a: List[float], b: List[float]):
        self.a, self.b = a, b
        self.width_a, self.height_a = a[2] - a[0], a[3] - a[1]
        self.width_b, self.height_b = b[2] - b[0], b[3] - b[1]
        width = min(a[2], b[2]) - max(a[0], b[0])
        height = min(a[3], b[3]) - max(a[1], b[1])
        overlap = width * height if width > 0 and height > 0 else 0.
        self.union = self.width_a * self.height_a + self.width_b * self.height_b - overlap
        self.iou = overlap / self.union
        self.hull_width = max(a[2], b[2]) - min(a[0], b[0])
        self.hull_height = max(a[3], b[3]) - min(a[1], b[1])
        self.dx = abs((a[0] + a[2]) / 2 - (b[0] + b[2]) / 2)
        self.dy = abs((a[1] + a[3]) / 2 - (b[1] + b[3]) / 2)


def iou_loss(a, b, mode: str = 'log', eps: float = 1e-6) -> float:
    iou = max(Pair(a, b).iou, eps)
    return dict(log=-math.log(iou), linear=1 - iou, square=1 - iou * iou)[mode]


def giou_loss(a, b) -> float:
    pair = Pair(a, b)
    hull = pair.hull_width * pair.hull_height
    return 1 - (pair.iou - (hull - pair.union) / hull)


def diou_loss(a, b) -> float:
    pair = Pair(a, b)
    return 1 - pair.iou + (pair.dx**2 + pair.dy**2) / (pair.hull_width**2 + pair.hull_height**2)


def ciou_loss(a, b) -> float:
    pair = Pair(a, b)
    angle = math.atan(pair.width_b / pair.height_b) - math.atan(pair.width_a / pair.height_a)
    shape = 4 / math.pi**2 * angle**2
    trade_off = shape / (1 - pair.iou + shape) if pair.iou > .5 else 0.
    return min(max(diou_loss(a, b) + trade_off * shape, 0.), 2.)


def bounded_iou_loss(a, b, beta: float = .2, eps: float = 1e-3) -> List[float]:
    """For x, y, w and h."""
    pair = Pair(a, b)
    bounds = [
        max((pair.width_b - 2 * pair.dx) / (pair.width_b + 2 * pair.dx + eps), 0),
        max((pair.height_b - 2 * pair.dy) / (pair.height_b + 2 * pair.dy + eps), 0),
        min(pair.width_b / (pair.width_a + eps), pair.width_a / (pair.width_b + eps)),
        min(pair.height_b / (pair.height_a + eps), pair.height_a / (pair.height_b + eps)),
    ]
    return [smooth_l1(1 - bound, beta) for bound in bounds]


def average(losses: List[float], weights: Optional[List[float]], avg_factor: Optional[float],
            reduction: str) -> float:
    """One level of lists in, one number out."""
    total = sum(loss * weight for loss, weight in zip(losses, weights or [1.] * len(losses)))
    if reduction == 'sum':
        return total
    return total / (len(losses) if avg_factor is None else avg_factor + 2**-23)


def seesaw(logits: List[float], label: int, counts: List[float], p: float, q: float,
           eps: float) -> float:
    """Seesaw cross entropy of one row, from the factors of each class (arXiv:2008.10032, eq. 5 to 8)."""
    scores = [math.exp(logit) / sum(map(math.exp, logits)) for logit in logits]
    total = 0.
    for j, logit in enumerate(logits):
        ratio = max(counts[j], 1) / max(counts[label], 1)
        mitigation = ratio**p if ratio < 1 else 1.
        above = scores[j] / max(scores[label], eps)
        compensation = above**q if above > 1 else 1.
        total += (1. if j == label else mitigation * compensation) * math.exp(logit)
    return -math.log(math.exp(logits[label]) / total)
