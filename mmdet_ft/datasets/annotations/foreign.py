"""Annotations in unsupported forms, recognized and answered with advice."""
import os
import os.path as osp
import re
from typing import Optional

from mmdet_ft.command_names import how_to_run

YOLO = (
    "write type='YOLODataset' with data.yaml as ann_file and split='train', or with the folder of the images as "
    f'ann_file, or make one json with `{how_to_run("convert yolo")}`')
LABEL_STUDIO = (
    "an export of Label Studio: write type='LabelStudioDataset', or make a COCO json of it with "
    f'`{how_to_run("convert label_studio")}`')
MOST_FILES = 2000  # files of a folder that are checked


def detect_kind(content: bytes) -> Optional[str]:
    """Return the kind of a file that is no json: YOLO's yaml or txt, CVAT's or VOC's xml; None for anything else."""
    text = content[:1 << 16].decode('utf-8', 'replace').lstrip('\ufeff \t\r\n')
    if text.startswith('<'):
        if re.search(r'<annotations[\s>]', text):
            return cvat()
        if re.search(r'<annotation[\s>]', text):
            return (
                "it is an xml file of PASCAL VOC, one of many: write type='XMLDataset' with ann_file a text file of "
                f'names, or make one json of them with `{how_to_run("convert voc")}`')
        return 'it is xml or a page of the web, not json'
    if is_data_yaml(text):
        return f'it is the data.yaml of a YOLO dataset: {YOLO}'
    if is_yolo(text):
        return f'it has lines of YOLO (class, x, y, width, height as shares): {YOLO}'
    return None


def cvat() -> str:
    """Return the advice for CVAT's own xml."""
    return (
        "it is CVAT's own xml ('CVAT for images'): write type='CVATDataset', or make a COCO json of it with "
        f'`{how_to_run("convert cvat")}`')


def is_data_yaml(text: str) -> bool:
    """Check for the data.yaml of a YOLO dataset."""
    return all(
        re.search(pattern, text, re.M) is not None
        for pattern in (r'^names\s*:', r'^(nc|train|val|path)\s*:'))


def is_label_studio(content: object) -> bool:
    """Check for the tasks of an export of Label Studio."""
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and ('annotations' in first and 'data' in first or any(
        isinstance(item, dict) and 'original_width' in item
        for value in first.values() if isinstance(value, list) for item in value))


def describe_folder(folder: str) -> str:
    """Return the kind of annotations in a folder that was given instead of a file, as the end of a sentence."""
    names = sorted(os.listdir(folder))[:MOST_FILES]
    of = {
        ending: [name for name in names if name.lower().endswith(ending)]
        for ending in ('.json', '.xml', '.txt')
    }
    first = max(of, key=lambda ending: len(of[ending]))
    if not of[first]:
        return ''
    if first == '.txt' and any(
            is_yolo(begin_of(osp.join(folder, name))) for name in of['.txt'][:20]):
        return f' with the txt files of a YOLO dataset: {YOLO}'
    if first == '.xml':
        return (
            " with xml files, one per image: write type='XMLDataset' with ann_file a text file of their names, or make "
            f'one json of them with `{how_to_run("convert voc")}`')
    if first == '.json':
        if '"shapes"' in begin_of(osp.join(folder, of['.json'][0])):
            return (
                " with labelme's json files: write type='LabelmeDataset', or make one json of them with "
                f'`{how_to_run("convert labelme")}`')
        shown = ', '.join(of['.json'][:3]) + (' ...' if len(of['.json']) > 3 else '')
        return f' with the json files {shown}: name one of them'
    return ''


def begin_of(path: str) -> str:
    """Return the beginning of a text file; '' if it cannot be read."""
    try:
        with open(path, 'rb') as file:
            return file.read(1 << 16).decode('utf-8', 'replace')
    except OSError:
        return ''


def is_yolo(text: str) -> bool:
    """Check for lines of YOLO: a class number and fractions of the image: 4 for a box, 6 or more for an outline."""
    lines = [line.split() for line in text.splitlines()[:5] if line.strip()]
    try:
        return bool(lines) and all(
            words[0].isdigit() and len(words) >= 5 and len(words) % 2 and all(0 <= float(word) <= 1
                                                                              for word in words[1:])
            for words in lines)
    except ValueError:
        return False
