"""WIDER FACE's average precision of easy, medium and hard faces."""
import json
import os.path as osp
from collections import OrderedDict
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np

from mmdet_ft.evaluation.mean_ap import average_precision
from mmdet_ft.evaluation.recall import pairwise_iou
from mmdet_ft.evaluation.table_output import LoggerLike, print_log, table_text

LEVELS = ('easy', 'medium', 'hard')
NUM_THRESHOLDS = 1000


class Faces(NamedTuple):
    """The faces of an image, and which of them count at each level."""
    boxes: np.ndarray  # float64 [n, 4], x1 y1 x2 y2
    counted: Dict[str, np.ndarray]  # level -> bool [n]


def read_lists(path: str) -> Dict[str, Faces]:
    """Read the official ground truth: image name (without folder and ending) -> Faces.

    path: the folder with wider_face_val.mat and wider_easy_val.mat, wider_medium_val.mat,
    wider_hard_val.mat, which needs scipy, or a json of
    {name: {"boxes": [[x, y, w, h], ...], "easy": [indices of faces, from 0], "medium": ..., "hard": ...}}.
    """
    if osp.isdir(path):
        return _read_mat_files(path)
    with open(path, encoding='utf-8') as file:
        content = json.load(file)
    return {
        name: _faces(item['boxes'], {level: item[level]
                                     for level in LEVELS})
        for name, item in content.items()
    }


def _faces(boxes: np.ndarray, by_name: Dict[str, Any]) -> Faces:
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    counted = {
        level: np.isin(np.arange(len(boxes)), np.asarray(items, dtype=np.int64))
        for level, items in by_name.items()
    }
    return Faces(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1), counted)


def _read_mat_files(folder: str) -> Dict[str, Faces]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(
            "WIDER FACE's lists are .mat files, which scipy reads: pip install scipy") from error
    truth = loadmat(osp.join(folder, 'wider_face_val.mat'))
    lists = {level: loadmat(osp.join(folder, f'wider_{level}_val.mat')) for level in LEVELS}
    faces = {}
    for event in range(len(truth['file_list'])):
        names = truth['file_list'][event][0]
        for image in range(len(names)):
            by_name = {
                level: lists[level]['gt_list'][event][0][image][0].reshape(-1).astype(np.int64) - 1
                for level in LEVELS
            }
            boxes = truth['face_bbx_list'][event][0][image][0]
            faces[str(names[image][0][0])] = _faces(boxes, by_name)
    return faces


def evaluate_wider_face(detections: Dict[str, np.ndarray],
                        gt_lists: str,
                        logger: LoggerLike = None) -> 'OrderedDict[str, float]':
    """Run the official evaluation at IoU 0.5 (S. Yang et al., WIDER FACE, CVPR 2016; eval_tools).

    Scores are stretched to 0..1 over all images. A detection belongs to the face of largest
    overlap; if that face does not count at a level, the detection is ignored. Precision and recall
    are taken at 1000 thresholds.

    detections: image name -> [n, 5]; images without an entry have no detections.
    gt_lists: see `read_lists`.
    """
    faces = read_lists(gt_lists)
    missing = [name for name in faces if name not in detections]
    if missing:
        print_log(
            f'{len(missing)} of {len(faces)} images of {gt_lists} are not in the dataset: '
            f'their faces count as not found ({", ".join(missing[:3])})',
            logger=logger)
    scores = np.concatenate([boxes[:, 4] for boxes in detections.values()] or [np.zeros(0)])
    low, high = (scores.min(), scores.max()) if len(scores) else (0., 1.)
    stretched = {}
    for name, boxes in detections.items():
        boxes = boxes[np.argsort(-boxes[:, 4], kind='stable')].astype(np.float64)
        boxes[:, 4] = (boxes[:, 4] - low) / (high - low) if high > low else 1.
        stretched[name] = boxes
    values: 'OrderedDict[str, float]' = OrderedDict()
    rows: List[Tuple[str, int, str]] = []
    for level in LEVELS:
        num_faces = sum(int(item.counted[level].sum()) for item in faces.values())
        values[f'{level}_AP'] = _average_precision(stretched, faces, level, num_faces)
        rows.append((level, num_faces, f'{values[f"{level}_AP"]:.3f}'))
    values['mAP'] = sum(values.values()) / len(LEVELS)
    print_log('\n' + table_text(['level', 'faces', 'AP'], rows), logger=logger)
    return values


def _average_precision(detections: Dict[str, np.ndarray], faces: Dict[str, Faces], level: str,
                       num_faces: int) -> float:
    thresholds = 1 - (np.arange(NUM_THRESHOLDS) + 1) / NUM_THRESHOLDS
    num_counted = np.zeros(NUM_THRESHOLDS)
    num_found = np.zeros(NUM_THRESHOLDS)
    for name, item in faces.items():
        boxes = detections.get(name, np.zeros((0, 5)))
        if not len(boxes) or not len(item.boxes):
            # as official: detections of an image without faces are ignored
            continue
        counts, first = _match(boxes, item.boxes, item.counted[level])
        number = np.searchsorted(-boxes[:, 4], -thresholds, side='right')
        num_counted += np.concatenate([[0], np.cumsum(counts)])[number]
        num_found += np.concatenate([[0], np.cumsum(first)])[number]
    if not num_faces:
        return 0.
    precision = num_found / np.maximum(num_counted, 1)
    return average_precision(num_found / num_faces, precision)


def _match(detections: np.ndarray, faces: np.ndarray,
           counted: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return which detections [n, 5], by score, count, and which are the first on a counted face; bool [n] each."""
    iou = pairwise_iou(detections, faces, extra=1)
    truth_of, found = iou.argmax(axis=1), iou.max(axis=1) >= .5
    first = np.zeros(len(detections), dtype=bool)
    claims = np.flatnonzero(found & counted[truth_of])
    first[claims[np.unique(truth_of[claims], return_index=True)[1]]] = True
    return ~found | counted[truth_of], first
