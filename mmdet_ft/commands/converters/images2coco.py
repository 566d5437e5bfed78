"""List the images of a folder in a COCO json without annotations."""
import os
import os.path as osp
from argparse import Namespace
from typing import List, Optional, Sequence

from mmdet_ft.command_names import how_to_run
from mmdet_ft.datasets.annotations.to_coco import refuse_existing, where_images_are, write_json
from mmdet_ft.datasets.detection.custom import CustomDataset
from mmdet_ft.datasets.images.files import image_size, is_image_name
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.errors import DataError


def images_below(folder: str, excluded: Optional[Sequence[str]]) -> List[str]:
    """List the images in a folder and its subfolders, sorted. Raises DataError if there is none."""
    if not osp.isdir(folder):
        raise DataError(f'there is no folder {folder!r}')
    endings = tuple('.' + ending.lower().lstrip('.') for ending in excluded or ())
    names = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith('.') and name != '__MACOSX']
        names += [
            osp.relpath(osp.join(path, name), folder).replace(os.sep, '/') for name in files
            if is_image_name(name) and not name.startswith('.')
            and not name.lower().endswith(endings or '\0')
        ]
    if not names:
        raise DataError(f'there is no image to list in {folder!r}{where_images_are(folder)}')
    return sorted(names)


def main(args: Namespace) -> None:
    names = images_below(args.img_path, args.exclude_extensions)
    classes = list(CustomDataset.get_classes(args.classes))
    if not classes:
        raise DataError(f'{args.classes} names no class; write one a line')
    folder = osp.join(osp.dirname(osp.abspath(args.img_path)), 'annotations')
    path = osp.join(folder, args.out if args.out.endswith('.json') else f'{args.out}.json')
    refuse_existing(path, args.force,
                    [args.classes, *(osp.join(args.img_path, name) for name in names)])
    images, bad = [], []
    for name in track(names, 'reading', len(names)):
        try:
            width, height = image_size(osp.join(args.img_path, name))
        except DataError as error:
            bad.append(str(error))
            continue
        images.append(dict(id=len(images), file_name=name, width=width, height=height))
    if not images:
        raise DataError(f'not one image can be read: {bad[0]}')
    categories = [dict(id=index, name=name) for index, name in enumerate(classes)]
    write_json(path, dict(images=images, categories=categories))
    print(f'{len(images)} images, {len(classes)} classes -> {path}')
    if bad:
        print(
            f'left out, because they cannot be read: {len(bad)} files ({bad[0]}{" ..." if len(bad) > 1 else ""})'
        )
    print(
        f'in the config: data = dict(test=dict(ann_file={path!r}, img_prefix={osp.join(args.img_path, "")!r})); '
        f'then {how_to_run("test")} CONFIG CHECKPOINT --format-only')
