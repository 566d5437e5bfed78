"""Progress for a person at a terminal; a plain line now and then elsewhere."""
import sys
import time
from typing import Any, Iterable, Iterator

from mmdet_ft.engine.log import get_root_logger, on_terminal

SECONDS_BETWEEN_LINES = 30


def bar() -> Any:
    """A rich progress bar on stderr that vanishes when it is done; lines of the log appear above
    it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    return Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True)


def track(items: Iterable, title: str, total: int, quiet: bool = False) -> Iterator:
    """The items, with progress told on the way."""
    if quiet:
        yield from items
    elif on_terminal():
        with bar() as progress:
            yield from progress.track(items, total=total, description=title)
    else:
        last = time.monotonic()
        for done, item in enumerate(items, 1):
            yield item
            if time.monotonic() - last > SECONDS_BETWEEN_LINES and done < total:
                last = time.monotonic()
                get_root_logger().info('%s: %d of %d', title, done, total)
