"""Pickles of numbers, texts, lists, dicts and arrays; anything else in one is refused, not run."""
import codecs
import collections
import pickle
from typing import Any

import numpy as np

from mmdet_ft.datasets.errors import DataError

_PLAIN = {('builtins', name)
          for name in ('set', 'frozenset', 'bytearray', 'complex', 'range', 'slice')}
_PLAIN |= {('__builtin__', name) for _, name in _PLAIN}  # Python 2's name
_OF_NUMPY = ('ndarray', 'dtype', 'scalar', '_reconstruct', '_frombuffer')


def _encode(text: str, encoding: str = 'latin1') -> bytes:
    """What stands for the bytes of an array in old protocols; other codecs could do more."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'it calls the codec {encoding!r}')
    return codecs.encode(text, encoding)


class _Reader(pickle.Unpickler):

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return super().find_class('builtins', name)
        if (module, name) == ('collections', 'OrderedDict'):
            return collections.OrderedDict
        if (module, name) == ('_codecs', 'encode'):
            return _encode
        if module.split('.')[0] == 'numpy' and name in _OF_NUMPY:
            if name in ('ndarray', 'dtype'):
                return getattr(np, name)
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f'it names {module}.{name}')


def load(path: str) -> Any:
    """The content of a pickle file.

    Raises DataError when it holds objects of other classes than those of numpy and plain Python:
    reading them would run code of whoever wrote the file.
    """
    with open(path, 'rb') as file:
        try:
            return _Reader(file).load()
        except pickle.UnpicklingError as error:
            raise DataError(
                f'{path} cannot be read as a pickle of arrays, lists and dicts: {error}. Write it anew with plain '
                f'values (numbers, texts, lists, dicts, numpy arrays), or as json') from error
        except (EOFError, ValueError, IndexError, KeyError, TypeError, AttributeError, ImportError,
                UnicodeDecodeError) as error:
            raise DataError(f'{path} is not a complete pickle: {error}') from error
