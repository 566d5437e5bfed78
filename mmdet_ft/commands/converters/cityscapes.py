"""Turn Cityscapes' folders into the files that CityscapesDataset reads."""
import glob
import multiprocessing
import os.path as osp
import sys
from argparse import Namespace
from typing import Any, Dict, Iterable, List

from rich.progress import track

from mmdet_ft.datasets.annotations.cityscapes_files import (IMAGE_SUFFIX, SPLITS, Files, coco_of,
                                                            collect_files, load_image_info)
from mmdet_ft.datasets.annotations.to_coco import refuse_existing, write_json
from mmdet_ft.errors import UserError


def collect_annotations(files: List[Files], nproc: int = 1) -> List[Dict[str, Any]]:
    """Load the records of all images, with a progress bar on a terminal."""

    def shown(records: Iterable[Dict[str, Any]]) -> List[Dict[str, Any]]:
        if not sys.stderr.isatty():
            return list(records)
        return list(track(records, total=len(files), description='Loading images'))

    if nproc > 1:
        with multiprocessing.Pool(nproc) as pool:
            return shown(pool.imap(load_image_info, files, chunksize=4))
    return shown(map(load_image_info, files))


def main(args: Namespace) -> None:
    img_dir, gt_dir = (osp.join(args.cityscapes_path, name) for name in (args.img_dir, args.gt_dir))
    for folder in (img_dir, gt_dir):
        if not osp.isdir(folder):
            sys.exit(
                f'no folder {folder}: cityscapes_path is the one that holds {args.img_dir} and {args.gt_dir}, as '
                f'leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip unpack them')
    converted = 0
    for split in SPLITS:
        if not osp.isdir(osp.join(img_dir, split)):
            print(f'{split}: skipped, there is no {osp.join(img_dir, split)}')
            continue
        if not glob.glob(osp.join(gt_dir, split, '*/*_gtFine_instanceIds.png')):
            print(f'{split}: skipped, there are no instanceIds in {osp.join(gt_dir, split)}')
            continue
        try:
            files = collect_files(osp.join(img_dir, split), osp.join(gt_dir, split))
        except (FileNotFoundError, ValueError) as error:
            sys.exit(f'{split}: {error}')
        if not files:
            sys.exit(f'{split}: no images <city>/*_{IMAGE_SUFFIX} in {osp.join(img_dir, split)}')
        name = osp.join(args.out_dir or args.cityscapes_path,
                        f'instancesonly_filtered_gtFine_{split}.json')
        try:
            refuse_existing(name, args.force, (path for paths in files for path in paths))
            infos = collect_annotations(files, args.nproc)
            content = coco_of(infos)
            write_json(name, content)
        except (ValueError,
                UserError) as error:  # unreadable ground truth, or an output that cannot be written
            sys.exit(f'{split}: {error}')
        crowds = sum(annotation['iscrowd'] for annotation in content['annotations'])
        print(f'{split}: {len(content["images"])} images, {len(content["annotations"])} instances '
              f'({crowds} groups) -> {name}')
        converted += 1
    if not converted:
        sys.exit(
            f'nothing to convert: {img_dir} and {gt_dir} need a folder train, val or test with one folder a city'
        )
