"""Run a trained detector or classifier over images."""
import collections
import glob
import json
import os
import signal
import sys
from argparse import Namespace
from typing import Any, Counter, Dict, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np
from rich.progress import track

from mmdet_ft import visualization
from mmdet_ft.datasets.images.files import IMAGE_ENDINGS, is_image_name, read_head
from mmdet_ft.datasets.images.names import find_image
from mmdet_ft.engine.errors import first_line
from mmdet_ft.errors import UserError
from mmdet_ft.inference import run
from mmdet_ft.inference.build import init_detector
from mmdet_ft.inference.inputs import read_bgr, why_no_image
from mmdet_ft.inference.records import class_of, detections_of
from mmdet_ft.outputs import Inputs, PictureNames, atomic_file, require_folder
from mmdet_ft.spelling import counted

STOPPED = 130  # exit code after Ctrl-C or SIGTERM


class Found(NamedTuple):
    """The images that the arguments refer to."""
    images: List[Tuple[str, str]]  # (name relative to the given folder, path)
    others: Counter[
        str]  # suffix -> number of files of folders and patterns that are no images by name
    refused: List[str]  # reasons why explicitly named files are no images


def find_images(arguments: List[str], out: str) -> Found:
    """Find all images that the arguments refer to; files in `out` are not inputs.

    Raises UserError for an argument that matches no file, and if there is no image at all.
    """
    out = os.path.realpath(out)
    found = Found([], collections.Counter(), [])
    seen = set()
    for argument in arguments:
        if os.path.isfile(argument):
            reason = why_no_image(argument)
            if reason:
                found.refused.append(reason)
                continue
            paths = [(os.path.basename(argument), argument)]
        else:
            paths = list(_images_in(argument, out, found.others))
        for name, path in sorted(paths):
            if os.path.realpath(path) not in seen:
                seen.add(os.path.realpath(path))
                found.images.append((name, path))
    if not found.images:
        reasons = found.refused or [
            f'{", ".join(arguments)}: no image there{format_suffixes(found.others)}'
        ]
        raise UserError('\n'.join(reasons) +
                        f'\ngive images, folders or patterns of {", ".join(IMAGE_ENDINGS)}')
    return found


def _images_in(argument: str, out: str, others: Counter[str]) -> Iterator[Tuple[str, str]]:
    """Yield (name, path) of the images in a folder or of a pattern; count other files in `others`."""
    folder = argument if os.path.isdir(argument) else None
    pattern = os.path.join(glob.escape(folder), '**') if folder else pattern_of(argument)
    paths = [path for path in glob.iglob(pattern, recursive=True) if os.path.isfile(path)]
    if not paths and not folder:
        reason = why_no_image(argument)
        near = find_image(None, argument)
        hint = '' if near is None else f'; did you mean {os.path.join(os.path.dirname(argument), near.name)}?'
        if not reason and not glob.has_magic(argument) and near is None and not os.path.exists(
                argument):
            reason = f'{argument} does not exist'
        raise UserError(reason
                        or f'{argument}: no image there{hint}; give files, folders or patterns of '
                        f'{", ".join(IMAGE_ENDINGS)}')
    inside = {path for path in paths if os.path.realpath(path).startswith(os.path.join(out, ''))}
    if inside and len(inside) == len(paths):  # some is fine: earlier pictures in a subfolder
        raise UserError(
            f'{argument}: all results so far are in --out {out}, where pictures are written and none is '
            f'read; name another folder with --out')
    for path in paths:
        if path in inside:
            continue
        if is_image(path):
            yield os.path.relpath(path, folder) if folder else os.path.basename(path), path
        else:
            others[os.path.splitext(path)[1].lower() or 'without an ending'] += 1


def pattern_of(argument: str) -> str:
    """Escape the existing folders in a pattern, so that runs[1]/*.jpg means the folder runs[1]."""
    folder, rest = os.path.split(argument)
    while folder and not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder, name = os.path.split(folder)
        rest = os.path.join(name, rest)
    return os.path.join(glob.escape(folder), rest)


def is_image(path: str) -> bool:
    """Check whether a file is an image by its name; without a suffix, by its first bytes."""
    if os.path.splitext(path)[1]:
        return is_image_name(path)
    try:
        read_head(path)
    except (OSError, ValueError):
        return False
    return True


def format_suffixes(others: Counter[str]) -> str:
    """Format the number of skipped files by suffix, such as '(.txt 2, .mp4 1)'; '' if there are none."""
    if not others:
        return ''
    kinds = ', '.join(f'{ending} {number}' for ending, number in others.most_common(6))
    return f'; files that are no images by their names: {sum(others.values())} ({kinds})'


