"""Reading a pickle as data: nothing that a file names is imported or called.

The interpreter below knows the format's instructions, plain containers and a table of names; what
the table lacks is refused. `torch.load(weights_only=True)` is not used because it refuses what
OpenMMLab's files hold, and because before torch 2.10 a crafted file could corrupt memory through it
(CVE-2026-24747): here instances are stand-ins that only hold data, and tensors are built from
checked numbers after the pickle has been read.
"""
import codecs
import math
import pickletools
import re
import reprlib
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np


class Refused(Exception):
    """A file asks for more than weights need; says what in words that follow the file's name."""


_brief = reprlib.Repr()
_brief.maxlevel = 2  # crafted lists within lists would be printed for ever


def shown(value: Any) -> str:
    """What a file holds, for a message."""
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
    """What a value will be built from when the whole pickle has been read."""

    def set_state(self, state: Any) -> None:
        raise Refused(f'sets the state of a {type(self).__name__.lower()}')

    def build(self) -> Any:
        raise NotImplementedError


# ------------------------------------------------------------------------------------------- numpy


class _DType(Plan):
    """A kind of number or text: numpy.dtype with the byte order that its state tells."""

    def __init__(self, code: str, *_: Any):
        self.code, self.order = code, '='

    def set_state(self, state: Any) -> None:
        self.order = state[1]

    def build(self) -> np.dtype:
        # Records and objects have states that numpy believes without a check.
        if not re.fullmatch(r'[biufcSU]\d{1,9}', self.code) or self.order not in '<>=|':
            raise Refused(f'holds an array of {shown(self.code)}, not of numbers or text')
        return np.dtype(self.order + self.code)


class _Array(Plan):
    """numpy.ndarray, from numpy's `_reconstruct` and a state."""

    def __init__(self, *_: Any):
        self.state: Tuple[Any, ...] = ()

    def set_state(self, state: Any) -> None:
        self.state = tuple(state)[-4:]  # a version before them is left out by old numpy

    def build(self) -> Any:
        shape, dtype, fortran, raw = self.state
        self.state = ()  # lets go of the bytes
        if isinstance(raw, list):  # of objects
            return raw
        return _array(raw, dtype, shape, 'F' if fortran else 'C')


def _array(raw: Any, dtype: _DType, shape: Any, order: str = 'C') -> np.ndarray:
    raw = raw.encode('latin1') if isinstance(raw, str) else raw
    kind = dtype.build()
    shape = (shape, ) if isinstance(shape, int) else tuple(shape)
    if not all(0 <= size <= max(len(raw), 1)
               for size in shape) or math.prod(shape) * kind.itemsize != len(raw):
        raise Refused(f'holds an array of shape {shown(shape)} that has not the bytes for it')
    array = np.frombuffer(raw, kind, count=math.prod(shape)).reshape(shape, order=order)
    return array.astype(kind.newbyteorder('='))  # a copy, which may be written to


def _scalar(dtype: _DType, raw: Any = b'') -> Any:
    if dtype.code.startswith('O'):
        return raw
    return _array(raw, dtype, ()).item()


# ------------------------------------------------------------------------------------ python's own


def _dict(items: Any = ()) -> Dict[Any, Any]:
    pairs = items.items() if isinstance(items, dict) else items
    return {_key(key): value for key, value in pairs}


def _config(*arguments: Any) -> Dict[Any, Any]:
    """mmengine's is built of a dict; addict's of its pairs, which the pickle then sets once more."""
    return _dict(arguments[0]) if arguments and isinstance(arguments[0], dict) else {}


def _bytes(text: str = '', encoding: str = 'latin1') -> bytes:
    """How protocols before 3 write bytes; other codecs could do more."""
    if encoding not in ('latin1', 'latin-1'):
        raise Refused(f'calls the codec {shown(encoding)}')
    return text if isinstance(text, bytes) else codecs.encode(text, 'latin1')


