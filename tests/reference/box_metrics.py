"""VOC's, KITTI's and WIDER FACE's metrics, one detection after the other."""


def iou_of(a, b, extra=0):
    width = min(a[2], b[2]) - max(a[0], b[0]) + extra
    height = min(a[3], b[3]) - max(a[1], b[1]) + extra
    if width <= 0 or height <= 0:
        return 0.
    overlap = width * height
    return overlap / (area_of(a, extra) + area_of(b, extra) - overlap)


def area_of(box, extra=0):
    return (box[2] - box[0] + extra) * (box[3] - box[1] + extra)


def voc_ap(images, iou_thr, eleven_points, extra, low=-float('inf'), high=float('inf')):
    """AP of one class, or None without truths; an image is (detections, truths, ignored truths).

    Everett et al., The PASCAL VOC Challenge, sec. 4.2, and the devkit's VOCevaldet.
    """
    num_truths = sum(low <= area_of(box, extra) < high for _, truths, _ in images for box in truths)
    if not num_truths:
        return None
    ranked = sorted(((image, detection) for image, (detections, _, _) in enumerate(images)
                     for detection in detections),
                    key=lambda item: -item[1][4])
    taken, right, wrong, curve = set(), 0, 0, []
    for image, detection in ranked:
        _, truths, ignored = images[image]
        known = [(iou_of(detection, box, extra), -index, box)
                 for index, box in enumerate([*truths, *ignored])]
        overlap, index, box = max(known, default=(0, 0, None))
        if box is not None and overlap >= iou_thr:
            counts = -index < len(truths) and low <= area_of(box, extra) < high
            if counts and (image, index) not in taken:
                taken.add((image, index))
                right += 1
            elif counts:
                wrong += 1
        elif low <= area_of(detection, extra) < high:
            wrong += 1
        curve.append((right / num_truths, right / max(right + wrong, 1e-7)))
    if eleven_points:
        points = [i * .1 for i in range(11)]
        return sum(max([p for r, p in curve if r >= point], default=0) for point in points) / 11
    recalls = sorted({recall for recall, _ in curve})
    steps = zip([0, *recalls], recalls)
    return sum((b - a) * max(p for r, p in curve if r >= b) for a, b in steps)


def kitti_ap(images, min_overlap, min_height):
    """AP at 40 points of one class by the steps of the benchmark's program, with its own choice of
    thresholds: for 41 truths or more.

    An image is (detections, truths, DontCare regions), a truth (box, whether it counts).
    """
    found, num_truths = [], sum(counts for _, truths, _ in images for _, counts in truths)
    for detections, truths, _ in images:
        free = list(detections)
        for box, counts in truths:
            near = [item for item in free if iou_of(item, box) > min_overlap]
            if near:
                best = max(near, key=lambda item: item[4])
                free.remove(best)
                if counts and int(best[3] - best[1]) >= min_height:
                    found.append(best[4])
    found.sort(reverse=True)
    thresholds, recall = [], 0
    for index, score in enumerate(found):
        left = (index + 1) / num_truths
        right = (index + 2) / num_truths if index < len(found) - 1 else left
        if right - recall < recall - left and index < len(found) - 1:
            continue
        thresholds.append(score)
        recall += 1 / 40
    precisions = []
    for threshold in thresholds:
        right, wrong = 0, 0
        for detections, truths, regions in images:
            free = [item for item in detections if item[4] >= threshold]
            for box, counts in truths:
                near = [item for item in free if iou_of(item, box) > min_overlap]
                large = [item for item in near if int(item[3] - item[1]) >= min_height]
                if large:
                    best = max(large, key=lambda item: iou_of(item, box))
                    right += counts
                elif near:
                    best = near[0]
                else:
                    continue
                free.remove(best)
            for item in free:
                inside = any(_share(item, region) > min_overlap for region in regions)
                wrong += int(item[3] - item[1]) >= min_height and not inside
        precisions.append(right / (right + wrong) if right + wrong else 0)
    precisions = (precisions + [0] * 41)[:41]
    return sum(max(precisions[point:]) for point in range(1, 41)) / 40


def _share(box, region):
    width = min(box[2], region[2]) - max(box[0], region[0])
    height = min(box[3], region[3]) - max(box[1], region[1])
    return max(width, 0) * max(height, 0) / area_of(box)


def wider_ap(images):
    """AP of one level; an image is (detections, faces, which faces count), scores between 0 and 1
    with both ends reached. After eval_tools of WIDER FACE."""
    num_faces = sum(sum(counted) for _, _, counted in images)
    curve = []
    for number in range(1000):
        threshold = 1 - (number + 1) / 1000
        num_found = num_proposals = 0
        for detections, faces, counted in images:
            found = set()
            for item in sorted(detections, key=lambda item: -item[4]):
                if item[4] < threshold or not faces:
                    continue
                overlap, index = max(
                    (iou_of(item, face, 1), -index) for index, face in enumerate(faces))
                if overlap >= .5 and not counted[-index]:
                    continue
                num_proposals += 1
                if overlap >= .5:
                    found.add(-index)
            num_found += len(found)
        curve.append((num_found / num_faces, num_found / num_proposals if num_proposals else 0))
    recalls = sorted({recall for recall, _ in curve})
    return sum((b - a) * max(p for r, p in curve if r >= b) for a, b in zip([0, *recalls], recalls))
