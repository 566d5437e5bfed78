"""What kind of file weights come in, told by its content, and reading it."""
import codecs
import json
import math
import os
from typing import Any, Callable, Dict, Tuple

import torch
from torch import Tensor

from mmdet_ft.checkpoints import safe_pickle
from mmdet_ft.checkpoints.mapped_file import MappedFile
from mmdet_ft.checkpoints.torch_files import LEGACY_MAGIC, read_legacy, read_zip
from mmdet_ft.pickle_values import Refused, settle, shown

SAFETENSORS = {
    'BF16': torch.bfloat16, 'BOOL': torch.bool, 'F16': torch.float16, 'F32': torch.float32,
    'F64': torch.float64, 'F8_E4M3': torch.float8_e4m3fn, 'F8_E5M2': torch.float8_e5m2,
    'I16': torch.int16, 'I32': torch.int32, 'I64': torch.int64, 'I8': torch.int8,
    'U16': torch.uint16, 'U32': torch.uint32, 'U64': torch.uint64, 'U8': torch.uint8
}  # yapf: disable
OTHERS = (  # first bytes -> what the file is and what to do
    (b'version https://git-lfs', 'is a pointer of Git LFS, not the weights: run `git lfs pull`'),
    (b'\x1f\x8b', 'is compressed by gzip: unpack it'),
    (b'\xfd7zXZ', 'is compressed by xz: unpack it'),
    (b'BZh', 'is compressed by bzip2: unpack it'),
    (b'Rar!', 'is a RAR archive: unpack it'),
    (b'7z\xbc\xaf', 'is a 7z archive: unpack it'),
    (b'\x89HDF', 'is an HDF5 file (Keras?), whose weights are not read here'),
    (b'\x93NUMPY', 'is a single numpy array'),
    (b'PK\x05\x06', 'is an empty zip archive'),
)


def read_file(path: str) -> Any:
    """The content of a file of weights, as plain data and tensors; nothing in it is run.

    Raises Refused with what is wrong, in words that follow the file's name.
    """
    if os.path.getsize(path) == 0:
        raise Refused('is empty')
    file = MappedFile(path)
    reader = reader_of(file)
    try:
        return reader(file)
    except Refused:
        raise
    except RecursionError:
        raise Refused('is nested too deeply for a file of weights') from None
    except Exception as error:  # a broken file breaks its reader anywhere
        first_line = str(error).partition('\n')[0][:200]
        raise Refused(f'is broken or cut short ({len(file)} bytes): '
                      f'{first_line or type(error).__name__}') from error


def reader_of(file: MappedFile) -> Callable[[MappedFile], Any]:
    """The function that reads a file, by its content; raises Refused where there is none."""
    start = file.bytes[:1024]
    for is_of_kind, reader in KINDS:
        if is_of_kind(file, start):
            return reader
    raise Refused(_what(start))


def _what(start: bytes) -> str:
    for magic, words in OTHERS:
        if start.startswith(magic):
            return words
    if start[257:262] == b'ustar':
        return 'is a tar archive: unpack it'
    if start.lstrip()[:1] == b'<':
        return ('is a web page, not weights: whoever fetched it was given a page of '
                'the site; open its address in a browser and save the file behind it')
    if _is_text(start):
        return f'is a text, not weights; it begins with {start[:40].decode("utf-8", "replace")!r}'
    return f'is no file of weights that is known here; it begins with the bytes {start[:8].hex(" ")}'


def _is_text(start: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder('utf-8')().decode(start)  # a last letter may be cut
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)


def read_pickle(file: MappedFile) -> Any:
    """A dict of numpy arrays (Detectron2)."""
    with open(file.path, 'rb') as stream:
        return settle(safe_pickle.load(stream, read_later=file.numbers))


def _is_safetensors(file: MappedFile, start: bytes) -> bool:
    return start[8:9] == b'{' and int.from_bytes(start[:8], 'little') + 8 <= len(file)


def _read_safetensors(file: MappedFile) -> Dict[str, Any]:
    """An index in json (name -> dtype, shape, data_offsets) behind its length in 8 bytes; then the
    numbers."""
    begin = 8 + int.from_bytes(file.bytes[:8], 'little')
    index = json.loads(file.bytes[8:begin].decode('utf-8'))
    metadata = index.pop('__metadata__', {})
    return dict(
        state_dict={
            name: _safetensor(file, begin, name, **entry)
            for name, entry in index.items()
        },
        metadata=metadata)


def _safetensor(file: MappedFile, begin: int, name: str, dtype: str, shape: Any,
                data_offsets: Any) -> Tensor:
    kind = SAFETENSORS.get(dtype)
    numbers = (*shape, *data_offsets)
    if kind is None or not all(type(number) is int and number >= 0 for number in numbers):
        raise Refused(f'has an index that says of {name:.100}: dtype {shown(dtype)}, shape '
                      f'{shown(shape)}, data_offsets {shown(data_offsets)}')
    num_values = math.prod(shape)
    if data_offsets[1] - data_offsets[0] != num_values * kind.itemsize:
        raise Refused(
            f'gives {name:.100} {data_offsets[1] - data_offsets[0]} bytes for shape {shown(shape)} of {dtype}'
        )
    return file.values(begin + data_offsets[0], num_values, kind).view(shape)


# How each kind is recognised (of the file and its first bytes) and read; the most telling first.
KINDS: Tuple[Tuple[Callable[[MappedFile, bytes], bool], Callable[[MappedFile], Any]], ...] = (
    (lambda file, start: start.startswith(b'PK\x03\x04'), read_zip),
    (_is_safetensors, _read_safetensors),
    (lambda file, start: LEGACY_MAGIC in start[:24], read_legacy),
    # Protocols 2 and up begin with 0x80; 0 and 1 with a dict or a mark.
    (lambda file, start: start[:1] == b'\x80' or start[:2] in
     (b'(d', b'}q', b'(l', b']q'), read_pickle),
)
