"""Allowed contents of untrusted pickles: names, and the values built for them.

Nothing that a file names is imported or called. Arrays are built here from checked numbers: numpy's own
functions trust a pickle, and with a crafted shape or dtype they access memory out of bounds.

    checkpoints/safe_pickle.py   an interpreter of pickles in python, for weights
    untrusted.py                 load_pickle, by python's own unpickler: for results, of very many small arrays
"""
import codecs
import math
import re
import reprlib
from typing import Any, Callable, Dict, List, NamedTuple, Set, Tuple

import numpy as np

FEW = 4096  # bytes: larger values stay in their file, or are built when the whole pickle has been read


class Refused(Exception):
    """A file asks for more than weights need; the message follows the file's name."""


_brief = reprlib.Repr()
_brief.maxlevel = 2  # crafted nested lists would be printed forever


def shown(value: object) -> str:
    """Return the contents of a file for a message."""
    return _brief.repr(value)[:100]


class UnknownName(Refused):
    """A pickle names a class or function that is not in the table."""

    def __init__(self, name: str):
        super().__init__(f'asks to build {name}')
        self.name = name


class Name(NamedTuple):
    """A class or function as a pickle names it; nothing is looked up."""
    path: str


class Record:
    """An instance of some class, of which only the data are kept."""

    def __init__(self, kind: str, arguments: Tuple[Any, ...]):
        self.kind = kind
        self.arguments = arguments
        self.state: Any = None
        self.items: Dict[Any, Any] = {}

    def __repr__(self) -> str:
        return f'<{self.kind}>'


class Plan:
    """A value to be built when the whole pickle has been read."""

    __slots__ = ()
    value: Any = None

    def __setstate__(self, state: Any) -> None:
        raise Refused(f'sets the state of a {type(self).__name__.strip("_").lower()}')

    def build(self) -> Any:
        raise NotImplementedError

    def built(self) -> Any:
        """Return the value, which all holders of the plan share."""
        if self.value is None:
            self.value = self.build()
        return self.value


class Bytes(Plan):
    """A long run of bytes that stays in its file until an array is made of it.

    read: returns them as a writable uint8 array, aligned to a number of bytes. kind: type of the
    value if used outside an array.
    """

    def __init__(self, length: int, read: Callable[[int], np.ndarray], kind: Callable[..., Any]):
        self.length, self.read, self.kind = length, read, kind

    def __len__(self) -> int:
        return self.length

    def build(self) -> Any:
        return self.kind(self.read(1).tobytes())


# ------------------------------------------------------------------------------------------- numpy


class _DType(Plan):
    """A kind of number or text: numpy.dtype with the byte order of its state."""

    def __init__(self, code: str, *_: Any):
        self.code, self.order = code, '='

    def __setstate__(self, state: Any) -> None:
        self.order, self.value = state[1], None

    def build(self) -> np.dtype:
        # Record and object dtypes have states that numpy trusts without a check.
        if not re.fullmatch(r'[biufcSU][1-9]\d{0,8}', self.code) or self.order not in '<>=|':
            raise Refused(f'holds an array of {shown(self.code)}, not of numbers or text')
        kind = np.dtype(self.order + self.code)
        self.native = kind.newbyteorder('=')
        return kind


class _Array(Plan):
    """numpy.ndarray, from numpy's `_reconstruct` and a state."""

    __slots__ = ('state', 'value')

    def __init__(self, *_: Any):
        self.state = self.value = None

    def __setstate__(self, state: Any) -> None:
        self.state, self.value = state[-4:], None  # old numpy omits the leading version
        if len(self.state[-1]
               ) < FEW:  # results have very many; the state takes more memory than the array
            self.built()

    def build(self) -> np.ndarray:
        (shape, dtype, fortran, raw), self.state = self.state, None  # releases the bytes
        make = _array_of_objects if type(raw) is list else _array
        return make(raw, dtype, shape, 'F' if fortran else 'C')


def _array(raw: Any, dtype: _DType, shape: Tuple[int, ...], order: str = 'C') -> np.ndarray:
    if isinstance(raw, str):
        raw = raw.encode('latin1')
    kind = dtype.built()
    _require(math.prod(shape) * kind.itemsize == len(raw), shape)
    stays = isinstance(raw, Bytes)
    array = np.ndarray(shape, kind, raw.read(kind.itemsize) if stays else raw, 0, None, order)
    return array.astype(dtype.native, copy=not stays)  # the result must be writable


def _array_of_objects(items: List[Any], _: object, shape: Tuple[int, ...],
                      order: str) -> np.ndarray:
    _require(math.prod(shape) == len(items), shape)
    array = np.empty(len(items), object)
    for index, item in enumerate(items):  # assigned at once, numpy would look for arrays in them
        array[index] = item
    return array.reshape(shape, order=order)


def _require(fits: bool, shape: Tuple[int, ...]) -> None:
    if not fits:
        raise Refused(f'holds an array of shape {shown(shape)} that has not the bytes for it')


def _scalar(dtype: _DType, raw: Any = b'') -> Any:
    if dtype.code.startswith('O'):
        return raw
    return _array(raw, dtype, ()).item()


# ------------------------------------------------------------------------------------ python's own


def _dict(items: Any = ()) -> Dict[Any, Any]:
    pairs = items.items() if isinstance(items, dict) else items
    return {check_key(key): value for key, value in pairs}


