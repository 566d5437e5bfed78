"""The folders of Cityscapes: images in leftImg8bit, and the truth in gtFine."""
import functools
import glob
import os.path as osp
from typing import Any, Dict, List, Tuple

import cv2
import numpy as np
import pycocotools.mask as mask_api

from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.images.files import image_size
from mmdet_ft.datasets.layouts.found import Content, Part, recognizes
from mmdet_ft.datasets.layouts.tree import Tree

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


def coco_of(image_infos: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Return the COCO json of the records."""
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
    return dict(images=images, categories=categories, annotations=annotations)


@recognizes('cityscapes', "folders of Cityscapes")
def find_cityscapes(tree: Tree) -> Dict[str, Part]:
    """Find leftImg8bit and gtFine with files of instance ids: splits by folders, and jsons that are there already."""
    parts = {}
    jsons = {osp.basename(path): path for path in tree.files('.json')}
    for top in dict.fromkeys(
            folder.partition('gtFine/')[0] for folder in tree.images if 'gtFine/' in f'{folder}/'):
        for split in SPLITS:
            folders = [tree.path(f'{top}{name}/{split}') for name in ('leftImg8bit', 'gtFine')]
            if not glob.glob(osp.join(glob.escape(folders[1]), '*/*_gtFine_instanceIds.png')):
                continue
            settings = dict(type='CityscapesDataset', img_prefix=osp.join(folders[0], ''))
            made = jsons.get(f'instancesonly_filtered_gtFine_{split}.json')
            if made is not None:
                parts[split] = Part({**settings, 'ann_file': tree.path(made)}, made)
            else:
                parts[split] = Part(
                    settings, f'{top}gtFine/{split}', content=functools.partial(_content, *folders))
    return parts


def _content(images: str, truth: str) -> Content:
    try:
        records = [load_image_info(files) for files in collect_files(images, truth)]
    except (FileNotFoundError, ValueError) as error:
        raise DataError(str(error)) from error
    return Content(coco_of(records), [])
