"""One small set of drawn objects, written in the form of every kind of annotation file."""
import json
from pathlib import Path
from typing import List, NamedTuple, Tuple

import cv2
import numpy as np
import pycocotools.mask as mask_api

NAMES = ('Cyclist', 'Car', 'Pedestrian', 'Tram')  # Tram is in no `classes`
WIDTH, HEIGHT = 160, 120


class Thing(NamedTuple):
    name: str
    box: Tuple[int, int, int, int]  # x1 y1 x2 y2 in pixels from 0
    ignored: bool = False  # difficult, DontCare, crowd, invalid


def draw_things(num_images: int = 5, seed: int = 0) -> List[List[Thing]]:
    """Objects of every class apart from each other in each image; the last image has none."""
    draw = np.random.default_rng(seed)
    images = []
    for _ in range(num_images - 1):
        things = []
        for index in range(8):  # four columns, two rows
            left, top = 40 * (index % 4), 60 * (index // 4)
            x, y = int(left + draw.integers(1, 5)), int(top + draw.integers(1, 5))
            width, height = int(draw.integers(24, 32)), int(draw.integers(42, 50))
            things.append(Thing(NAMES[int(draw.integers(4))], (x, y, x + width, y + height)))
        things[0] = things[0]._replace(name='Car', ignored=True)
        things[1] = things[1]._replace(name='Cyclist')
        things[2] = things[2]._replace(name='Pedestrian')
        things[3] = things[3]._replace(name='Car')
        images.append(things)
    return images + [[]]


def stems(images) -> List[str]:
    return [f'image_{index}' for index in range(len(images))]


def write_images(folder: Path, images, ending: str = '.jpg') -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems(images):
        cv2.imwrite(str(folder / (stem + ending)), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))


def write_list(path: Path, images) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(stems(images)) + '\n')
    return str(path)


def voc_xml(stem: str, things, folder: str = 'VOC') -> str:
    objects = ''.join(
        f'<object><name>{thing.name}</name><difficult>{int(thing.ignored)}</difficult><bndbox>' +
        ''.join(f'<{side}>{value + 1}</{side}>'
                for side, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), thing.box)) +
        '</bndbox></object>' for thing in things)
    return (
        f'<annotation><folder>{folder}</folder><filename>{stem}.jpg</filename><size><width>{WIDTH}</width>'
        f'<height>{HEIGHT}</height><depth>3</depth></size>{objects}</annotation>')


def write_voc(root: Path, images, img_subdir: str = 'JPEGImages') -> dict:
    """Arguments of XMLDataset and VOCDataset."""
    write_images(root / img_subdir, images)
    (root / 'Annotations').mkdir(parents=True)
    for stem, things in zip(stems(images), images):
        (root / 'Annotations' / f'{stem}.xml').write_text(voc_xml(stem, things, img_subdir))
    return dict(
        ann_file=write_list(root / 'ImageSets' / 'Main' / 'train.txt', images),
        img_prefix=f'{root}/')


def kitti_line(thing: Thing) -> str:
    name = 'DontCare' if thing.ignored else thing.name
    known = '-1 -1' if thing.ignored else '0.00 0'
    box = ' '.join(f'{value:.2f}' for value in thing.box)
    return f'{name} {known} -10 {box} -1 -1 -1 -1000 -1000 -1000 -10\n'


def write_kitti(root: Path, images) -> dict:
    write_images(root / 'image_2', images, '.png')
    (root / 'label_2').mkdir()
    for stem, things in zip(stems(images), images):
        (root / 'label_2' / f'{stem}.txt').write_text(''.join(map(kitti_line, things)))
    return dict(ann_file=write_list(root / 'train.txt', images), img_prefix=str(root))


def polygon(box) -> List[float]:
    x1, y1, x2, y2 = box
    return [x1, y1, x2, y1, x2, y2, x1, y2]


