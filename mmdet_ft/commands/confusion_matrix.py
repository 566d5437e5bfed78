"""Print and draw the confusion matrix of results that `test --out` wrote."""
import os
from argparse import Namespace
from typing import Any, Dict, List

import numpy as np

from mmdet_ft.command_names import how_to_run
from mmdet_ft.config.load import load_config
from mmdet_ft.datasets.loading.sample_images import leaf_of
from mmdet_ft.datasets.pictures import pixel_boxes, truth_masks
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.loaders import build_test_dataset
from mmdet_ft.engine.reporting.data_outputs import inputs_of
from mmdet_ft.engine.reporting.results import read_results
from mmdet_ft.engine.settings.read import read_test_settings
from mmdet_ft.errors import UserError
from mmdet_ft.evaluation.confusion import detection_confusion, rates
from mmdet_ft.evaluation.table_output import table_text
from mmdet_ft.outputs import require_folder
from mmdet_ft.visualization import split_result


def main(args: Namespace) -> None:
    config, _ = prepare(load_config(args.config, args.cfg_options), for_training=False)
    settings = read_test_settings(config)
    dataset = build_test_dataset(settings.data, 'test')
    if not hasattr(dataset, 'get_ann_info'):
        raise UserError(
            f'that of a classifier: {how_to_run("test")} CONFIG CHECKPOINT --metrics confusion_matrix'
        )
    results = read_results(args.prediction_path, dataset, args.config)
    inputs = inputs_of(settings, dataset, args.config, args.prediction_path)
    require_folder(args.save_dir, 'save_dir')
    path = os.path.join(args.save_dir, 'confusion_matrix')
    for ending in ('csv', 'png'):
        inputs.require_free(f'{path}.{ending}', 'save_dir')
    if args.nms_iou_thr is not None:
        results = [suppress_per_class(result, args.nms_iou_thr) for result in results]
    annotations = [truth_of(dataset, index) for index in range(len(dataset))]
    by_masks = all(isinstance(result, tuple)
                   for result in results) and all(annotation['masks'] is not None
                                                  for annotation in annotations)
    if not by_masks:
        annotations = [dict(annotation, masks=None) for annotation in annotations]
    matrix = detection_confusion(results, annotations, len(dataset.CLASSES), args.score_thr,
                                 args.tp_iou_thr)
    names = [*dataset.CLASSES, 'background']
    print(
        f'{"Masks" if by_masks else "Boxes"} are compared: a truth is found from IoU {args.tp_iou_thr} on, by '
        f'detections of score {args.score_thr} on. Each truth and each detection counts once.')
    print(
        table_text(['truth \\ prediction', *names],
                   [[name, *row] for name, row in zip(names, matrix.tolist())]))
    print(
        table_text(['class', 'truths', 'detections', 'precision', 'recall', 'F1'],
                   [[name, one.truths, one.detections, *(f'{rate:.3f}' for rate in one[2:])]
                    for name, one in zip([*dataset.CLASSES, 'all'], rates(matrix))],
                   last_row_apart=True))
    os.makedirs(args.save_dir, exist_ok=True)
    np.savetxt(f'{path}.csv', matrix, '%d', ',', header=','.join(names), comments='')
    draw(matrix, names, f'{path}.png', args.color_theme, args.show)
    print(f'{path}.png, {path}.csv')


def truth_of(dataset: Dataset, index: int) -> Dict[str, Any]:
    """Return boxes, labels and masks of a sample; masks are None if an object lacks one or the size is unknown."""
    dataset, index = leaf_of(dataset, index)
    truth, info = dataset.get_ann_info(index), dataset.data_infos[index]
    count = len(truth['labels'])
    masks = []
    if count and info.get('height') and info.get('width'):
        masks = truth_masks(truth, info['height'], info['width']) or []
    is_whole = len(masks) == count and all(mask is not None for mask in masks)
    boxes = pixel_boxes(dataset, index, truth)
    return dict(bboxes=boxes, labels=truth['labels'], masks=masks if is_whole else None)


def suppress_per_class(result: Any, iou_thr: float) -> Any:
    """Apply per-class NMS to a result: drop detections that overlap a higher-scoring one by more than `iou_thr`."""
    import torch
    from torchvision.ops import nms
    boxes, masks = split_result(result)
    kept = [
        nms(torch.as_tensor(rows[:, :4]), torch.as_tensor(rows[:, 4]), iou_thr).tolist()
        for rows in boxes
    ]
    boxes = [rows[indices] for rows, indices in zip(boxes, kept)]
    if masks is None:
        return boxes
    return boxes, [[of_class[index] for index in indices] for of_class, indices in zip(masks, kept)]


def draw(matrix: np.ndarray, names: List[str], path: str, color_theme: str, show: bool) -> None:
    """Draw the rows in percent; the background row, which has no number of truths, as counts."""
    try:
        import matplotlib
    except ImportError as error:
        raise UserError(f'drawing needs matplotlib ({error}): pip install matplotlib') from None
    if not show:
        matplotlib.use('Agg')
    from matplotlib import pyplot
    shares = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    shares[-1] = 0
    side = max(4., 0.5 * len(names))
    figure, axes = pyplot.subplots(figsize=(side + 1, side), dpi=150, layout='constrained')
    figure.colorbar(axes.imshow(shares, cmap=color_theme, vmin=0, vmax=100), ax=axes)
    indices = range(len(names))
    axes.set_xticks(indices, names, rotation=90)
    axes.set_yticks(indices, names)
    axes.set(
        xlabel='prediction', ylabel='truth (background: a count)', title='percent of each truth')
    for row in indices:
        for column in indices:
            axes.text(
                column,
                row,
                f'{shares[row, column]:.0f}' if row < len(names) - 1 else f'{matrix[row, column]}',
                ha='center',
                va='center',
                fontsize=7,
                color='black' if shares[row, column] > 60 else 'white')
    figure.savefig(path)
    if show:
        pyplot.show()
