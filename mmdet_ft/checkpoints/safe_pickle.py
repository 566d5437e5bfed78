"""A pickle reader for data only: nothing that a file names is imported or called.

The interpreter below knows the pickle opcodes, plain containers and a table of names; it refuses
all other names. `torch.load(weights_only=True)` is not used for two reasons. It refuses objects in
OpenMMLab's files, and before torch 2.10 a crafted file could corrupt memory through it
(CVE-2026-24747). Here instances become placeholders that only hold data. Tensors are built from
checked sizes and offsets after the pickle has been read.
"""
import functools
import pickletools
from typing import IO, Any, Callable, Dict, List, Mapping, Optional, Tuple

import numpy as np

from mmdet_ft.pickle_values import (FEW, HELD, NAMED, OLD_MODULES, VALUES, Bytes, Name, Plan,
                                    Record, Refused, UnknownName, check_key)


class _Machine:
    """The stack machine of a pickle, with one method for each opcode that data needs."""

    def __init__(self,
                 values: Mapping[str, Callable[..., Any]],
                 persistent: Optional[Callable[[Any], Any]],
                 read_later: Optional[Callable[[int, int, int], np.ndarray]],
                 hold_all: bool = False):
        self.values = values
        self.hold_all = hold_all
        self.persistent = persistent
        self.read_later = read_later
        self.stack: List[Any] = []
        self.below: List[List[Any]] = []  # stacks under each mark
        self.memo: Dict[int, Any] = {}

    def run(self, file: IO[bytes]) -> Any:
        steps = {
            opcode.code.encode('latin1'): (opcode, getattr(self, f'do_{opcode.name.lower()}', None))
            for opcode in pickletools.opcodes
        }
        while True:
            opcode, step = steps[file.read(1)]
            if self.read_later is not None and opcode.name in _RUNS:
                self.stack.append(self.run_of_bytes(file, *_RUNS[opcode.name]))
                continue
            argument = None if opcode.arg is None else opcode.arg.reader(file)
            if step is not None:
                step(argument)
            elif opcode.name in _CONSTANTS:
                self.stack.append(argument)
            elif opcode.name in _FRESH:
                self.stack.append(_FRESH[opcode.name]())
            elif opcode.name == 'STOP':
                return self.stack.pop()
            elif opcode.name not in ('PROTO', 'FRAME'):
                raise Refused(
                    f'uses the pickle instruction {opcode.name}, which weights do not need')

    def run_of_bytes(self, file: IO[bytes], width: int, kind: Callable[[bytes], Any]) -> Any:
        """Read a length of `width` bytes and as many bytes of data; long data is left in the file."""
        length = int.from_bytes(file.read(width), 'little')
        start = file.tell()
        if length < FEW:
            raw = file.read(length)
            if len(raw) < length:
                raise ValueError('pickle exhausted within bytes')
            return kind(raw)
        file.seek(start + length)
        return Bytes(length, functools.partial(self.read_later, start, length), kind)

    def popped(self) -> List[Any]:
        """Pop and return the items above the last mark."""
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
        self.stack.append(frozenset(map(check_key, items)))

    def do_append(self, _: None) -> None:
        item = self.stack.pop()
        self.extend([item])

    def do_appends(self, _: None) -> None:
        self.extend(self.popped())

    def extend(self, items: List[Any]) -> None:
        target = self.stack[-1]
        if self.hold_all and isinstance(target, Record):
            return
        if type(target) is not list:
            raise Refused(f'appends to a {type(target).__name__}')
        target.extend(items)

    def do_additems(self, _: None) -> None:
        items = self.popped()
        if type(self.stack[-1]) is not set:
            raise Refused(f'adds items to a {type(self.stack[-1]).__name__}')
        self.stack[-1].update(map(check_key, items))

    def do_setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.fill([key, value])

    def do_setitems(self, _: None) -> None:
        self.fill(self.popped())

    def fill(self, items: List[Any]) -> None:
        target = self.stack[-1].items if isinstance(self.stack[-1], Record) else self.stack[-1]
        if type(target) is not dict:
            raise Refused(f'sets items of a {type(target).__name__}')
        target.update(zip(map(check_key, items[::2]), items[1::2]))

    # --- memo

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
        known = path in self.values or path in HELD or path in NAMED
        if not known and (not self.hold_all or path.partition('.')[0] in NEVER_HELD):
            raise UnknownName(path)
        self.stack.append(Name(path))

    def do_reduce(self, _: None) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, Name) or type(arguments) is not tuple:
            raise Refused(f'calls a {type(name).__name__}')
        if name.path in self.values:
            self.stack.append(self.values[name.path](*arguments))
        elif name.path in HELD or self.hold_all:
            self.stack.append(Record(name.path, arguments))
        else:
            raise UnknownName(name.path)

    do_newobj = do_reduce

    def do_newobj_ex(self, _: None) -> None:
        named = self.stack.pop()
        if named and not self.hold_all:
            raise Refused('builds an instance with named arguments')
        self.do_reduce(None)

    def do_build(self, _: None) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Plan):
            target.__setstate__(state)
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


# Python modules whose instances are refused even under hold_all: no network module has instances of them.
NEVER_HELD = {
    'builtins', 'code', 'ctypes', 'importlib', 'multiprocessing', 'nt', 'os', 'pdb', 'posix', 'pty',
    'runpy', 'shutil', 'socket', 'subprocess', 'sys', 'webbrowser'
}
_CONSTANTS = {
    'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT', 'STRING',
    'BINSTRING', 'SHORT_BINSTRING', 'UNICODE', 'SHORT_BINUNICODE', 'BINUNICODE', 'BINUNICODE8',
    'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8', 'BYTEARRAY8'
}
# Opcodes whose bytes may be left in the file if they are many: (width of the length, type of the value).
_RUNS: Dict[str, Tuple[int, Callable[[bytes], Any]]] = {
    'BINBYTES': (4, bytes),
    'BINBYTES8': (8, bytes),
    'BYTEARRAY8': (8, bytearray),
    'BINSTRING': (4, lambda raw: raw.decode('latin1')),
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


def load(file: IO[bytes],
         values: Mapping[str, Callable[..., Any]] = VALUES,
         persistent: Optional[Callable[[Any], Any]] = None,
         read_later: Optional[Callable[[int, int, int], np.ndarray]] = None,
         hold_all: bool = False) -> Any:
    """Unpickle the value at the file's position, with plans for its tensors.

    values: name -> function that builds plain data or a Plan from a pickle's arguments.
    persistent: the same for persistent references.
    read_later: (offset, size, alignment) -> writable uint8 array of these bytes of the file. With
        it, the bytes of large arrays are not read into memory first.
    hold_all: instances of any class become Records, which only hold their data; nothing is imported
        or called.

    Raises Refused, and any exception that a broken file causes.
    """
    return _Machine(values, persistent, read_later, hold_all).run(file)
