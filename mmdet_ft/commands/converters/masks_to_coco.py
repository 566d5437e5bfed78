"""Turn images and masks in PNG files into a COCO json."""
import os.path as osp
import shlex
from argparse import Namespace
from typing import Dict, Optional, Sequence

from mmdet_ft.command_names import how_to_run
from mmdet_ft.commands.arguments.converters.masks_to_coco import DEFAULT_CLASS
from mmdet_ft.datasets.annotations.mask_files import MOST_EXAMPLES, Masks, find_pairs, require_masks
from mmdet_ft.datasets.annotations.to_coco import refuse_existing, write_coco
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.errors import DataError


def read_classes(words: Optional[Sequence[str]]) -> Optional[Dict[int, str]]:
    """Parse NAME=VALUE words to {value: name}."""
    if words is None:
        return None
    classes: Dict[int, str] = {}
    for word in words:
        name, _, value = word.rpartition('=')
        if not name or not (value.isascii() and value.isdigit()) or int(value) == 0:
            raise DataError(
                f'--classes {word}: write NAME=VALUE with a value from 1, such as cat=1; 0 is background'
            )
        if int(value) in classes:
            raise DataError(f'--classes: {value} means both {classes[int(value)]!r} and {name!r}')
        classes[int(value)] = name
    return classes


def main(args: Namespace) -> None:
    if not args.out.endswith('.json'):
        raise DataError(f'--out {args.out}: name a file that ends in .json')
    refuse_existing(args.out, args.force)
    classes = read_classes(args.classes)
    if not args.class_name.strip():
        raise DataError("--class-name is empty; write the class of the objects, such as 'nucleus'")
    if classes is not None and args.class_name != DEFAULT_CLASS:
        raise DataError(
            '--classes names the classes, and --class-name is for masks of one: give one of them')
    pairs, strangers = find_pairs(args.root, args.masks)
    require_masks(args.root, pairs, strangers)
    files = [osp.join(args.root, name) for pair in pairs for name in (pair.image, *pair.masks)]
    refuse_existing(args.out, args.force, files)
    masks = Masks(args.root, args.class_name, classes, args.polygons)
    masks.look_ahead(pairs)
    objects = [masks.read(pair) for pair in track(pairs, 'reading', len(pairs))]
    masks.refuse_wrong_sizes()
    names = list(classes.values()) if classes is not None else [args.class_name]
    lines = [
        write_coco(args.out, objects, names, args.force, inputs=files),
        f'img_prefix = {osp.join(args.root, "")!r}'
    ]
    lines += masks.report()
    if strangers:
        shown = ', '.join(
            strangers[:MOST_EXAMPLES]) + (' ...' if len(strangers) > MOST_EXAMPLES else '')
        lines.append(f'{len(strangers)} masks without an image of their name: {shown}')
    lines.append(f'next: {how_to_run("split")} {shlex.quote(args.out)} --val 0.2 '
                 f'--img-prefix {shlex.quote(args.root)}')
    print('\n'.join(lines))
