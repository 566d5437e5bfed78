"""Reading of each file format of weights; file_formats.py detects it."""
import json
import math
import os
import re
from typing import Any, Callable, Dict, Sequence

import torch
from torch import Tensor

from mmdet_ft.checkpoints import file_formats, safe_pickle
from mmdet_ft.checkpoints.mapped_file import MappedFile
from mmdet_ft.checkpoints.torch_files import read_legacy, read_zip
from mmdet_ft.pickle_values import Refused, build_plans, shown

SAFETENSORS = {
    'BF16': torch.bfloat16, 'BOOL': torch.bool, 'F16': torch.float16, 'F32': torch.float32,
    'F64': torch.float64, 'F8_E4M3': torch.float8_e4m3fn, 'F8_E5M2': torch.float8_e5m2,
    'I16': torch.int16, 'I32': torch.int32, 'I64': torch.int64, 'I8': torch.int8,
    'U16': torch.uint16, 'U32': torch.uint32, 'U64': torch.uint64, 'U8': torch.uint8
}  # yapf: disable


def read_file(path: str) -> Any:
    """Return the content of a weights file as plain data and tensors, without running anything in it.

    Raises Refused with the problem, worded to follow the file's name.
    """
    if os.path.getsize(path) == 0:  # it cannot be mapped
        raise Refused(file_formats.describe_wrong_file(path))
    file = MappedFile(path)
    reader = choose_reader(file)
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


def choose_reader(file: MappedFile) -> Callable[[MappedFile], Any]:
    """Return the function that reads a file, chosen by its content; raises Refused for an unknown format."""
    name = file_formats.detect_format(file.path)
    if name is None:
        raise Refused(file_formats.describe_wrong_file(file.path))
    return READERS[name]


def read_pickle(file: MappedFile) -> Any:
    """Read a pickled dict of numpy arrays (Detectron2)."""
    with open(file.path, 'rb') as stream:
        return build_plans(safe_pickle.load(stream, read_later=file.numbers))


def _read_safetensors(file: MappedFile) -> Dict[str, Any]:
    """Read safetensors: 8 bytes with the length of the index, the index in json (name -> dtype,
    shape, data_offsets), and the data."""
    begin = 8 + int.from_bytes(file.bytes[:8], 'little')
    index = json.loads(file.bytes[8:begin].decode('utf-8'))
    metadata = index.pop('__metadata__', {})
    return dict(
        state_dict={
            name: _read_safetensor(file, begin, name, **entry)
            for name, entry in index.items()
        },
        metadata=metadata)


def _read_safetensor(file: MappedFile, begin: int, name: str, dtype: str, shape: Sequence[int],
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
    return _merge_shards(
        os.path.dirname(path), names, f'is shard {int(match["number"])} of {count}')


def _merge_shards(folder: str, names: Sequence[str], what: str) -> Dict[str, Any]:
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


def _read_index(file: MappedFile) -> Dict[str, Any]:
    """Read the shards listed in a json index, whose `weight_map` maps each weight to its file."""
    weight_map = json.loads(file.bytes[:].decode('utf-8')).get('weight_map')
    names = sorted(set(weight_map.values())) if isinstance(weight_map, dict) else []
    if not names or not all(
            isinstance(name, str) and os.path.basename(name) == name for name in names):
        raise Refused('is a list of shards that names no files beside it')
    return _merge_shards(os.path.dirname(file.path), names, f'is the list of {len(names)} shards')


READERS: Dict[str, Callable[[MappedFile], Any]] = {  # by the names of file_formats.FORMATS
    'zip': read_zip,
    'safetensors': _read_safetensors,
    'legacy': read_legacy,
    'index': _read_index,
    'pickle': read_pickle,
}
