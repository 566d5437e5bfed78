"""Values of annotation files: numbers, ids, flags and names, read by the same rules everywhere.

Each function returns the value in its proper type, or raises ValueError with the found and the
expected value.
"""
import gzip
import json
import math
import re
from typing import Any, Union

from mmdet_ft.datasets.annotations.foreign import detect_kind
from mmdet_ft.datasets.errors import DataError

LARGEST_INT64 = 2**63 - 1
MOST_DIGITS = 30  # of a number in text form
FLAGS = {
    0: False,
    1: True,
    '0': False,
    '1': True,
    'false': False,
    'true': True,
}


def format_value(value: object, most: int = 80) -> str:
    """Format a value for a message: unprintable characters are escaped, and long values are shortened."""
    text = repr(value)
    return text if len(text) <= most else f'{text[:most]}...'


def _refuse(value: object, expected: str) -> ValueError:
    return ValueError(f'is {format_value(value)}, expected {expected}')


def read_number(value: object, expected: str = 'a number') -> float:
    """Read a number, or a string with one; it may be NaN or infinite."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # an int of hundreds of digits
            return math.inf if value > 0 else -math.inf
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            pass
    raise _refuse(value, expected)


def read_whole(value: object,
               expected: str = 'a whole number',
               low: int = -LARGEST_INT64 - 1,
               high: int = LARGEST_INT64) -> int:
    """Read a whole number from `low` to `high`: an int, 192.0, or a string with one."""
    if isinstance(value, str) and re.fullmatch(r'\s*[+-]?[0-9]{1,%d}\s*' % MOST_DIGITS, value):
        number: Union[int, float] = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        number = read_number(value, expected)
        if not math.isfinite(number) or number != int(number):
            raise _refuse(value, expected)
        number = int(number)
    if not low <= number <= high:
        raise _refuse(value, expected)
    return number


def read_id(value: object) -> Union[int, str]:
    """Read the id of a record: a whole number of any size, or a string, which stays a string."""
    expected = 'a whole number or a text'
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    raise _refuse(value, expected)


def plain_id(value: Union[int, str]) -> Union[int, str]:
    """Return the id that means the same in another type: '1', ' 1' and '000001' are 1."""
    if isinstance(value, str) and re.fullmatch(r'\s*[0-9]{1,%d}\s*' % MOST_DIGITS, value):
        return int(value)
    return value


def read_flag(value: object) -> bool:
    """Read 0, 1, true or false, also as a string; null is false."""
    if value is None:
        return False
    key = value.strip().lower() if isinstance(value, str) else value
    if isinstance(key, (bool, int, float, str)) and key in FLAGS:
        return FLAGS[key]
    raise _refuse(value, '0 or 1')


def read_name(value: object, expected: str = 'a text') -> str:
    """Read a string that can name a file or a class."""
    if not isinstance(value, str) or not value.strip() or '\0' in value:
        raise _refuse(value, expected)
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: no file system and no terminal accepts it
        raise _refuse(value, expected) from None
    return value


def parse_json(text: bytes, path: str) -> Any:
    """Return the content of a json file in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises DataError with the path and the actual kind of file.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise DataError(f'{path} cannot be read: its lists or dicts are nested too deep') from None
    except ValueError as error:
        raise DataError(f'{path} {_not_json(text, error)}') from error


def _not_json(text: bytes, error: ValueError) -> str:
    other = detect_kind(text)
    if other is not None:
        return f'is not a json file: {other}'
    if not text.strip(b'\0 \t\r\n\xef\xbb\xbf'):
        return 'is not a complete json file: it is empty; write it once more'
    if text[:2] == b'\x1f\x8b':
        inner = ''
        try:
            inner = gzip.decompress(text[:1 << 20])[:1].decode()
        except (OSError, EOFError, ValueError):
            pass
        return f'is compressed by gzip{" (json inside)" if inner in "[{" and inner else ""}: unpack it with gunzip'
    if isinstance(error, UnicodeDecodeError):
        found = text[error.start:error.start + 1].hex()
        return (f'is not written in UTF-8: byte 0x{found} at position {error.start}; '
                f'save it as UTF-8')
    if isinstance(error, json.JSONDecodeError) and error.msg == 'Extra data' and error.lineno > 1:
        return (
            f'is not one json value: another one begins in line {error.lineno}, as in JSON lines; '
            f'write one dict with images, annotations and categories')
    return f'is not a complete json file: {error}'
