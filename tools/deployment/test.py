"""Command to test an ONNX file: write, evaluate, format or draw its results.

    python tools/deployment/test.py config.py pets.onnx --eval bbox segm
"""
import argparse
import os
import pickle
import sys
from typing import Any, List

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # beside tools/

from mmdet_ft.config import DictAction, load_config  # noqa: E402
from mmdet_ft.config.options import add_options  # noqa: E402
from mmdet_ft.engine.begin import read_arguments  # noqa: E402
from mmdet_ft.engine.errors import UserError, command  # noqa: E402
from mmdet_ft.outputs import Inputs, PictureNames, atomic_file, require_folder  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('config', help='config file, whose data.test is run')
    parser.add_argument('model', help='file written by pytorch2onnx.py')
    parser.add_argument('--out', help='file for the results: .pkl')
    parser.add_argument(
        '--format-only', action='store_true', help='write the results as a test server wants them')
    parser.add_argument(
        '--eval', '--metrics', nargs='+', help='metrics of the dataset, as of tools/test.py')
    parser.add_argument('--show-dir', help='folder for images with drawn results')
    parser.add_argument('--show', action='store_true', help='show the results in a window')
    parser.add_argument('--show-score-thr', type=float, default=0.3, help='minimum score to draw')
    parser.add_argument(
        '--backend', choices=['onnxruntime'], default='onnxruntime', help='what runs the file')
    parser.add_argument('--batch-size', type=int, default=1, help='images at a time, of one size')
    parser.add_argument(
        '--metric-options',
        nargs='+',
        action=DictAction,
        help="KEY=VALUE for a classifier's metrics")
    add_options(parser)
    add_options(parser, '--eval-options', 'arguments of evaluate or format_results')
    args = parser.parse_args()
    if not (args.out or args.eval or args.format_only or args.show or args.show_dir):
        parser.error(
            'nothing to do with the results: give --out, --eval, --format-only, --show or --show-dir'
        )
    if args.eval and args.format_only:
        parser.error('--eval and --format-only exclude each other')
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error('--out must end in .pkl or .pickle')
    if args.batch_size < 1:
        parser.error('--batch-size is at least 1')
    return args


# Parse arguments and read the config before importing torch: --help and wrong paths respond at once.
ARGS = read_arguments(parse_args) if __name__ == '__main__' else None

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from pycocotools import mask as coco_mask  # noqa: E402

from mmdet_ft import visualization  # noqa: E402
from mmdet_ft.datasets.loading.sample_images import image_files  # noqa: E402
from mmdet_ft.deploy.export.images import images_of, test_dataset  # noqa: E402
from mmdet_ft.deploy.runtime import open_model  # noqa: E402
from mmdet_ft.engine.config_check.check import prepare  # noqa: E402
from mmdet_ft.engine.evaluate import check_evaluation_options, format_settings  # noqa: E402
from mmdet_ft.engine.hooks.evaluation import split_evaluation  # noqa: E402
from mmdet_ft.engine.reporting.data_outputs import inputs_of  # noqa: E402
from mmdet_ft.engine.reporting.progress import track  # noqa: E402
from mmdet_ft.engine.settings.read import read_test_settings  # noqa: E402


@command
def main() -> None:
    args = ARGS or parse_args()
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


def options_of(args: argparse.Namespace, cfg: Any, dataset: Any) -> Any:
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

    def __init__(self, args: argparse.Namespace, runner: Any, dataset: Any):
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


if __name__ == '__main__':
    main()
