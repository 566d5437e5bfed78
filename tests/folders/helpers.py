"""Folders of data in every layout, with images that differ."""
import json
from pathlib import Path

import cv2
import numpy as np

from tests.datasets import formats
from tests.datasets.formats import HEIGHT, WIDTH, Thing

NAMES = ('cat', 'dog', 'hen')


def draw(number, seed=0):
    """Things of every class in each image but the last."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(number - 1):
        x, y = rng.integers(0, 20, 2).tolist()
        images.append([
            Thing(name, (x + 45 * index, y, x + 45 * index + 30, y + 60))
            for index, name in enumerate(NAMES)
        ])
    return images + [[]]


def write_coco(root, images, name='annotations.json'):
    formats.write_images(root, images)
    things = formats.coco_content([[]])
    content = dict(things, images=[], annotations=[])
    content['categories'] = [dict(id=index, name=name) for index, name in enumerate(NAMES, 1)]
    for number, (stem, found) in enumerate(zip(formats.stems(images), images), 1):
        content['images'].append(
            dict(id=number, file_name=f'{stem}.jpg', width=WIDTH, height=HEIGHT))
        for thing in found:
            x1, y1, x2, y2 = thing.box
            content['annotations'].append(
                dict(id=len(content['annotations']) + 1, image_id=number, iscrowd=0,
                     category_id=NAMES.index(thing.name) + 1, bbox=[x1, y1, x2 - x1, y2 - y1],
                     area=(x2 - x1) * (y2 - y1), segmentation=[formats.polygon(thing.box)]))  # yapf: disable
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))


def write_voc(root, images):
    formats.write_voc(root, images)


def write_voc_flat(root, images):
    formats.write_images(root, images)
    for stem, things in zip(formats.stems(images), images):
        (root / f'{stem}.xml').write_text(formats.voc_xml(stem, things))


def write_yolo(root, images):
    formats.write_yolo(root, images, names=NAMES)


def write_yolo_without_yaml(root, images):
    formats.write_yolo(root, images, names=NAMES)
    (root / 'data.yaml').unlink()
    (root / 'classes.txt').write_text('\n'.join(NAMES) + '\n')


def write_via(root, images):
    formats.write_images(root, images)
    content = {}
    for stem, things in zip(formats.stems(images), images):
        regions = [
            dict(
                shape_attributes=dict(
                    name='rect', x=thing.box[0], y=thing.box[1], width=thing.box[2] - thing.box[0],
                    height=thing.box[3] - thing.box[1]),
                region_attributes=dict(kind=thing.name)) for thing in things
        ]  # yapf: disable
        content[f'{stem}.jpg1'] = dict(
            filename=f'{stem}.jpg', size=1, regions=regions, file_attributes={})
    (root / 'via.json').write_text(json.dumps(content))


def write_wider(root, images):
    formats.write_images(root / 'WIDER_train/images/0--Parade', images)
    lines = []
    for stem, things in zip(formats.stems(images), images):
        lines += [f'0--Parade/{stem}.jpg', str(len(things))]
        for thing in things or [Thing('face', (0, 0, 0, 0))]:
            x1, y1, x2, y2 = thing.box
            lines.append(f'{x1} {y1} {x2 - x1} {y2 - y1} 0 0 0 0 0 0')
    (root / 'wider_face_split').mkdir()
    (root / 'wider_face_split/wider_face_train_bbx_gt.txt').write_text('\n'.join(lines) + '\n')


def write_cityscapes(root, images):
    for split, part in (('train', images[:-1]), ('val', images[-2:])):
        formats.write_images(root / f'leftImg8bit/{split}/bonn', part, '_leftImg8bit.png')
        truth = root / f'gtFine/{split}/bonn'
        truth.mkdir(parents=True)
        for stem, things in zip(formats.stems(part), part):
            ids = np.zeros((HEIGHT, WIDTH), np.uint16)
            for index, thing in enumerate(things):
                x1, y1, x2, y2 = thing.box
                ids[y1:y2, x1:x2] = (24 + index) * 1000 + index
            cv2.imwrite(str(truth / f'{stem}_gtFine_instanceIds.png'), ids)


def write_masks(root, images):
    formats.write_images(root / 'images', images)
    for stem, things in zip(formats.stems(images), images):
        (root / 'masks' / stem).mkdir(parents=True)
        for index, thing in enumerate(things):
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            x1, y1, x2, y2 = thing.box
            mask[y1:y2, x1:x2] = 255
            cv2.imwrite(str(root / 'masks' / stem / f'{index}.png'), mask)


def write_cvat(root, images):
    formats.write_images(root / 'images', images)
    (root / 'annotations.xml').write_text(formats.cvat_xml(images, NAMES))


def write_folders(root, images):
    for name in NAMES:
        formats.write_images(root / name, images)


LAYOUTS = {  # key of the format -> writer, whether its objects have masks; None: some
    'coco': (write_coco, True),
    'voc': (write_voc, False),
    'kitti': (formats.write_kitti, False),
    'yolo': (write_yolo, False),
    'wider_face': (write_wider, False),
    'cityscapes': (write_cityscapes, True),
    'labelme': (formats.write_labelme, True),
    'via': (write_via, True),
    'label_studio': (formats.write_label_studio, None),
    'cvat': (write_cvat, None),
    'masks': (write_masks, True),
    'folders': (write_folders, False),
}


def write(key, root, number=12):
    """Write a set of a format with images that differ; returns its folder."""
    root = Path(root)
    LAYOUTS[key][0](root, draw(number))
    recolor(root)
    return root


def recolor(root):
    """Give each image noise of its own, but not of masks and instance ids."""
    for index, path in enumerate(sorted(root.rglob('*'))):
        is_truth = any(part in ('masks', 'gtFine') for part in path.parts)
        if path.suffix.lower() in ('.jpg', '.png') and path.is_file() and not is_truth:
            picture = cv2.imread(str(path))
            picture[:] = np.random.default_rng(index).integers(0, 255, picture.shape)
            cv2.imwrite(str(path), picture)
