"""One-stage detectors as MMDetection 2 tells them: one image, box by box."""
import math
from typing import List, NamedTuple, Optional, Sequence, Tuple

from tests.reference.boxes import Box, nms, overlap


class Found(NamedTuple):
    box: Box
    score: float
    label: int


def detections(levels: Sequence[Tuple[List[List[float]], List[Box], List[float]]], score_thr: float,
               nms_pre: int, iou_threshold: float, max_per_img: int) -> List[Found]:
    """The detections of one image, best first.

    levels: of each, the scores of the classes of every prior, its decoded box, and its factor.
    """
    candidates: List[Found] = []
    for scores, boxes, factors in levels:
        pairs = [(score, prior, label) for prior, row in enumerate(scores)
                 for label, score in enumerate(row) if score > score_thr]
        pairs.sort(key=lambda pair: -pair[0])
        candidates += [
            Found(boxes[prior], score * factors[prior], label)
            for score, prior, label in pairs[:nms_pre]
        ]
    kept: List[Found] = []
    for label in {found.label for found in candidates}:
        own = [found for found in candidates if found.label == label]
        kept += [own[i] for i in nms([f.box for f in own], [f.score for f in own], iou_threshold)]
    return sorted(kept, key=lambda found: -found.score)[:max_per_img]


def harmony(sizes: List[float], bins: int) -> List[float]:
    """The weight of each gradient size in 0..1 (Gradient Harmonized Single-stage Detector, eq. 6)."""
    index = [min(int(size * bins), bins - 1) for size in sizes]
    in_use = len(set(index))
    return [len(sizes) / (index.count(p) * in_use) for p in index]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def delta(box: Box, goal: Box) -> List[float]:
    """Shift in box sizes and log of growth (R-CNN, app. C)."""
    width, height = box[2] - box[0], box[3] - box[1]
    return [((goal[0] + goal[2]) - (box[0] + box[2])) / 2 / width,
            ((goal[1] + goal[3]) - (box[1] + box[3])) / 2 / height,
            math.log((goal[2] - goal[0]) / width),
            math.log((goal[3] - goal[1]) / height)]


def distances(point: Sequence[float], box: Box) -> List[float]:
    """From a point to the left, upper, right and lower side of a box."""
    return [point[0] - box[0], point[1] - box[1], box[2] - point[0], box[3] - point[1]]


def match_point(point: Sequence[float], gts: List[Box], reach: Tuple[float, float],
                radius: Optional[float]) -> Optional[int]:
    """The smallest object that a point of a level learns (FCOS, sec. 3.2)."""
    best = None
    for i, gt in enumerate(gts):
        sides = distances(point, gt)
        center = [(gt[0] + gt[2]) / 2, (gt[1] + gt[3]) / 2]
        near = radius is None or max(abs(point[0] - center[0]), abs(point[1] - center[1])) < radius
        size = (gt[2] - gt[0]) * (gt[3] - gt[1])
        if min(sides) > 0 and near and reach[0] <= max(sides) <= reach[1]:
            if best is None or size < best[1]:
                best = (i, size)
    return None if best is None else best[0]


def centerness(point: Sequence[float], box: Box) -> float:
    left, top, right, bottom = distances(point, box)
    return math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))


def match_adaptively(anchors: List[Box],
                     counts: Sequence[int],
                     gts: List[Box],
                     topk: int,
                     usable: List[bool],
                     ignored: Sequence[Box] = (),
                     ignore_iof: float = -1) -> List[Tuple[int, int]]:
    """(ground truth, label) of each anchor: 1 positive, 0 background, -1 neither (ATSS, alg. 1)."""
    answer = [(0, 0 if ok else -1) for ok in usable]
    best = [-1.] * len(anchors)
    hidden = [
        ignore_iof > 0 and any(overlap(anchor, region, 'iof') > ignore_iof for region in ignored)
        for anchor in anchors
    ]
    if gts:
        answer = [(0, -1) if off else pair for off, pair in zip(hidden, answer)]

    def center(box: Box) -> List[float]:
        return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]

    for i, gt in enumerate(gts):
        candidates, start = [], 0
        for count in counts:
            level = [j for j in range(start, start + count) if usable[j] and not hidden[j]]
            level.sort(key=lambda j: math.dist(center(anchors[j]), center(gt)))
            candidates += level[:topk]
            start += count
        overlaps = [overlap(gt, anchors[j]) for j in candidates]
        mean = sum(overlaps) / len(overlaps)
        deviation = math.sqrt(sum((x - mean)**2 for x in overlaps) / (len(overlaps) - 1))
        for j, value in zip(candidates, overlaps):
            inside = min(distances(center(anchors[j]), gt)) > .01
            if value >= mean + deviation and inside and value > best[j]:
                best[j], answer[j] = value, (i, 1)
    return answer


def quality_focal(logit: float, quality: float, beta: float = 2.) -> float:
    """Generalized Focal Loss, eq. 4."""
    p = sigmoid(logit)
    entropy = -(quality * math.log(p) + (1 - quality) * math.log(1 - p))
    return abs(quality - p)**beta * entropy


def distribution_focal(logits: List[float], distance: float) -> float:
    """Generalized Focal Loss, eq. 6; distances end 0.1 before the last number."""
    distance = min(max(distance, 0.), len(logits) - 1 - .1)
    left = int(distance)
    log_total = math.log(sum(math.exp(x) for x in logits))
    return (distance - left) * (log_total - logits[left + 1]) + (left + 1 - distance) * (
        log_total - logits[left])


