"""Turn Cityscapes' folders into the files that CityscapesDataset reads."""
import glob
import multiprocessing
import os.path as osp
import sys
from argparse import Namespace
from typing import Any, Dict, Iterable, List, Tuple

import cv2
import numpy as np
import pycocotools.mask as mask_api
from rich.progress import track

from mmdet_ft.datasets.annotations.to_coco import refuse_existing, write_json
from mmdet_ft.datasets.images.files import image_size
from mmdet_ft.errors import UserError

# Cityscapes' labels with instances that count in its evaluation, and their ids
CLASSES = {
    24: 'person',
    25: 'rider',
    26: 'car',
    27: 'truck',
    28: 'bus',
    31: 'train',
    32: 'motorcycle',
    33: 'bicycle',
}
SPLITS = ('train', 'val', 'test')
IMAGE_SUFFIX = 'leftImg8bit.png'
Files = Tuple[str, str, str]


def collect_files(img_dir: str, gt_dir: str) -> List[Files]:
    """Return (image, instanceIds, labelIds) of every image of a split, sorted.

    Raises FileNotFoundError if an image has no ground truth, ValueError for pngs that are not Cityscapes'.
    """
    files = []
    for image in sorted(glob.glob(osp.join(img_dir, '*/*.png'))):
        if not image.endswith(IMAGE_SUFFIX):
            raise ValueError(f'{image} does not end with {IMAGE_SUFFIX}: not Cityscapes\' layout')
        stem = osp.join(gt_dir, osp.relpath(image, img_dir))[:-len(IMAGE_SUFFIX)]
        instances, labels = stem + 'gtFine_instanceIds.png', stem + 'gtFine_labelIds.png'
        if not osp.isfile(instances):
            raise FileNotFoundError(
                f'no truth for {image}: {instances} is missing (the package gtFine_trainvaltest '
                f'has it)')
        files.append((image, instances, labels))
    return files


def load_image_info(files: Files) -> Dict[str, Any]:
    """Return the record of an image, with its instances in `anno_info`.

    In instanceIds a pixel is label * 1000 + number. An id below 1000 is the bare label of a group of
    inseparable objects, which becomes iscrowd.
    """
    image, instances, labels = files
    ids = cv2.imread(instances, cv2.IMREAD_UNCHANGED)
    if ids is None or ids.ndim != 2:
        raise ValueError(f'{instances} is not an image of instance ids (one channel of 16 bits)')
    size = image_size(image)
    if size != ids.shape[::-1]:
        raise ValueError(
            f'{instances} has {ids.shape[1]} x {ids.shape[0]} pixels (width x height) and its image '
            f'{image} has {size[0]} x {size[1]}; take both from the same package')
    annotations = []
    for instance_id in np.unique(ids[ids >= min(CLASSES)]).tolist():
        label = instance_id // 1000 if instance_id >= 1000 else instance_id
        if label not in CLASSES:
            continue
        runs = mask_api.encode(np.asfortranarray(ids == instance_id, dtype=np.uint8))
        annotations.append(
            dict(
                iscrowd=int(instance_id < 1000),
                category_id=label,
                bbox=mask_api.toBbox(runs).tolist(),
                area=int(mask_api.area(runs)),
                segmentation=dict(size=runs['size'], counts=runs['counts'].decode())))
    city = osp.basename(osp.dirname(image))
    return dict(
        file_name=f'{city}/{osp.basename(image)}',
        height=ids.shape[0],
        width=ids.shape[1],
        anno_info=annotations,
        segm_file=f'{city}/{osp.basename(labels)}')


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


def convert_annotations(image_infos: List[Dict[str, Any]], out_json_name: str) -> Dict[str, Any]:
    """Write the COCO json of the records, and return it."""
    images, annotations = [], []
    for image_id, info in enumerate(image_infos):
        images.append({
            **{
                key: value
                for key, value in info.items() if key != 'anno_info'
            }, 'id': image_id
        })
        for annotation in info['anno_info']:
            # from 1: pycocotools treats id 0 as no match
            annotations.append({**annotation, 'image_id': image_id, 'id': len(annotations) + 1})
    categories = [dict(id=id_, name=name) for id_, name in CLASSES.items()]
    content = dict(images=images, categories=categories, annotations=annotations)
    write_json(out_json_name, content)
    return content


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
            content = convert_annotations(infos, name)
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
