"""Test an ONNX file: write, evaluate, format or draw its results."""
import os
import pickle
from argparse import Namespace
from typing import Any, List

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from mmdet_ft import visualization
from mmdet_ft.config.load import load_config
from mmdet_ft.datasets.loading.sample_images import image_files
from mmdet_ft.deploy.export.images import images_of, test_dataset
from mmdet_ft.deploy.runtime import open_model
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.evaluate import check_evaluation_options, format_settings
from mmdet_ft.engine.hooks.evaluation import split_evaluation
from mmdet_ft.engine.reporting.data_outputs import inputs_of
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.engine.settings.read import read_test_settings
from mmdet_ft.errors import UserError
from mmdet_ft.outputs import Inputs, PictureNames, atomic_file, require_folder


def main(args: Namespace) -> None:
    cfg, _ = prepare(load_config(args.config, args.cfg_options), for_training=False)
    if args.show and not visualization.has_display():
        raise UserError('--show: there is no display here; --show-dir FOLDER writes the pictures')
    dataset = test_dataset(cfg)
    runner = open_model(args.model)
    require_same_classes(args.model, runner.CLASSES, tuple(dataset.CLASSES or ()))
    if args.out:
        settings = read_test_settings(cfg)
        inputs_of(settings, dataset, args.config, args.model).require_free(args.out, '--out')
        require_folder(os.path.dirname(os.path.abspath(args.out)), '--out')
    options = options_of(args, cfg, dataset)
    painter = Painter(args, runner, dataset) if args.show or args.show_dir else None
    results = run(runner, images_of(dataset), args.batch_size, painter)
    if args.out:
        with atomic_file(args.out) as file:
            pickle.dump(results, file)
    if args.format_only:
        dataset.format_results(results, **options)
    if args.eval:
        print(dict(dataset.evaluate(results, **options)))


def require_same_classes(path: str, known: Any, wanted: Any) -> None:
    """Raise UserError if a file has other classes than the data."""
    if known != wanted:
        raise UserError(
            f'{path} has the classes {", ".join(known[:8])}, and data.test {", ".join(wanted[:8])}: '
            'they have to be the same, in one order')


def options_of(args: Namespace, cfg: Any, dataset: Any) -> Any:
    """Return the arguments of `evaluate` or `format_results`. Raises UserError for unknown ones."""
    if args.format_only:
        return format_settings(dataset, args.eval_options or {}, os.path.dirname(args.model) or '.')
    options = split_evaluation(read_test_settings(cfg).hooks.evaluation)[1]
    options.update(args.eval_options or {})
    if args.metric_options:
        options['metric_options'] = args.metric_options
    if args.eval:
        options['metric'] = args.eval
        check_evaluation_options(dataset, options)
    return options


def run(runner: Any, images: List[Any], batch_size: int, painter: Any) -> List[Any]:
    """Return the results of all images, with masks as run lengths, which metrics take."""
    results: List[Any] = []
    for start in track(range(0, len(images), batch_size), 'batches', -(-len(images) // batch_size)):
        for result in runner(images[start:start + batch_size], batch_size):
            result = with_run_lengths(result)
            if painter is not None:
                painter.paint(len(results), images[len(results)], result)
            results.append(result)
    return results


def with_run_lengths(result: Any) -> Any:
    """Return a result with masks as run lengths: a thousandth of the memory."""
    if not isinstance(result, tuple):
        return result
    boxes, masks = result
    return boxes, [[coco_mask.encode(np.asfortranarray(mask, np.uint8)) for mask in of_class]
                   for of_class in masks]


class Painter:
    """Paints the detections of each image, into a folder or a window."""

    def __init__(self, args: Namespace, runner: Any, dataset: Any):
        if runner.task != 'detector':
            raise UserError('--show and --show-dir are for detectors')
        self.classes, self.palette, self.score_thr = runner.CLASSES, dataset.PALETTE, args.show_score_thr
        self.is_shown = args.show
        self.paths = None
        if args.show_dir:
            inputs = Inputs([args.config, args.model])
            self.paths = PictureNames(args.show_dir, inputs,
                                      '--show-dir').take_all(image_files(dataset))

    def paint(self, place: int, image: str, result: Any) -> None:
        """Paint the result of an image, by its index."""
        picture = visualization.draw_detections(
            cv2.imread(image), result, self.classes, self.score_thr, self.palette)
        if self.paths is not None:
            visualization.write_picture(self.paths[place], picture)
        if self.is_shown:
            cv2.imshow('results', picture)
            cv2.waitKey(0)
