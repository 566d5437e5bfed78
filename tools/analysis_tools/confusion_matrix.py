"""What a detector takes for what: a table and a picture, from the results that tools/test.py --out has written."""
import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))  # the package beside tools/

import numpy as np  # noqa: E402

from mmdet_ft.config import load_config  # noqa: E402
from mmdet_ft.config.options import add_options  # noqa: E402
from mmdet_ft.engine.checks.config.check import prepare  # noqa: E402
from mmdet_ft.engine.errors import UserError, command  # noqa: E402
from mmdet_ft.engine.loaders import build_test_dataset  # noqa: E402
from mmdet_ft.evaluation.confusion import detection_confusion  # noqa: E402
from mmdet_ft.evaluation.text import table_text  # noqa: E402
from mmdet_ft.untrusted import load_pickle  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('prediction_path', help='results of tools/test.py CONFIG CHECKPOINT --out')
    parser.add_argument('save_dir', help='folder for confusion_matrix.png and .csv')
    parser.add_argument('--show', action='store_true', help='also show the picture in a window')
    parser.add_argument('--color-theme', default='plasma', help="matplotlib's name of the colors")
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='leave out detections that score less')
    parser.add_argument(
        '--tp-iou-thr', type=float, default=0.5, help='overlap from which on a truth is meant')
    add_options(parser)
    return parser.parse_args()


@command
def main() -> None:
    args = parse_args()
    config, _ = prepare(load_config(args.config, args.cfg_options), for_training=False)
    dataset = build_test_dataset(config, 'test')
    if not hasattr(dataset, 'get_ann_info'):
        raise UserError('a classifier has it in tools/test.py: --metrics confusion_matrix')
    results = load_pickle(args.prediction_path)
    if not isinstance(results, list) or len(results) != len(dataset):
        count = len(results) if isinstance(results, list) else type(results).__name__
        raise UserError(
            f'{args.prediction_path} has {count} results and data.test {len(dataset)} images: '
            f'write it anew with tools/test.py {args.config} CHECKPOINT --out {args.prediction_path}'
        )
    annotations = [dataset.get_ann_info(place) for place in range(len(dataset))]
    matrix = detection_confusion(results, annotations, len(dataset.CLASSES), args.score_thr,
                                 args.tp_iou_thr)
    names = [*dataset.CLASSES, 'background']
    print(
        table_text(['truth \\ prediction', *names],
                   [[name, *row] for name, row in zip(names, matrix.tolist())]))
    os.makedirs(args.save_dir, exist_ok=True)
    path = os.path.join(args.save_dir, 'confusion_matrix')
    np.savetxt(f'{path}.csv', matrix, '%d', ',', header=','.join(names), comments='')
    draw(matrix, names, f'{path}.png', args.color_theme, args.show)
    print(f'{path}.png, {path}.csv')


def draw(matrix: np.ndarray, names, path: str, color_theme: str, show: bool) -> None:
    """Shares of the rows in percent."""
    try:
        import matplotlib
    except ImportError as error:
        raise UserError(f'drawing needs matplotlib ({error}): pip install matplotlib') from None
    if not show:
        matplotlib.use('Agg')
    from matplotlib import pyplot
    shares = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = max(4., 0.5 * len(names))
    figure, axes = pyplot.subplots(figsize=(side + 1, side), dpi=150, layout='constrained')
    figure.colorbar(axes.imshow(shares, cmap=color_theme, vmin=0, vmax=100), ax=axes)
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90)
    axes.set_yticks(places, names)
    axes.set(xlabel='prediction', ylabel='truth', title='percent of each truth')
    for row in places:
        for column in places:
            axes.text(
                column,
                row,
                f'{shares[row, column]:.0f}',
                ha='center',
                va='center',
                fontsize=7,
                color='black' if shares[row, column] > 60 else 'white')
    figure.savefig(path)
    if show:
        pyplot.show()


if __name__ == '__main__':
    main()
