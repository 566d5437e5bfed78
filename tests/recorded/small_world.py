"""The small world in which MMDetection was recorded, rebuilt bit for bit on any machine.

Images, annotations and proposals come from a seed, and each weight from its own name. The numbers of every record
depend on exactly these formulas: one that changes makes all records wrong.
"""
import base64
import json
import pickle
import re
import zlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, TypedDict

import numpy as np
import torch
from PIL import Image, ImageDraw


class Record(TypedDict, total=False):
    """A record, as json holds it."""
    stock: str  # the stock config that it came from
    config: str  # the whole config, with DATA for the data's folder and CKPT for the checkpoint
    classes: List[str]
    table: List[Tuple[str, List[int],
                      str]]  # name, shape, dtype of each entry of the state_dict, in order
    buffers: Dict[
        str, str]  # entries that the model computes itself: the base64 of their compressed bytes
    steps: List[Dict[str, float]]  # the log of the training, a row for each iteration
    after: Dict[str, List[float]]  # norm, and norm of the change in training, of some weights
    metrics: Dict[str, float]  # of dataset.evaluate
    detections: List[List[
        List[float]]]  # of an image: label, x0, y0, x1, y1, score, area of the mask
    mask_centers: List[List[Optional[
        List[float]]]]  # of an image: x, y of each mask, None for an empty one
    mask_scores: List[List[Optional[float]]]  # of an image: those of Mask Scoring R-CNN
    predictions: List[List[float]]  # of a classifier's image: the score of each class


HEIGHT, WIDTH = 256, 320  # of every image for detection
SIDE = 48  # of every image for classification
# The number of images and the seed of each split. A detector's training batch holds all of them,
# so that an epoch is one iteration and the order of images does not matter.
DETECTION = dict(train=(2, 1), val=(4, 2))
CLASSIFICATION = dict(train=(2, 1), val=(3, 2))  # images of each class

# Factors of the deviation 1 / sqrt(inputs of a unit), by which signals keep their size through a network and scores
# spread over 0 to 1. The first pattern found in a name counts.
GAINS = tuple((re.compile(pattern), gain) for pattern, gain in (
    (r'backbone\.layer\d\.\d+\.(expand|depthwise)_conv\.conv\.', 1.7),  # MobileNetV2
    (r'bbox_head\.convs_pred\.', .5),  # YOLOv3
    (r'(expand|depthwise)_conv\.conv\.', 2.5),  # swish and gates halve the signal
    (r'backbone\.layers\.\d+\.\d+\.branch\d', 1.7),  # ShuffleNet
    (r'branch_(3x3|1x1)', .95),  # RepVGG adds three branches
    (r'bbox_head\.(vfnet|tood)_reg', .5),  # their exponential is multiplied by a scale of 2 to 3
    (r'^bbox_head\.fc_reg\.', 1.4),  # DETR: boxes all over the image
    (r'^bbox_head\.transformer\.encoder\.layers\.\d\.attentions\.0\.attn\.(in|out)_proj', .2),
    (r'^bbox_head\.transformer\.decoder\.layers\.\d\.attentions\.1\.attn\.in_proj', 5.),
    (r'panoptic_head\.mask_embed\.4\.',
     .15),  # a mask of Mask2Former or SOLOv2 is a product of two predictions
    (r'mask_head\.conv_kernel\.', .3),
    (r'bbox_head\.(cls|reg)_convs\.0\.0\.weight', 1.4),  # SSD: its first level is normalized,
    (r'bbox_head\.(cls|reg)_convs\.\d+\.0\.weight', .02),  # the others grow with pixels of 0 to 255
    (r'backbone\.stem\.conv\.conv\.', .02),  # YOLOX: pixels of 0 to 255
    (r'backbone\.stage\d\.\d\.conv\d?\.', 2.2),
    (r'(main_conv|short_conv|final_conv|blocks\.\d+\.conv\d)\.conv\.', 2.2),
    (r'neck\.(reduce_layers|downsamples|out_convs)\.|multi_level_(cls|reg)_convs', 2.2),
))
UNIT_VARIANCE = re.compile('query_embed|query_feat|query_embedding|init_proposal_features')
PLAIN_GAINS = ((re.compile('fc_reg|rpn_reg|retina_reg'), .15),
               (re.compile('fc_cls|rpn_cls|retina_cls'), .8), (re.compile(''), 1.4))


