"""Text files that users write: lists of names, labels, classes."""
import codecs
import re
from typing import List

from mmdet_ft.datasets.errors import DataError

MARKS = (  # the longest first: that of UTF-32 starts with that of UTF-16
    (codecs.BOM_UTF32_LE, 'utf-32'), (codecs.BOM_UTF32_BE, 'utf-32'),
    (codecs.BOM_UTF8, 'utf-8-sig'), (codecs.BOM_UTF16_LE, 'utf-16'), (codecs.BOM_UTF16_BE,
                                                                      'utf-16'))


def read_lines(path: str) -> List[str]:
    """Read a text file; return its lines without line ends, including empty ones, so that line i is [i - 1].

    Raises FileNotFoundError, and DataError with the path if it is not a text file.
    """
    try:
        with open(path, 'rb') as file:
            content = file.read()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, 'strerror', None) or error
        raise DataError(f'cannot read {path!r}: {reason}') from error
    return lines_of(content, path)


def lines_of(content: bytes, path: str) -> List[str]:
    """Decode UTF-8, or the encoding of a byte-order mark; DataError names path and line of another encoding."""
    encoding = next((name for mark, name in MARKS if content.startswith(mark)), 'utf-8')
    if encoding in ('utf-8', 'utf-8-sig') and b'\0' in content:
        line = content.count(b'\n', 0, content.index(b'\0')) + 1
        raise DataError(
            f'{path}:{line}: a zero byte: this is not a text file, or one in UTF-16 without its mark; '
            f'save it as UTF-8')
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b'\n', 0, error.start) + 1
        raise DataError(
            f'{path}:{line}: byte {content[error.start]:#04x} is not {encoding.upper()}; '
            f'save the file as UTF-8') from None
    return re.split(r'\r\n|\r|\n', text)