def coco_content(images, names=NAMES, ids=(7, 3, 90, 12)) -> dict:
    """Category ids with gaps, in no order, the file's categories as `names` are ordered."""
    id_of = dict(zip(NAMES, ids))
    annotations = []
    for image_id, things in enumerate(images, 1):
        for thing in things:
            x1, y1, x2, y2 = thing.box
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image_id,
                    category_id=id_of[thing.name],
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=(x2 - x1) * (y2 - y1),
                    iscrowd=int(thing.ignored),
                    segmentation=[polygon(thing.box)]))
    return dict(
        images=[
            dict(id=index, file_name=f'{stem}.jpg', width=WIDTH, height=HEIGHT)
            for index, stem in enumerate(stems(images), 1)
        ],
        annotations=annotations,
        categories=[dict(id=id_of[name], name=name) for name in names])


def write_coco_json(root: Path, images, **settings) -> dict:
    write_images(root, images)
    (root / 'annotations.json').write_text(json.dumps(coco_content(images, **settings)))
    return dict(ann_file=str(root / 'annotations.json'), img_prefix=str(root))


def write_lvis(root: Path, images) -> dict:
    content = coco_content(images)
    for image in content['images']:
        name = image.pop('file_name')
        image.update(
            coco_url=f'http://images.cocodataset.org/val2017/{name}',
            neg_category_ids=[7, 3, 90, 12],
            not_exhaustive_category_ids=[])
    content['annotations'] = [item for item in content['annotations'] if not item.pop('iscrowd')]
    for category, frequency in zip(content['categories'], 'rcff'):
        category['frequency'] = frequency
    write_images(root / 'val2017', images)
    (root / 'lvis.json').write_text(json.dumps(content))
    return dict(ann_file=str(root / 'lvis.json'), img_prefix=str(root))


def labelme_content(stem: str, things) -> dict:
    shapes = [
        dict(
            label=thing.name,
            points=np.array(polygon(thing.box)).reshape(-1, 2).tolist(),
            group_id=None,
            shape_type='polygon',
            flags={}) for thing in things if not thing.ignored
    ]
    return dict(
        version='5.5.0',
        flags={},
        shapes=shapes,
        imagePath=f'{stem}.jpg',
        imageData=None,
        imageHeight=HEIGHT,
        imageWidth=WIDTH)


def write_labelme(root: Path, images) -> dict:
    write_images(root, images)
    for stem, things in zip(stems(images), images):
        (root / f'{stem}.json').write_text(json.dumps(labelme_content(stem, things)))
    return dict(ann_file=str(root))


def yolo_line(thing: Thing, number: int, as_outline: bool) -> str:
    x1, y1, x2, y2 = np.array(thing.box) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
    numbers = [x1, y1, x2, y1, x2, y2, x1, y2] if as_outline else [(x1 + x2) / 2,
                                                                   (y1 + y2) / 2, x2 - x1, y2 - y1]
    return ' '.join([str(number), *(f'{value:.12g}' for value in numbers)]) + '\n'


def write_yolo(root: Path,
               images,
               outlines: bool = False,
               split: str = 'train',
               names=NAMES) -> dict:
    """Ignored things are left out; the last image has an empty label file."""
    write_images(root / 'images' / split, images)
    (root / 'labels' / split).mkdir(parents=True)
    for stem, things in zip(stems(images), images):
        (root / 'labels' / split / f'{stem}.txt').write_text(''.join(
            yolo_line(thing, names.index(thing.name), outlines) for thing in things
            if not thing.ignored))
    listed = ''.join(f'  {number}: {name}\n' for number, name in enumerate(names))
    (root / 'data.yaml').write_text(f'path: .\n{split}: images/{split}\nnames:\n{listed}')
    return dict(ann_file=str(root / 'data.yaml'), split=split)


