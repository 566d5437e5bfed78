"""The report as text for a terminal or a log."""
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import rich.box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmdet_ft.datasets.checks.anchors import AnchorCoverage
from mmdet_ft.datasets.checks.problem import Problem, Row
from mmdet_ft.datasets.checks.split import Split

MOST_CLASSES = 100  # rows of the table


class Report(NamedTuple):
    splits: List[Split]
    classes: List[Row]
    problems: List[Problem]
    reaches: Dict[str, AnchorCoverage]  # split -> how the anchors match its objects
    num_looked: Dict[str, int]  # split -> image files that were checked
    decoded: bool = True  # each of them completely; otherwise heads and last bytes

    @property
    def defects(self) -> List[Problem]:
        return [problem for problem in self.problems if problem.is_defect]

    @property
    def notes(self) -> List[Problem]:
        return [problem for problem in self.problems if not problem.is_defect]


def summary_rows(report: Report) -> List[Tuple[str, List[str]]]:
    """Return the table at the head of a report: (name, one value per split)."""
    rows = [
        ('annotations', [split.source for split in report.splits]),
        ('type', [split.kind for split in report.splits]),
        ('images listed', [str(len(split.paths)) for split in report.splits]),
        ('image files decoded' if report.decoded else 'file headers read',
         [str(report.num_looked.get(split.name, 0)) for split in report.splits]),
        ('used', [_format_used(split) for split in report.splits]),
    ]
    if any(split.has_boxes for split in report.splits):
        rows += [
            ('without objects', [_empty(split) for split in report.splits]),
            ('objects of the classes',
             [str(int(((split.labels >= 0) & ~split.ignored).sum())) for split in report.splits]),
            ('crowd or ignored', [str(int(split.ignored.sum())) for split in report.splits]),
            ('sqrt(area) of objects, median (5% to 95%)',
             [_format_sides(split) for split in report.splits]),
        ]
    if report.reaches:
        rows.append(('matched by anchors',
                     [_format_coverage(report.reaches.get(split.name)) for split in report.splits]))
    return rows


def _format_used(split: Split) -> str:
    reasons = ', '.join(f'{count} {reason}' for reason, count in split.left_out.items())
    return str(split.num_used) + (f'; left out: {reasons}' if reasons else '')


def _empty(split: Split) -> str:
    shown = set(split.image[(split.labels >= 0) & ~split.ignored].tolist())
    return str(len(split.paths) - len(shown))


def _format_sides(split: Split) -> str:
    real = split.boxes[(split.labels >= 0) & ~split.ignored]
    real = real[np.isfinite(real).all(1)]
    if not len(real):
        return '-'
    sides = np.sqrt((real[:, 2:] - real[:, :2]).clip(0).prod(1))
    low, middle, high = np.percentile(sides, (5, 50, 95))
    return f'{middle:.0f} ({low:.0f} to {high:.0f})'


def _format_coverage(reach: Optional[AnchorCoverage]) -> str:
    if reach is None:
        return '-'
    return (f'{reach.good:.0%} at pos_iou_thr, {reach.best_only:.0%} by the best anchor only, '
            f'{reach.never:.0%} not at all')


def render(report: Report, console: Console) -> None:
    """Write facts, classes and problems to a terminal (or, by a Console of a file, to a log)."""
    names = [split.name for split in report.splits]
    if report.splits:
        _print_table(console, ['', *names],
                     [(what, *values) for what, values in summary_rows(report)])
    if report.classes:
        _print_table(console, ['class', 'label', 'id in the file', *names], class_rows(report))
    for title, problems, color in (('defect', report.defects, 'red'), ('to look at', report.notes,
                                                                       'yellow')):
        for problem in problems:
            head = Text(
                f'{title}: ', style=color) + Text(
                    f'{problem.kind} ({problem.split}, {problem.count})', style='bold')
            console.print(head)
            console.print(Text(f'  {problem.text}'), soft_wrap=True)
            for example in problem.examples:
                console.print(Text(f'    {example.text}', style='dim'), soft_wrap=True)
            console.print(Text(f'  fix: {problem.fix}'), soft_wrap=True)
    console.print(Text(verdict(report), style='red' if report.defects else 'green'))


def class_rows(report: Report) -> List[Tuple[Any, ...]]:
    rows = [(row.name, row.label, row.category_id, *row.counts)
            for row in report.classes[:MOST_CLASSES]]
    if len(report.classes) > MOST_CLASSES:
        rows.append((f'... {len(report.classes)} in all', '', ''))
    return rows


def verdict(report: Report) -> str:
    if not report.defects:
        return f'no defect found in {", ".join(split.name for split in report.splits)}; {describe_coverage(report)}'
    kinds = len({problem.kind for problem in report.defects})  # a kind may be in several splits
    total = sum(problem.count for problem in report.defects)
    return f'{kinds} kind{"s"[:kinds > 1]} of defects, in {total} location{"s"[:total != 1]}'


def _annotations(report: Report) -> str:
    boxes = [len(split.labels) for split in report.splits if split.has_boxes]
    masks = sum(split.num_masks for split in report.splits)
    labels = sum(len(split.labels) for split in report.splits if not split.has_boxes)
    parts = [f'{sum(boxes)} boxes'] if boxes else []
    parts += [f'{"" if report.decoded else "the form of "}{masks} masks'] if masks else []
    parts += [f'{labels} labels'] if labels else []
    return f'the annotations ({", ".join(parts)})'


def describe_coverage(report: Report) -> str:
    """Return what a report covers, and what it does not cover."""
    looked = sum(report.num_looked.values())
    files = sum(path is not None for split in report.splits for path in split.paths)
    what = _annotations(report)
    if not looked:
        return f'checked: {what}' + (', no image' if files else '')
    number = f'all {files}' if looked == files else f'{looked} of {files}'
    return f'checked: {what}, {"" if report.decoded else "headers and last bytes of "}{number} image files'


def _print_table(console: Console, headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    table = Table(box=rich.box.ASCII if console.color_system is None else rich.box.SIMPLE)
    for header in headers:
        table.add_column(header, overflow='fold')
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    console.print(table)