def _config(*arguments: Any) -> Dict[Any, Any]:
    """Return a config dict: mmengine's is built from a dict, addict's from pairs that are then set again."""
    return _dict(arguments[0]) if arguments and isinstance(arguments[0], dict) else {}


def _bytes(text: str = '', encoding: str = 'latin1') -> bytes:
    """Return bytes as protocols before 3 write them; other codecs are refused."""
    if encoding not in ('latin1', 'latin-1'):
        raise Refused(f'calls the codec {shown(encoding)}')
    return text if isinstance(text, (bytes, Bytes)) else codecs.encode(text, 'latin1')


def _attribute(owner: object, name: str) -> Name:
    """Return a name within a name, such as `getattr(HistoryBuffer, 'mean')`."""
    if not isinstance(owner, Name) or not isinstance(name, str):
        raise UnknownName('getattr')
    return Name(f'{owner.path}.{name}')


VALUES: Dict[str, Callable[..., Any]] = {  # values built from a name and its arguments
    'builtins.bytearray': _bytes,
    'builtins.bytes': _bytes,
    'builtins.complex': complex,
    'builtins.dict': _dict,
    'builtins.frozenset': lambda items=(): frozenset(map(check_key, items)),
    'builtins.getattr': _attribute,
    'builtins.set': lambda items=(): set(map(check_key, items)),
    'builtins.slice': slice,
    '_codecs.encode': _bytes,
    'collections.Counter': _dict,
    'collections.OrderedDict': _dict,
    'collections.defaultdict': lambda factory=None, items=(): _dict(items),
    'collections.deque': lambda items=(), maxlen=None: list(items),
    'numpy.dtype': _DType,
    **{
        f'{core}.{name}': value
        for core in ('numpy.core', 'numpy._core') for name, value in {
            'multiarray._reconstruct': _Array,
            'multiarray.scalar': _scalar,
            'numeric._frombuffer': _array,
        }.items()
    },
    **{
        f'{module}.{name}': lambda *parts: '/'.join(parts).replace('//', '/')
        for module in ('pathlib', 'pathlib._local')
        for name in ('Path', 'PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath')
    },
    **{  # dicts with attributes, which hold configs
        name: _config
        for name in ('addict.addict.Dict', 'addict.Dict', 'mmcv.utils.config.ConfigDict',
                     'mmengine.config.config.ConfigDict', 'fvcore.common.config.CfgNode',
                     'detectron2.config.config.CfgNode', 'yacs.config.CfgNode',
                     'lightning_fabric.utilities.data.AttributeDict',
                     'pytorch_lightning.utilities.parsing.AttributeDict')
    },
}

HELD = {  # classes whose instances are kept as a Record
    'argparse.Namespace',
    'datetime.date',
    'datetime.datetime',
    'datetime.timedelta',
    'datetime.timezone',
    'mmcv.utils.config.Config',
    'mmengine.config.config.Config',
    'mmengine.logging.history_buffer.HistoryBuffer',
    'mmengine.logging.message_hub.MessageHub',
    'numpy.ndarray',
    'numpy.random.__RandomState_ctor',
    'numpy.random._pickle.__bit_generator_ctor',
    'numpy.random._pickle.__generator_ctor',
    'numpy.random._pickle.__randomstate_ctor',
    'numpy.random._mt19937.MT19937',
    'numpy.random._pcg64.PCG64',
    'types.SimpleNamespace',
    'uuid.UUID',
}
# Classes used only as an argument, such as the factory of a defaultdict.
NAMED = {f'builtins.{name}' for name in ('bool', 'float', 'int', 'list', 'str', 'tuple')}
OLD_MODULES = {'__builtin__': 'builtins', 'copy_reg': 'copyreg'}  # of Python 2

_PLAIN = (str, bytes, int, float, bool, type(None))


def check_key(value: object) -> Any:
    """Return a dict key or set member, which must be plain: hashing a crafted nested tuple never ends."""
    if isinstance(value, _PLAIN + (Record, complex)) or type(value) is tuple and all(
            isinstance(item, _PLAIN) for item in value) or isinstance(value, Name):
        return value
    raise Refused(f'has a {type(value).__name__} as a key')


# -------------------------------------------------------------------------------------- afterwards

_LEAVES = {str, bytes, int, float, bool, type(None)}


def build_plans(value: Any) -> Any:
    """Return the value with all plans built; dicts and lists are changed in place."""
    seen: Set[int] = set()  # values changed in place: one may contain itself, or occur many times
    tuples: Dict[int, Tuple[Any,
                            Any]] = {}  # id -> (original, which keeps the id unique, and result)

    def settled(value: Any) -> Any:
        if isinstance(value, Plan):
            value = value.built()
        kind = type(value)
        if id(value) in seen or kind is np.ndarray and not value.dtype.hasobject:
            return value
        if kind is tuple:
            if id(value) not in tuples:
                tuples[id(value)] = value, tuple([settled(item) for item in value])
            return tuples[id(value)][1]
        if kind is Name:
            return value.path
        if kind is Record:
            seen.add(id(value))
            value.state, value.items = settled(value.state), settled(value.items)
        elif kind in (dict, list, np.ndarray):
            seen.add(id(value))
            items = value.flat if kind is np.ndarray else value
            for key, item in items.items() if kind is dict else enumerate(list(items)):
                if type(item) not in _LEAVES:
                    items[key] = settled(item)
        return value

    return settled(value)