class Predictions:
    """The detections so far in COCO's format, and the number of failed images.

    Args:
        model: from `init_detector`.
        score_thr: detections with a lower score are left out.
        pictures: {path of the image: path of its picture}; None draws no pictures.
        labels, color_by: see `DrawingStyle`.
    """

    def __init__(self, model: Any, score_thr: float, pictures: Optional[Dict[str, str]],
                 labels: str, color_by: str):
        self.model = model
        self.score_thr = score_thr
        self.pictures = pictures
        self.labels = labels
        self.color_by = color_by
        self.skipped = 0
        self.document: Dict[str, Any] = dict(
            images=[],
            annotations=[],
            categories=[dict(id=i + 1, name=name) for i, name in enumerate(model.CLASSES)])

    def run(self, paths: List[str]) -> None:
        """Run the model on a batch of images; report images that fail, and continue with the others."""
        images = {}
        for path in paths:
            try:
                images[path] = read_bgr(path)
            except Exception as error:
                self.skip(path, error)
        try:
            results = run.detect(self.model, list(images))
        except Exception as error:
            if len(images) == 1:
                return self.skip(next(iter(images)), error)
            for path in images:  # find the failing one by running them one by one
                self.run([path])
            return
        for (path, image), result in zip(images.items(), results):
            self.note(path, image, result)
            if self.pictures is not None:
                try:
                    visualization.write_picture(self.pictures[path], self.picture_of(image, result))
                except Exception as error:
                    self.skip(path, error, 'no picture of')

    def skip(self, path: str, error: Exception, what: str = 'skipped:') -> None:
        """Count a failed image, and print the reason."""
        self.skipped += 1
        reason = first_line(error)
        print(f'{what} {reason if path in reason else f"{path}: {reason}"}', file=sys.stderr)

    def note(self, path: str, image: np.ndarray, result: Any) -> None:
        """Add an image and its detections or class."""
        height, width = image.shape[:2]
        image_id = len(self.document['images']) + 1
        record = dict(id=image_id, file_name=path, height=height, width=width)
        self.document['images'].append(record)
        if isinstance(result, np.ndarray):  # scores of a classifier
            record.update(
                class_of(result, self.model.CLASSES),
                scores=[round(float(score), 5) for score in result])
            return
        annotations = self.document['annotations']
        for found in detections_of(result, self.model.CLASSES, self.score_thr):
            annotations.append(
                dict(found, id=len(annotations) + 1, image_id=image_id, file_name=path, iscrowd=0))

    def picture_of(self, image: np.ndarray, result: Any) -> np.ndarray:
        """Draw a result on its image."""
        if isinstance(result, np.ndarray):
            picture = visualization.enlarge(image)
            best = class_of(result, self.model.CLASSES)
            if self.labels != 'none':
                visualization.draw_label(picture, f'{best["pred_class"]} {best["pred_score"]:.2f}',
                                         (0, 0, *picture.shape[1::-1]), (0, 0, 0))
            return picture
        look = visualization.DrawingStyle(self.labels, self.color_by,
                                          visualization.enlargement(image))
        return visualization.draw_detections(image, result, self.model.CLASSES, self.score_thr,
                                             self.model.PALETTE, look)

    def write(self, path: str) -> None:
        """Write the document atomically. Raises UserError if it cannot be written."""
        try:
            with atomic_file(path) as file:
                file.write(json.dumps(self.document).encode('utf-8'))
        except OSError as error:
            raise UserError(f'cannot write {path}: {error.strerror or error}') from error

    def __str__(self) -> str:
        images = self.document['images']
        found = '' if any('pred_class' in image for image in images) else (
            f'{counted(len(self.document["annotations"]), "detection")} in ')
        return f'{found}{counted(len(images), "image")}'


def main(args: Namespace) -> None:
    found = find_images(args.images, args.out)
    paths = [path for _, path in found.images]
    inputs = Inputs([args.checkpoint, args.config, *paths])
    target = args.json or os.path.join(args.out, 'predictions.json')
    inputs.require_free(target, '--json' if args.json else '--out')
    for folder, option in ((args.out, '--out'), (os.path.dirname(os.path.abspath(target)),
                                                 '--json')):
        require_folder(folder, option)
    indices = None
    if not args.no_pictures:
        names = PictureNames(args.out, inputs, '--out')
        indices = dict(
            zip(paths, names.take_all((path, name, None) for name, path in found.images)))
    for reason in found.refused:
        print(f'skipped: {reason}', file=sys.stderr)
    if found.others:
        print(f'{counted(len(paths), "image")}{format_suffixes(found.others)}', file=sys.stderr)
    model = init_detector(args.config, args.checkpoint, args.device, args.cfg_options)
    for layer in model.cfg.layers:  # the config and its bases
        inputs.add(layer.path)
    inputs.require_free(target, '--json' if args.json else '--out')
    os.makedirs(args.out, exist_ok=True)

    predictions = Predictions(model, args.score_thr, indices, args.labels, args.color_by)
    batches = [paths[i:i + args.batch_size] for i in range(0, len(paths), args.batch_size)]
    is_stopped = False
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for batch in track(batches, 'detecting', disable=not sys.stderr.isatty()):
            predictions.run(batch)
    except KeyboardInterrupt:
        is_stopped = True
    finally:  # keep finished predictions after any error
        predictions.write(target)
        signal.signal(signal.SIGTERM, before)
    pictures = '' if args.no_pictures else f', pictures in {args.out}'
    print(f'{predictions}: {target}{pictures}')
    if is_stopped:
        done = len(predictions.document['images']) + predictions.skipped
        print(f'stopped after {done} of {len(paths)} images', file=sys.stderr)
        sys.exit(STOPPED)
    skipped = predictions.skipped + len(found.refused)
    if skipped:
        raise UserError(
            f'{skipped} of {len(paths) + len(found.refused)} images could not be done (named above)'
        )
