"""Run a trained detector or classifier over anyone's images.

    python tools/predict.py work_dirs/mask_rcnn_ft/latest.pth photos/ more/*.jpg --out predictions

draws what was found into --out and writes predictions.json there: COCO's form, with file names, class
names, boxes, scores and masks as run lengths. The checkpoint carries its config and classes; nothing else is needed.
Of a classifier each image gets its best class, and `scores` of all.
"""
import argparse
import glob
import json
import os
import sys
from typing import Dict, List

sys.path.insert(0, os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))  # the package beside this folder

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from rich.progress import track  # noqa: E402

from mmdet_ft import apis, visualization  # noqa: E402
from mmdet_ft.config.options import add_options  # noqa: E402
from mmdet_ft.engine.errors import UserError, command  # noqa: E402

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description='Run a trained detector or classifier over images')
    parser.add_argument('checkpoint', help='checkpoint of a training run (path or URL)')
    parser.add_argument(
        'images',
        nargs='+',
        help='image files, folders (searched to the bottom) and patterns such as "photos/*.jpg"')
    parser.add_argument('--out', required=True, help='folder for the pictures and predictions.json')
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='leave out what scores less (0..1, default 0.3)')
    parser.add_argument(
        '--device', default='cuda:0', help='cuda:0 (the CPU where there is none), cpu, ...')
    parser.add_argument(
        '--config', help='config, where the checkpoint does not carry the right one')
    add_options(parser)
    parser.add_argument('--json', help='file for the results instead of OUT/predictions.json')
    parser.add_argument('--no-pictures', action='store_true', help='write the results only')
    parser.add_argument('--batch-size', type=int, default=1, help='images at a time')
    args = parser.parse_args()
    if not 0 <= args.score_thr <= 1:
        parser.error(f'--score-thr is between 0 and 1, not {args.score_thr}')
    if args.batch_size < 1:
        parser.error(f'--batch-size is at least 1, not {args.batch_size}')
    return args


def find_images(arguments: List[str], out: str) -> Dict[str, str]:
    """{name below `out`: path} of all images that the arguments mean; what lies in `out` already is no input.

    Raises UserError for an argument that means no image.
    """
    out = os.path.realpath(out)
    found: Dict[str, str] = {}
    seen = set()
    for argument in arguments:
        if os.path.isdir(argument):
            paths = [
                (os.path.relpath(path, argument), path)
                for path in glob.iglob(os.path.join(glob.escape(argument), '**'), recursive=True)
                if path.lower().endswith(SUFFIXES) and not os.path.realpath(path).startswith(out +
                                                                                             os.sep)
            ]
        elif os.path.isfile(argument):
            paths = [(os.path.basename(argument), argument)]
        else:
            paths = [(os.path.basename(path), path) for path in glob.glob(argument, recursive=True)
                     if os.path.isfile(path)]
        if not paths:
            raise UserError(
                f'{argument}: no image there; give files, folders or patterns of {", ".join(SUFFIXES)}'
            )
        for name, path in sorted(paths):
            if os.path.realpath(path) in seen:
                continue
            seen.add(os.path.realpath(path))
            stem, suffix = os.path.splitext(name)
            number = 1
            while name in found:  # street.png of two folders
                number += 1
                name = f'{stem}_{number}{suffix}'
            found[name] = path
    return found


@command
def main() -> None:
    args = parse_args()
    images = find_images(args.images, args.out)
    for name, path in images.items():
        if not args.no_pictures and os.path.realpath(os.path.join(args.out,
                                                                  name)) == os.path.realpath(path):
            raise UserError(f'--out {args.out} would overwrite {path}; choose another folder')
    model = apis.init_detector(args.config, args.checkpoint, args.device, args.cfg_options)
    os.makedirs(args.out, exist_ok=True)

    document = dict(
        images=[],
        annotations=[],
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(model.CLASSES)])
    unreadable = []
    items = list(images.items())
    batches = [
        items[start:start + args.batch_size] for start in range(0, len(items), args.batch_size)
    ]
    for batch in track(batches, 'detecting', disable=not sys.stderr.isatty()):
        readable = []
        for name, path in batch:
            try:
                readable.append((name, path, apis.read_bgr(path)))
            except (OSError, ValueError) as error:
                unreadable.append(path)
                print(f'skipped: {error}', file=sys.stderr)
        results = apis.detect(model, [path for _, path, _ in readable])
        for (name, path, image), result in zip(readable, results):
            picture = note(document, path, image, result, model, args.score_thr)
            if not args.no_pictures:
                target = os.path.join(args.out, name)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                if not cv2.imwrite(target, picture):
                    raise UserError(f'cannot write {target}')

    target = args.json or os.path.join(args.out, 'predictions.json')
    os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
    with open(target, 'w', encoding='utf-8') as file:
        json.dump(document, file)
    pictures = '' if args.no_pictures else f', pictures in {args.out}'
    found = '' if any(
        'pred_class' in image
        for image in document['images']) else f'{len(document["annotations"])} detections in '
    print(f'{found}{len(document["images"])} images: {target}{pictures}')
    if unreadable:
        raise UserError(
            f'{len(unreadable)} of {len(images)} images could not be read (named above)')


def note(document: dict, path: str, image, result, model, score_thr: float):
    """Add an image and what was found in it; returns the picture of that."""
    height, width = image.shape[:2]
    image_id = len(document['images']) + 1
    record = dict(id=image_id, file_name=path, height=height, width=width)
    document['images'].append(record)
    if isinstance(result, np.ndarray):  # scores of a classifier
        best = apis.class_of(result, model.CLASSES)
        record.update(best, scores=[round(float(score), 5) for score in result])
        picture = image.copy()
        visualization.draw_label(picture, f'{best["pred_class"]} {best["pred_score"]:.2f}',
                                 (0, 0, width, height), (0, 0, 0))
        return picture
    for found in apis.detections_of(result, model.CLASSES, score_thr):
        document['annotations'].append(
            dict(
                found,
                id=len(document['annotations']) + 1,
                image_id=image_id,
                file_name=path,
                iscrowd=0))
    return visualization.draw_detections(image, result, model.CLASSES, score_thr, model.PALETTE)


if __name__ == '__main__':
    main()