def varifocal(logit: float, quality: float, alpha: float = .75, gamma: float = 2.) -> float:
    """VarifocalNet, eq. 2."""
    p = sigmoid(logit)
    if quality > 0:
        return -quality * (quality * math.log(p) + (1 - quality) * math.log(1 - p))
    return -alpha * p**gamma * math.log(1 - p)


def match_by_alignment(scores: List[List[float]],
                       boxes: List[Box],
                       points: List[List[float]],
                       gts: List[Box],
                       labels: List[int],
                       topk: int,
                       usable: Optional[List[bool]] = None) -> List[Optional[Tuple[int, float]]]:
    """(ground truth, quality) of each positive, by score * IoU ** 6 (TOOD, sec. 3.3)."""
    value = [[row[labels[g]] * overlap(box, gt)**6 for row, box in zip(scores, boxes)]
             for g, gt in enumerate(gts)]
    answer: List[Optional[Tuple[int, float]]] = [None] * len(boxes)
    for g, gt in enumerate(gts):
        best = [j for j in range(len(boxes)) if usable is None or usable[j]]
        best.sort(key=lambda j: -value[g][j])
        for j in best[:topk]:
            other = answer[j]
            better = other is None or overlap(boxes[j], gt) > overlap(boxes[j], gts[other[0]])
            if value[g][j] > 0 and min(distances(points[j], gt)) > .01 and better:
                answer[j] = (g, value[g][j])
    for g, gt in enumerate(gts):
        own = [j for j, pair in enumerate(answer) if pair is not None and pair[0] == g]
        for j in own:
            largest = max(value[g][i] for i in own) + 1e-7
            answer[j] = (g, value[g][j] / largest * max(overlap(boxes[i], gt) for i in own))
    return answer


def two_gaussians(values: List[float], is_tied: bool) -> List[Tuple[float, float]]:
    """Log of the weighted densities of two Gaussians, fitted as scikit-learn's GaussianMixture does."""
    mixture = [(.5, min(values), 1.), (.5, max(values), 1.)]

    def densities() -> List[Tuple[float, float]]:
        rows = [[
            math.log(w) - (x - m)**2 / v / 2 - math.log(2 * math.pi * v) / 2 for w, m, v in mixture
        ] for x in values]
        return [(a, b) for a, b in rows]

    before = None
    for _ in range(100):
        rows = densities()
        totals = [max(row) + math.log(sum(math.exp(y - max(row)) for y in row)) for row in rows]
        shares = [[math.exp(row[k] - total) for row, total in zip(rows, totals)] for k in (0, 1)]
        sizes = [sum(share) + 2.2e-15 for share in shares]
        means = [sum(s * x for s, x in zip(share, values)) / n for share, n in zip(shares, sizes)]
        squares = [
            sum(s * (x - mean)**2 for s, x in zip(share, values))
            for share, mean in zip(shares, means)
        ]
        tied = sum(squares) / sum(sizes)
        mixture = [(n / sum(sizes), mean, (tied if is_tied else square / n) + 1e-6)
                   for n, mean, square in zip(sizes, means, squares)]
        likelihood = sum(totals) / len(totals)
        if before is not None and abs(likelihood - before) < 1e-3:
            break
        before = likelihood
    return densities()


def cheapest(costs: List[float], own: List[int], counts: Sequence[int], topk: int,
             is_tied: bool) -> set:
    """The anchors of an object that stay positive (Probabilistic Anchor Assignment, alg. 1)."""
    picked, start = [], 0
    for count in counts:
        level = [j for j in own if start <= j < start + count]
        picked += sorted(level, key=lambda j: costs[j])[:topk]
        start += count
    picked.sort(key=lambda j: costs[j])
    if len(picked) < 2:
        return set()
    rows = two_gaussians([costs[j] for j in picked], is_tied)
    low = [i for i, (a, b) in enumerate(rows) if a >= b]
    likelihood = {i: math.log(sum(math.exp(y) for y in rows[i])) for i in low}
    last = max(low, key=lambda i: likelihood[i], default=-1)
    return {picked[i] for i in low if i <= last}


def mean_box(own: Tuple[Box, float, int], others: Sequence[Tuple[Box, float, int]]) -> List[float]:
    """The mean of the boxes of its class around a box (Probabilistic Anchor Assignment, eq. 14)."""
    near = [(box, score * math.exp(-(1 - overlap(own[0], box))**2 / .025))
            for box, score, label in others if label == own[2] and overlap(own[0], box) > .01]
    return [sum(w * box[i] for box, w in near) / sum(w for _, w in near) for i in range(4)]


def match_fovea(cell: Tuple[int, int], size: Tuple[int, int], stride: float,
                scales: Tuple[float, float], sigma: float, gts: List[Box]) -> Optional[int]:
    """The object that a cell (column, row) of a level learns (FoveaBox, sec. 3.2): V2 paints large ones first."""

    def scale(gt: Box) -> float:
        return math.sqrt((gt[2] - gt[0]) * (gt[3] - gt[1]))

    painted = None
    fitting = [i for i, gt in enumerate(gts) if scales[0] <= scale(gt) <= scales[1]]
    for i in sorted(fitting, key=lambda i: -scale(gts[i])):
        inside = True
        for axis in range(2):
            low, high = gts[i][axis] / stride, gts[i][axis + 2] / stride
            half = (high - low) / 2
            last_cell = size[1 - axis] - 1
            first = min(max(math.ceil(low + (1 - sigma) * half - .5), 0), last_cell)
            last = min(max(math.floor(low + (1 + sigma) * half - .5), 0), last_cell)
            inside = inside and first <= cell[axis] <= last
        painted = i if inside else painted
    return painted
