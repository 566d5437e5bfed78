"""Pictures of predictions beside the ground truth.

    python tools/sample/draw_results.py CONFIG results.pkl --out DIR [--number 12]

CONFIG names the dataset (data.test); results.pkl is the file that tools/test.py --out wrote for it.
"""
import argparse
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import cv2  # noqa: E402

from mmdet_ft import visualization  # noqa: E402
from mmdet_ft.config import import_custom_modules, load_config  # noqa: E402
from mmdet_ft.datasets.build import build_dataset  # noqa: E402
from mmdet_ft.datasets.loading.sample_images import image_files  # noqa: E402
from mmdet_ft.datasets.pictures import draw_truth  # noqa: E402
from mmdet_ft.engine.errors import UserError, command  # noqa: E402
from mmdet_ft.outputs import Inputs, PictureNames  # noqa: E402
from mmdet_ft.spelling import counted  # noqa: E402
from mmdet_ft.untrusted import load_pickle  # noqa: E402


def parse_args():
    parser = argparse.ArgumentParser(description='Draw predictions beside the truth')
    parser.add_argument('config')
    parser.add_argument('results', help='file of tools/test.py --out')
    parser.add_argument('--out', required=True, help='folder for the pictures')
    parser.add_argument('--number', type=int, default=12, help='how many images, from the first')
    parser.add_argument('--score-thr', type=float, default=0.4)
    return parser.parse_args()


def draw(dataset, index, result, score_thr):
    """Draw one image of a dataset: ground truth on the left, predictions on the right."""
    info = dataset.data_infos[index]
    path = os.path.join(dataset.img_prefix or '', info['filename'])
    image = cv2.imread(path)
    if image is None:
        raise UserError(f'cannot read {path}')
    truth = draw_truth(dataset, index, image)
    palette = visualization.palette_of(type(dataset), dataset.CLASSES)  # as of the truth
    found = visualization.draw_detections(image, result, dataset.CLASSES, score_thr, palette)
    return visualization.side_by_side(truth, found,
                                      ('truth', f'prediction (score from {score_thr})'))


@command
def main():
    args = parse_args()
    cfg = load_config(args.config)
    import_custom_modules(cfg)
    dataset = build_dataset(dict(cfg.data.test, test_mode=True))
    results = load_pickle(args.results)
    if len(results) != len(dataset):
        raise UserError(
            f'{args.results} has results of {len(results)} images and the dataset {len(dataset)}')
    inputs = Inputs([args.config, args.results])
    for file in image_files(dataset):
        inputs.add_image(file.path)
    names = PictureNames(args.out, inputs, '--out')
    for index in range(min(args.number, len(dataset))):
        name = os.path.splitext(os.path.basename(dataset.data_infos[index]['filename']))[0] + '.png'
        path = names.take(name)
        visualization.write_picture(path, draw(dataset, index, results[index], args.score_thr))
    print(f'{counted(min(args.number, len(dataset)), "picture")} in {args.out}')


if __name__ == '__main__':
    main()