def cvat_xml(images, names=NAMES) -> str:
    labels = ''.join(f'<label><name>{name}</name><attributes></attributes></label>\n'
                     for name in names)
    text = ''
    for index, (stem, things) in enumerate(zip(stems(images), images)):
        text += f'<image id="{index}" name="{stem}.jpg" width="{WIDTH}" height="{HEIGHT}">\n'
        for number, thing in enumerate(things):
            x1, y1, x2, y2 = thing.box
            inside = f'<attribute name="ignore">{str(thing.ignored).lower()}</attribute>'
            if number % 2:
                points = f'{x1},{y1};{x2},{y1};{x2},{y2};{x1},{y2}'
                text += f'<polygon label="{thing.name}" occluded="0" points="{points}">{inside}</polygon>\n'
            else:
                text += (
                    f'<box label="{thing.name}" occluded="0" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}">'
                    f'{inside}</box>\n')
        text += '</image>\n'
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta><task><labels>\n'
        f'{labels}</labels></task></meta>\n{text}</annotations>\n')


def write_cvat(root: Path, images) -> dict:
    write_images(root / 'images', images)
    (root / 'annotations.xml').write_text(cvat_xml(images))
    return dict(ann_file=str(root / 'annotations.xml'))


def label_studio_content(images) -> list:
    tasks = []
    for index, (stem, things) in enumerate(zip(stems(images), images)):
        results = []
        for number, thing in enumerate(thing for thing in things if not thing.ignored):
            x1, y1, x2, y2 = (np.array(thing.box) * 100 / [WIDTH, HEIGHT, WIDTH, HEIGHT]).tolist()
            kind, value = ('polygonlabels', dict(points=[[x1, y1], [x2, y1], [x2, y2], [x1, y2]])) if number % 2 \
                else ('rectanglelabels', dict(x=x1, y=y1, width=x2 - x1, height=y2 - y1, rotation=0))
            results.append(
                dict(
                    id=f'r{number}',
                    type=kind,
                    from_name='label',
                    to_name='image',
                    original_width=WIDTH,
                    original_height=HEIGHT,
                    image_rotation=0,
                    value={
                        **value, kind: [thing.name]
                    }))
        tasks.append(
            dict(
                id=index + 1,
                data=dict(image=f'/data/upload/1/0123abc{index % 10}-{stem}.jpg'),
                annotations=[dict(id=index + 7, was_cancelled=False, result=results)],
                predictions=[]))
    return tasks


def write_label_studio(root: Path, images) -> dict:
    write_images(root, images)
    (root / 'export.json').write_text(json.dumps(label_studio_content(images)))
    return dict(ann_file=str(root / 'export.json'))


def middle_content(images, classes) -> list:
    records = []
    for stem, things in zip(stems(images), images):
        known = [thing for thing in things if thing.name in classes]
        parts = [[thing for thing in known if thing.ignored == ignored] for ignored in (0, 1)]
        arrays = [(np.array([thing.box for thing in part], dtype=np.float32).reshape(-1, 4),
                   np.array([classes.index(thing.name) for thing in part], dtype=np.int64))
                  for part in parts]
        records.append(
            dict(
                filename=f'{stem}.jpg',
                width=WIDTH,
                height=HEIGHT,
                ann=dict(
                    bboxes=arrays[0][0],
                    labels=arrays[0][1],
                    bboxes_ignore=arrays[1][0],
                    labels_ignore=arrays[1][1])))
    return records


def fed_back(dataset, with_masks: bool = False) -> list:
    """The truth of every image as V2's results, all of score 1."""
    results = []
    for index in range(len(dataset)):
        annotation = dataset.get_ann_info(index)
        boxes = np.concatenate(
            [annotation['bboxes'],
             np.ones((len(annotation['bboxes']), 1), dtype=np.float32)],
            axis=1)
        labels = range(len(dataset.CLASSES))
        per_class = [boxes[annotation['labels'] == label] for label in labels]
        if not with_masks:
            results.append(per_class)
            continue
        masks = [[] for _ in labels]
        for label, parts in zip(annotation['labels'], annotation['masks']):
            parts = [np.asarray(part).tolist() for part in parts]
            masks[int(label)].append(mask_api.merge(mask_api.frPyObjects(parts, HEIGHT, WIDTH)))
        results.append((per_class, masks))
    return results
