"""Output of evaluation tables."""
import io
import logging
from typing import Sequence, Union

import rich.box
from rich.console import Console
from rich.table import Table

NO_OBJECTS = 'There is no object to find: AP is not defined, and reported as -1.'

LoggerLike = Union[logging.Logger, str,
                   None]  # a logger, its name, the terminal (None), or nowhere ("silent")


def print_log(message: str, logger: LoggerLike = None, level: int = logging.INFO) -> None:
    """Log a message to a logger, the logger of a name, the terminal (None), or nowhere ('silent'), as V2."""
    if logger is None:
        print(message)
    elif isinstance(logger, logging.Logger):
        logger.log(level, message)
    elif logger != 'silent':
        logging.getLogger(logger).log(level, message)


def table_text(headers: Sequence[str],
               rows: Sequence[Sequence[object]],
               last_row_apart: bool = False) -> str:
    """Format a table in plain characters for a log, optionally with a line above the last row."""
    table = Table(box=rich.box.ASCII)
    for header in headers:
        table.add_column(header)
    for index, row in enumerate(rows):
        apart = last_row_apart and index == len(rows) - 2
        table.add_row(*(str(value) for value in row), end_section=apart)
    stream = io.StringIO()
    Console(file=stream, width=200, color_system=None, markup=False, highlight=False).print(table)
    return stream.getvalue().rstrip()
