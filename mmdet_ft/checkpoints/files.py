"""File formats of weights: detection by content, and reading."""
import codecs
import json
import math
import os
import re
from typing import Any, Callable, Dict, Sequence, Tuple

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
OTHERS = (  # first bytes -> description of the file and advice
    (b'version https://git-lfs', 'is a pointer of Git LFS, not the weights: run `git lfs pull`'),
    (b'\x1f\x8b', 'is compressed by gzip: unpack it'),
    (b'\xfd7zXZ', 'is compressed by xz: unpack it'),
    (b'BZh', 'is compressed by bzip2: unpack it'),
    (b'Rar!', 'is a RAR archive: unpack it'),
    (b'7z\xbc\xaf', 'is a 7z archive: unpack it'),
    (b'\x89HDF', 'is an HDF5 file (Keras?), whose weights are not read here'),
    (b'\x93NUMPY', 'is a single numpy array'),
    (b'GGUF', 'is a GGUF file, whose weights are not read here'),
    (b'ftrt',
     'is an engine of TensorRT, which holds no weights by name: take the checkpoint it was built from'
     ),
    (b'PK\x05\x06', 'is an empty zip archive'),
    (b'\xff\xd8\xff', 'is a JPEG image, not weights'),
    (b'\x89PNG', 'is a PNG image, not weights'),
    (b'%PDF', 'is a PDF, not weights'),
)


def read_file(path: str) -> Any:
    """Return the content of a weights file as plain data and tensors, without running anything in it.

    Raises Refused with the problem, worded to follow the file's name.
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
    except Exception as error:  # a broken file can fail anywhere in its reader
        first_line = str(error).partition('\n')[0][:200]
        raise Refused(f'is broken or cut short ({len(file)} bytes): '
                      f'{first_line or type(error).__name__}') from error


def reader_of(file: MappedFile) -> Callable[[MappedFile], Any]:
    """Return the function that reads a file, chosen by its content; raises Refused for an unknown kind."""
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
    if start[4:8] == b'TFL3':
        return 'is a model of TFLite, whose weights are not read here: take the checkpoint it was converted from'
    # ir_version (field 1, a small number), then a text or the graph (fields 2 to 7).
    if start[:1] == b'\x08' and start[1:2] < b'\x20' and start[2:3] in (b'\x12', b'\x1a', b'\x22',
                                                                        b'\x3a'):
        return (
            'is a model of ONNX, not weights by name: take the checkpoint it was exported from, or save its '
            "initializers: torch.save({w.name: torch.tensor(onnx.numpy_helper.to_array(w)) for w in "
            "onnx.load(path).graph.initializer}, 'weights.pth')")
    if start[8:10] == b'{"' and start[
            6:8] == b'\0\0':  # safetensors with an index longer than the file
        return (
            f'is cut short: its index of safetensors takes {int.from_bytes(start[:8], "little")} bytes, and the '
            'file ends before; fetch it again')
    if start.lstrip()[:5] == b'<?xml' and b'<net ' in start:
        return 'is a network of OpenVINO, not weights by name: take the checkpoint it was converted from'
    if start.lstrip()[:1] == b'<':
        return ('is a web page, not weights: whoever fetched it was given a page of '
                'the site; open its address in a browser and save the file itself')
    if _is_text(start):
        return f'is a text, not weights; it begins with {start[:40].decode("utf-8", "replace")!r}'
    return f'is no file of weights that is known here; it begins with the bytes {start[:8].hex(" ")}'


def _is_text(start: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder('utf-8')().decode(
            start)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)


def read_pickle(file: MappedFile) -> Any:
    """Read a pickled dict of numpy arrays (Detectron2)."""
    with open(file.path, 'rb') as stream:
        return settle(safe_pickle.load(stream, read_later=file.numbers))


def _is_safetensors(file: MappedFile, start: bytes) -> bool:
    return start[8:9] == b'{' and int.from_bytes(start[:8], 'little') + 8 <= len(file)


def _read_safetensors(file: MappedFile) -> Dict[str, Any]:
    """Read safetensors: 8 bytes with the length of the index, the index in json (name -> dtype,
    shape, data_offsets), and the data."""
    begin = 8 + int.from_bytes(file.bytes[:8], 'little')
    index = json.loads(file.bytes[8:begin].decode('utf-8'))
    metadata = index.pop('__metadata__', {})
    return dict(
        state_dict={
            name: _safetensor(file, begin, name, **entry)
            for name, entry in index.items()
        },
        metadata=metadata)


def _safetensor(file: MappedFile, begin: int, name: str, dtype: str, shape: Sequence[int],
                data_offsets: Sequence[int]) -> Tensor:
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


# model-00001-of-00003.safetensors: one of several files that form one set of weights.
SHARD = re.compile(r'(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)')


def read_with_shards(path: str) -> Any:
    """Read a file as `read_file` does; for a shard, read all shards in its folder."""
    match = SHARD.fullmatch(os.path.basename(path))
    if match is None:
        return read_file(path)
    count = int(match['count'])
    names = [
        f'{match["stem"]}-{i + 1:05d}-of-{match["count"]}{match["suffix"]}' for i in range(count)
    ]
    return _merged(os.path.dirname(path), names, f'is shard {int(match["number"])} of {count}')


def _merged(folder: str, names: Sequence[str], what: str) -> Dict[str, Any]:
    absent = [name for name in names if not os.path.isfile(os.path.join(folder, name))]
    if absent:
        raise Refused(
            f'{what}, and not all of them lie beside it: put {", ".join(absent[:4])} there')
    weights: Dict[str, Any] = {}
    for name in names:
        content = read_file(os.path.join(folder, name))
        if not isinstance(content, dict):
            raise Refused(f'{what}, and {name} holds no weights by name')
        inner = content.get('state_dict')
        weights.update(inner if isinstance(inner, dict) else content)
    return dict(state_dict=weights)


def _is_index(file: MappedFile, start: bytes) -> bool:
    return start.lstrip()[:1] == b'{' and file.bytes.find(b'"weight_map"') >= 0


def _read_index(file: MappedFile) -> Dict[str, Any]:
    """Read the shards listed in a json index, whose `weight_map` maps each weight to its file."""
    places = json.loads(file.bytes[:].decode('utf-8')).get('weight_map')
    names = sorted(set(places.values())) if isinstance(places, dict) else []
    if not names or not all(
            isinstance(name, str) and os.path.basename(name) == name for name in names):
        raise Refused('is a list of shards that names no files beside it')
    return _merged(os.path.dirname(file.path), names, f'is the list of {len(names)} shards')


# (check on the file and its first bytes, reader) of each format; the most specific checks first.
KINDS: Tuple[Tuple[Callable[[MappedFile, bytes], bool], Callable[[MappedFile], Any]], ...] = (
    (lambda file, start: start.startswith(b'PK\x03\x04'), read_zip),
    (_is_safetensors, _read_safetensors),
    (lambda file, start: LEGACY_MAGIC in start[:24], read_legacy),
    (_is_index, _read_index),
    # Protocols 2 and up begin with 0x80; 0 and 1 with a dict or a mark.
    (lambda file, start: start[:1] == b'\x80' or start[:2] in
     (b'(d', b'}q', b'(l', b']q'), read_pickle),
)