def write_world(root: Path, record: Record) -> Path:
    """Write the data, the checkpoint and the config of a record under `root`; return the config's path."""
    if 'detections' in record:
        for split, (number, seed) in DETECTION.items():
            write_detection_data(root / split, record['classes'], number, seed)
            if 'seg_prefix' in record['config']:
                write_semantic_maps(root / split)
            if 'proposal_file' in record['config']:
                write_proposals(root / split, number, seed)
    else:
        for split, (number, seed) in CLASSIFICATION.items():
            write_class_folders(root / split, record['classes'], number, seed)
    write_checkpoint(root / 'begin.pth', record)
    text = record['config'].replace("'CKPT'", repr(str(root / 'begin.pth')))
    (root / 'case.py').write_text(re.sub(r"(?<=')DATA\b", lambda _: str(root), text))
    return root / 'case.py'


def write_detection_data(root: Path, classes: Sequence[str], number: int, seed: int) -> None:
    """Write `number` images of five textured ellipses each, and their annotations in COCO's form."""
    draw = np.random.RandomState(seed)
    (root / 'images').mkdir(parents=True)
    images: List[Dict[str, Any]] = []
    annotations: List[Dict[str, Any]] = []
    for index in range(number):
        name = f'{index:03d}'
        pixels = draw_background(draw, (HEIGHT, WIDTH), cell=16) * .5 + 40
        for _ in range(5):
            annotations.append(
                dict(
                    draw_object(draw, pixels, len(classes)),
                    id=len(annotations) + 1,
                    image_id=index + 1))
        write_image(root / 'images' / f'{name}.png', pixels)
        images.append(
            dict(
                id=index + 1,
                file_name=f'{name}.png',
                height=HEIGHT,
                width=WIDTH,
                segm_file=f'{name}_seg.png'))
    categories = [dict(id=index, name=name) for index, name in enumerate(classes, 1)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / 'ann.json').write_text(json.dumps(content))


