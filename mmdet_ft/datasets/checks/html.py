"""The report as one html file with pictures."""
import base64
import html
import os
from typing import Any, Iterable, List, Optional, Sequence

import cv2
import numpy as np

from mmdet_ft.datasets.checks.objects import extent_of
from mmdet_ft.datasets.checks.problem import Example, Problem
from mmdet_ft.datasets.checks.report import Report, class_rows, summary_rows, verdict
from mmdet_ft.datasets.checks.split import Split
from mmdet_ft.visualization import DrawingStyle, Instance, class_colors, draw_instances

WIDTH = 360  # pixels of a picture
STYLE = '''
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1180px; color: #222; padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.2em; margin-top: 2em; border-bottom: 1px solid #ddd }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .25em .8em; text-align: left;
  border-bottom: 1px solid #eee; vertical-align: top } td.n { text-align: right; font-variant-numeric: tabular-nums }
.bar { background: #8ab4e8; height: .8em; display: inline-block; border-radius: 2px }
.problem { border-left: 4px solid #c33; padding: .1em 1em .6em; margin: 1em 0; background: #fafafa }
.problem.note { border-color: #d9a400 } .problem h3 { margin: .5em 0; font-size: 1em }
.fix { font-weight: 600 } .pictures { display: flex; flex-wrap: wrap; gap: 12px }
figure { margin: 0; width: 360px } figure img { max-width: 100%; display: block } figcaption { font-size: 12px;
  color: #555; overflow-wrap: anywhere } .ok { color: #187a2f } .bad { color: #c33 }
'''


def page(report: Report, title: str, num_samples: int = 6) -> str:
    """Return the whole page; pictures are embedded as data, so that the file can be sent as it is.

    num_samples: pictures of each split with its ground truth, evenly spaced over it.
    """
    color = 'bad' if report.defects else 'ok'
    parts = [
        f'<h1>{html.escape(title)}</h1><p class="{color}">{html.escape(verdict(report))}</p>',
        _table(['', *(split.name for split in report.splits)],
               [(what, *values) for what, values in summary_rows(report)])
    ]
    for name, problems in (('Defects', report.defects), ('To look at', report.notes)):
        if problems:
            parts.append(f'<h2>{name}</h2>')
            parts += [_problem(problem) for problem in problems]
    if report.classes:
        parts.append('<h2>Classes</h2>' + _classes(report))
    for split in report.splits:
        pictures = _samples(split, num_samples)
        if pictures:
            parts.append(f'<h2>Pictures of {html.escape(split.name)}</h2>{_gallery(pictures)}')
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<style>{STYLE}</style>{"".join(parts)}</html>')


def _table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = ''.join(f'<th>{html.escape(str(header))}</th>' for header in headers)
    body = ''.join('<tr>' + ''.join(f'<td>{html.escape(str(value))}</td>'
                                    for value in row) + '</tr>' for row in rows)
    return f'<table><tr>{head}</tr>{body}</table>'


def _classes(report: Report) -> str:
    names = [split.name for split in report.splits]
    largest = [
        max([1, *(row.counts[index] for row in report.classes)]) for index in range(len(names))
    ]
    rows = []
    for name, label, category_id, *counts in class_rows(report):
        cells = ''.join(f'<td class="n">{count}</td><td><span class="bar" style="width:'
                        f'{100 * count / most:.0f}px"></span></td>'
                        for count, most in zip(counts, largest))
        rows.append(f'<tr><td>{html.escape(str(name))}</td><td class="n">{label}</td>'
                    f'<td class="n">{html.escape(str(category_id))}</td>{cells}</tr>')
    head = ''.join(f'<th colspan="2">{html.escape(name)}</th>' for name in names)
    return (f'<table><tr><th>class</th><th>label</th><th>id in the file</th>{head}</tr>'
            f'{"".join(rows)}</table>')


def _problem(problem: Problem) -> str:
    pictures, lines = [], []
    for example in problem.examples:
        picture = _picture(example)
        if picture is None:
            lines.append(f'<li>{html.escape(example.text)}</li>')
        else:
            pictures.append((picture, example.text))
    return (
        f'<div class="problem{"" if problem.is_defect else " note"}"><h3>{html.escape(problem.kind)} '
        f'({html.escape(problem.split)}, {problem.count})</h3><p>{html.escape(problem.text)}</p>'
        f'<ul>{"".join(lines)}</ul>{_gallery(pictures)}'
        f'<p class="fix">Fix: {html.escape(problem.fix)}</p></div>')


def _gallery(pictures: Sequence[Any]) -> str:
    return '<div class="pictures">' + ''.join(
        f'<figure><img alt="" src="data:image/jpeg;base64,{data}"><figcaption>{html.escape(text)}</figcaption></figure>'
        for data, text in pictures) + '</div>'


def _read(path: Optional[str]) -> Optional[np.ndarray]:
    if path is None or not os.path.isfile(path):
        return None
    try:
        return cv2.imread(path, cv2.IMREAD_COLOR)
    except cv2.error:
        return None


def _data(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    if width > WIDTH:
        image = cv2.resize(
            image, (WIDTH, max(1, height * WIDTH // width)), interpolation=cv2.INTER_AREA)
    return base64.b64encode(cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, 82])[1]).decode()


def _picture(example: Example) -> Optional[str]:
    image = _read(example.path)
    if image is None:
        return None
    boxes = [*example.boxes, *([] if example.box is None else [example.box])]
    boxes = [np.asarray(box) for box in boxes if np.isfinite(box).all()]
    if boxes:
        instances = [Instance(box, None, (0, 0, 255), '') for box in boxes]
        image = draw_instances(image, instances, DrawingStyle(labels='none'))
    return _data(image)


def _samples(split: Split, number: int) -> List[Any]:
    indices = np.unique(np.linspace(0,
                                    len(split.paths) -
                                    1, number).round().astype(int)) if split.paths else []
    colors = class_colors(max(1, len(split.classes)))
    pictures = []
    for position in indices:
        image = _read(split.paths[position])
        if image is None:
            continue
        instances = []
        for index in np.flatnonzero(split.image == position):
            label = int(split.labels[index])
            if not split.has_boxes or not np.isfinite(split.boxes[index]).all():
                continue
            name, color = 'other', (160, 160, 160)
            if 0 <= label < len(split.classes) and not split.ignored[index]:
                name, color = split.classes[label], colors[label]
            instances.append(Instance(split.boxes[index], _mask(split, index, image), color, name))
        pictures.append((_data(draw_instances(image, instances)), split.short(position)))
    return pictures


def _mask(split: Split, index: int, image: np.ndarray) -> Optional[np.ndarray]:
    """Return the mask of an object if it fits the image."""
    from mmdet_ft.datasets.annotations.masks import bitmaps_of_runs, polygon_runs
    segmentation = split.segmentation(int(index)) if split.segmentation is not None else None
    if segmentation is None or extent_of(segmentation) is None:
        return None
    height, width = image.shape[:2]
    runs = polygon_runs(segmentation, height, width) if isinstance(segmentation,
                                                                   list) else segmentation
    try:
        return bitmaps_of_runs([runs], height, width).masks[0].astype(bool)
    except ValueError:
        return None
