"""Progress bars on a terminal; occasional plain lines elsewhere."""
import sys
import time
from typing import Any, Iterable, Iterator

from mmdet_ft.engine.reporting.log import Terminal, get_root_logger, on_terminal

SECONDS_BETWEEN_LINES = 30


class Bar:
    """A rich progress bar on stderr that vanishes when it is done; log lines appear above it.

    Only one is up at a time: a nested bar does nothing.
    """

    def __init__(self, title: str, total: int, done: int = 0):
        self._progress: Any = None
        if Terminal.console is not None or not on_terminal():
            return
        from rich import progress
        from rich.console import Console
        Terminal.console = Console(file=sys.stderr)
        self._progress = progress.Progress(
            progress.TextColumn('{task.description}'),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=Terminal.console,
            transient=True)
        self._task = self._progress.add_task(title, total=total, completed=done)
        self._progress.start()

    @property
    def is_up(self) -> bool:
        return self._progress is not None

    def advance(self) -> None:
        if self.is_up:
            self._progress.advance(self._task)

    def close(self) -> None:
        if self.is_up:
            self._progress.stop()
            self._progress = Terminal.console = None


def track(items: Iterable, title: str, total: int, quiet: bool = False) -> Iterator:
    """Yield the items, and report the progress unless `quiet`."""
    bar = None if quiet else Bar(title, total)
    last = time.monotonic()
    try:
        for done, item in enumerate(items, 1):
            yield item
            if quiet or done == total:
                continue
            bar.advance()
            if not bar.is_up and time.monotonic() - last > SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                get_root_logger().info('%s: %d of %d', title, done, total)
    finally:
        if bar is not None:
            bar.close()