def draw_background(draw: np.random.RandomState, size: Tuple[int, int], cell: int) -> np.ndarray:
    """Return [height, width, 3] squares of random colors, `cell` pixels wide."""
    colors = draw.randint(0, 255, (size[0] // cell, size[1] // cell, 3)).astype(np.float32)
    return np.kron(colors, np.ones((cell, cell, 1), np.float32))


def draw_object(draw: np.random.RandomState, pixels: np.ndarray, number: int) -> Dict[str, Any]:
    """Paint an ellipse in the color of one of `number` classes with waves on it; return its annotation."""
    label = int(draw.randint(number))
    x, y = draw.randint(40, WIDTH - 40), draw.randint(40, HEIGHT - 40)
    across, down = draw.randint(14, 60), draw.randint(14, 60)  # half axes
    angles = np.arange(0, 2 * np.pi, np.pi / 12)
    outline_x = np.clip(x + across * np.cos(angles), 0, WIDTH - 1).round(1)
    outline_y = np.clip(y + down * np.sin(angles), 0, HEIGHT - 1).round(1)

    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    inside = ((columns - x) / across)**2 + ((rows - y) / down)**2 <= 1
    color = np.array(
        [factor * (label + shift) % 255 for factor, shift in ((37, 1), (91, 3), (151, 5))],
        np.float32)
    pixels[inside] = color + 20 * np.sin(columns[inside] / 3.)[:, None]

    x0, y0 = float(outline_x.min()), float(outline_y.min())
    x1, y1 = float(outline_x.max()), float(outline_y.max())
    return dict(
        category_id=label + 1,
        iscrowd=0,
        bbox=[x0, y0, x1 - x0, y1 - y0],
        area=float(np.pi * across * down),
        segmentation=[np.stack([outline_x, outline_y], 1).ravel().tolist()])


def write_image(path: Path, pixels: np.ndarray) -> None:
    """Write [height, width, 3] pixels as RGB, without what is below 0 or above 255."""
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)


def write_semantic_maps(root: Path) -> None:
    """Write the semantic map of each image, which HTC learns, as seg/NAME.png.

    The top half is 0, the bottom half 7, an object 20 + its category, and the left 8 columns are ignored (255).
    """
    data = json.loads((root / 'ann.json').read_text())
    (root / 'seg').mkdir()
    for image in data['images']:
        labels = np.zeros((image['height'], image['width']), np.uint8)
        labels[image['height'] // 2:] = 7
        picture = Image.fromarray(labels)
        for annotation in data['annotations']:
            if annotation['image_id'] == image['id']:
                outline = np.reshape(annotation['segmentation'][0], (-1, 2)).tolist()
                ImageDraw.Draw(picture).polygon([tuple(point) for point in outline],
                                                fill=20 + annotation['category_id'])
        labels = np.array(picture)
        labels[:, :8] = 255
        Image.fromarray(labels).save(root / 'seg' / image['file_name'])


def write_proposals(root: Path, number: int, seed: int, per_image: int = 60) -> None:
    """Write the file of Fast R-CNN's proposals: [n, 5] x0, y0, x1, y1, score of each image, best first."""
    draw = np.random.RandomState(seed + 100)
    proposals = []
    for _ in range(number):
        corner = draw.uniform(0, 1, (per_image, 2)) * (WIDTH - 70, HEIGHT - 70)
        size = draw.uniform(12, 69, (per_image, 2))
        scores = np.sort(draw.uniform(0, 1, (per_image, 1)), 0)[::-1]
        proposals.append(
            np.concatenate([corner, corner + size, scores], 1).round(3).astype(np.float32))
    (root / 'proposals.pkl').write_bytes(pickle.dumps(proposals))


def write_class_folders(root: Path, classes: Sequence[str], number: int, seed: int) -> None:
    """Write `number` images of random squares for each class, in a folder of its name."""
    draw = np.random.RandomState(seed)
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(number):
            pixels = draw_background(draw, (SIDE, SIDE), cell=8) * .6 + 25 * (label % 4)
            write_image(root / name / f'{index}.png', pixels)


def write_checkpoint(path: Path, record: Record) -> None:
    """Write the checkpoint of a record."""
    state = {name: torch.from_numpy(value) for name, value in weights_of(record)}
    torch.save(dict(state_dict=state, meta=dict(CLASSES=record['classes'])), path)


def weights_of(record: Record) -> Iterator[Tuple[str, np.ndarray]]:
    """Yield the name and the value of each entry of a record's state_dict, in its order.

    A line `# gain: PATTERN VALUE` of the config multiplies the weights with such names, where scores would all be 1.
    """
    buffers = record.get('buffers', {})
    gains = re.findall(r'^# gain: (\S+) (\S+)', record['config'], re.M)
    for name, shape, dtype in record['table']:
        if name in buffers:
            content = zlib.decompress(base64.b64decode(buffers[name]))
            yield name, np.frombuffer(content, dtype.replace('torch.', '')).reshape(shape).copy()
            continue
        value = np.array(weight_of(name, tuple(shape), dtype))
        for pattern, gain in gains:
            if name.endswith('weight') and re.search(pattern, name):
                value = (value * float(gain)).astype(np.float32)
        yield name, value


def weight_of(name: str, shape: Tuple[int, ...], dtype: str) -> np.ndarray:
    """Return the value of an entry of a state_dict, from its name alone."""
    draw = np.random.RandomState(zlib.crc32(name.encode()) & 0xffffffff)
    if 'int' in dtype:
        return np.zeros(shape, np.int64)
    if name.endswith('running_mean'):
        return (draw.standard_normal(shape) * .1).astype(np.float32)
    if name.endswith('running_var'):
        return draw.uniform(.6, 1.4, shape).astype(np.float32)
    if name.endswith('bias'):
        return (draw.standard_normal(shape) * .02).astype(np.float32)
    if re.search(r'bbox_head\.scales\.\d+\.scale$', name):  # boxes of many sizes
        return draw.uniform(2., 3., shape).astype(np.float32)
    if len(shape) <= 1:  # of norm layers; small where a residual block ends
        low, high = (.1, .3) if 'bn3' in name or 'norm3' in name else (.5, 1.)
        return draw.uniform(low, high, shape).astype(np.float32)
    if name.endswith('init_proposal_bboxes.weight'):  # center and size, in parts of the image
        return draw.uniform(.2, .8, shape).astype(np.float32)
    return scaled(name, draw.standard_normal(shape)).astype(np.float32)


def scaled(name: str, normal: np.ndarray) -> np.ndarray:
    """Return normal numbers times the gain of a weight of that name, over the root of the inputs of a unit."""
    deviation = np.sqrt(float(np.prod(normal.shape[1:])))
    for pattern, gain in GAINS:
        if pattern.search(name):
            return normal * (gain / deviation)
    if UNIT_VARIANCE.search(name):
        return normal * 1.
    gain = next(gain for pattern, gain in PLAIN_GAINS if pattern.search(name))
    return normal * gain / deviation  # in this order: the other one rounds a few weights differently