def _attribute(owner: Any, name: str) -> Name:
    """`getattr(HistoryBuffer, 'mean')`, a name within a name."""
    if not isinstance(owner, Name) or not isinstance(name, str):
        raise UnknownName('getattr')
    return Name(f'{owner.path}.{name}')


VALUES: Dict[str, Callable[..., Any]] = {  # what is built of a name and its arguments
    'builtins.bytearray': _bytes,
    'builtins.complex': complex,
    'builtins.dict': _dict,
    'builtins.frozenset': lambda items=(): frozenset(map(_key, items)),
    'builtins.getattr': _attribute,
    'builtins.set': lambda items=(): set(map(_key, items)),
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
    **{  # dicts with attributes, in which configs are kept
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
# Classes that only wait to be an argument, such as the factory of a defaultdict.
NAMED = {f'builtins.{name}' for name in ('bool', 'bytes', 'float', 'int', 'list', 'str', 'tuple')}
OLD_MODULES = {'__builtin__': 'builtins', 'copy_reg': 'copyreg'}  # Python 2's

_PLAIN = (str, bytes, int, float, bool, type(None))


def _key(value: Any) -> Any:
    """A key of a dict or member of a set: plain, because hashing a crafted nest of tuples takes for
    ever."""
    if isinstance(value, _PLAIN + (Record, complex)) or type(value) is tuple and all(
            isinstance(item, _PLAIN) for item in value) or isinstance(value, Name):
        return value
    raise Refused(f'has a {type(value).__name__} as a key')


# --------------------------------------------------------------------------------------- the reader


class _Machine:
    """The stack of a pickle, with one method for each instruction that data need."""

    def __init__(self, values: Mapping[str, Callable[..., Any]],
                 persistent: Optional[Callable[[Any], Any]]):
        self.values = values
        self.persistent = persistent
        self.stack: List[Any] = []
        self.below: List[List[Any]] = []  # stacks under each mark
        self.memo: Dict[int, Any] = {}

    def run(self, file: Any) -> Any:
        steps = {
            opcode.name: getattr(self, f'do_{opcode.name.lower()}', None)
            for opcode in pickletools.opcodes
        }
        for opcode, argument, _ in pickletools.genops(file):
            step = steps[opcode.name]
            if step is not None:
                step(argument)
            elif opcode.name in _CONSTANTS:
                self.stack.append(argument)
            elif opcode.name in _FRESH:
                self.stack.append(_FRESH[opcode.name]())
            elif opcode.name not in ('PROTO', 'FRAME', 'STOP'):
                raise Refused(
                    f'uses the pickle instruction {opcode.name}, which weights do not need')
        return self.stack.pop()

    def popped(self) -> List[Any]:
        """What stands above the last mark."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def do_mark(self, _: None) -> None:
        self.below.append(self.stack)
        self.stack = []

    def do_pop(self, _: None) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.popped()

    def do_pop_mark(self, _: None) -> None:
        self.popped()

    def do_dup(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    # --- containers

    def do_tuple(self, _: None) -> None:
        items = self.popped()
        self.stack.append(tuple(items))

    def do_tuple1(self, _: None) -> None:
        self.stack[-1:] = [(self.stack[-1], )]

    def do_tuple2(self, _: None) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def do_tuple3(self, _: None) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def do_list(self, _: None) -> None:
        items = self.popped()
        self.stack.append(list(items))

    def do_dict(self, _: None) -> None:
        items = self.popped()
        self.stack.append({})
        self.fill(items)

    def do_frozenset(self, _: None) -> None:
        items = self.popped()
        self.stack.append(frozenset(map(_key, items)))

    def do_append(self, _: None) -> None:
        item = self.stack.pop()
        self.extend([item])

    def do_appends(self, _: None) -> None:
        self.extend(self.popped())

    def extend(self, items: List[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise Refused(f'appends to a {type(target).__name__}')
        target.extend(items)

    def do_additems(self, _: None) -> None:
        items = self.popped()
        if type(self.stack[-1]) is not set:
            raise Refused(f'adds items to a {type(self.stack[-1]).__name__}')
        self.stack[-1].update(map(_key, items))

    def do_setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.fill([key, value])

    def do_setitems(self, _: None) -> None:
        self.fill(self.popped())

    def fill(self, items: List[Any]) -> None:
        target = self.stack[-1].items if isinstance(self.stack[-1], Record) else self.stack[-1]
        if type(target) is not dict:
            raise Refused(f'sets items of a {type(target).__name__}')
        target.update(zip(map(_key, items[::2]), items[1::2]))

    # --- what has been said before

    def do_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    do_binput = do_long_binput = do_put

    def do_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    do_binget = do_long_binget = do_get

    # --- names and instances

    def do_global(self, argument: str) -> None:
        module, _, name = argument.partition(' ')
        self.name(module, name)

    def do_stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def name(self, module: str, name: str) -> None:
        path = f'{OLD_MODULES.get(module, module)}.{name}'
        if path not in self.values and path not in HELD and path not in NAMED:
            raise UnknownName(path)
        self.stack.append(Name(path))

    def do_reduce(self, _: None) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, Name) or type(arguments) is not tuple:
            raise Refused(f'calls a {type(name).__name__}')
        if name.path in self.values:
            self.stack.append(self.values[name.path](*arguments))
        elif name.path in HELD:
            self.stack.append(Record(name.path, arguments))
        else:
            raise UnknownName(name.path)

    do_newobj = do_reduce

    def do_newobj_ex(self, _: None) -> None:
        named = self.stack.pop()
        if named:
            raise Refused('builds an instance with named arguments')
        self.do_reduce(None)

    def do_build(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Plan):
            target.set_state(state)
        elif isinstance(target, Record):
            target.state = state
        elif type(target) not in (dict, str):  # attributes beside the data: `_metadata`
            raise Refused(f'sets the state of a {type(target).__name__}')

    def do_persid(self, argument: str) -> None:
        raise Refused(f'refers to {argument!r} outside of the file')

    def do_binpersid(self, _: None) -> None:
        if self.persistent is None:
            raise Refused('refers to values outside of the file')
        self.stack.append(self.persistent(self.stack.pop()))


_CONSTANTS = {
    'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT', 'STRING',
    'BINSTRING', 'SHORT_BINSTRING', 'UNICODE', 'SHORT_BINUNICODE', 'BINUNICODE', 'BINUNICODE8',
    'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8'
}
_FRESH: Dict[str, Callable[[], Any]] = {
    'NONE': lambda: None,
    'NEWTRUE': lambda: True,
    'NEWFALSE': lambda: False,
    'EMPTY_TUPLE': tuple,
    'EMPTY_LIST': list,
    'EMPTY_DICT': dict,
    'EMPTY_SET': set,
}


def load(file: Any,
         values: Mapping[str, Callable[..., Any]] = VALUES,
         persistent: Optional[Callable[[Any], Any]] = None) -> Any:
    """The value of the pickle at the file's position, with plans where arrays and tensors will be.

    values: name -> function that builds plain data or a Plan of a pickle's arguments. persistent:
    the same for references out of the pickle. Raises Refused, and whatever a broken file leads to.
    """
    return _Machine(values, persistent).run(file)


def settle(value: Any, done: Optional[Dict[int, Any]] = None) -> Any:
    """The value with everything built that is still a plan; dicts and lists are changed in place."""
    done = {} if done is None else done
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, Plan):
        built = value.build()
    elif isinstance(value, Name):
        built = value.path
    elif type(value) is tuple:
        built = tuple(settle(item, done) for item in value)
    elif type(value) in (dict, list, Record):
        done[id(value)] = value, value  # before its items, which may hold it again
        if type(value) is Record:
            value.state, value.items = settle(value.state, done), settle(value.items, done)
        for key in list(value) if type(value) is dict else range(
                len(value)) if type(value) is list else ():
            value[key] = settle(value[key], done)
        return value
    else:
        return value
    done[id(value)] = value, built  # the first keeps its id its own
    return built
