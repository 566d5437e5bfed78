"""Readers for torch.save's formats: zip archives since 1.6, pickles followed by raw storages before.

Tensors are views of the mapped file where its layout allows it. Nothing is read before it is used,
and the processes of a machine share the pages.
"""
import io
import math
import zipfile
from typing import IO, Any, Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor

from mmdet_ft.checkpoints import safe_pickle
from mmdet_ft.checkpoints.mapped_file import MappedFile
from mmdet_ft.checkpoints.whole_modules import weights_of_modules
from mmdet_ft.command_names import how_to_run
from mmdet_ft.pickle_values import VALUES, Name, Plan, Refused, UnknownName, build_plans, shown

DTYPES = {
    'BFloat16': torch.bfloat16, 'Bool': torch.bool, 'Byte': torch.uint8, 'Char': torch.int8,
    'ComplexDouble': torch.complex128, 'ComplexFloat': torch.complex64, 'Double': torch.float64,
    'Float': torch.float32, 'Half': torch.float16, 'Int': torch.int32, 'Long': torch.int64,
    'Short': torch.int16, 'Untyped': torch.uint8
}  # yapf: disable
QUANTISED = ('QInt8', 'QInt32', 'QUInt8', 'QUInt4x2', 'QUInt2x4')


class Storage(Plan):
    """A storage in a file, located when the first tensor that uses it is built."""

    def __init__(self, read: Callable[[], Tensor]):
        self.build = read


class TensorPlan(Plan):
    """A tensor as a view of a storage; its size, stride and offset are checked when it is built."""

    def __init__(self,
                 storage: object,
                 offset: int,
                 size: Sequence[int],
                 stride: Sequence[int],
                 dtype: object = None):
        self.arguments = storage, offset, size, stride, dtype

    def __setstate__(self, state: object) -> None:
        """Ignore attributes of the tensor, which weights do not need."""

    def build(self) -> Tensor:
        storage, offset, size, stride, dtype = self.arguments
        if not isinstance(storage, Storage):
            raise Refused('holds a tensor without a storage')
        if len(size) != len(stride) or len(size) > 64 or not _are_counts(offset, *size, *stride):
            raise Refused(
                f'holds a tensor of size {shown(size)}, stride {shown(stride)} and offset '
                f'{shown(offset)}')
        values = storage.built()
        if dtype is not None:
            values = values.view(_dtype(dtype))
        if 0 in size:
            return torch.empty(size, dtype=values.dtype)
        last = offset + sum((number - 1) * step for number, step in zip(size, stride))
        if last >= len(values) or math.prod(size) > len(values):
            raise Refused(
                f'declares a tensor of size {tuple(size)} with {len(values)} numbers for it')
        return values.as_strided(size, stride, offset)


def _dtype(name: object) -> torch.dtype:
    dtype = getattr(torch,
                    name.path.partition('torch.')[2], None) if isinstance(name, Name) else None
    if not isinstance(dtype, torch.dtype):
        raise Refused(f'holds a tensor of {shown(name)}')
    return dtype


def _refuse(what: str) -> Callable[..., Any]:

    def refuse(*_: Any) -> Any:
        raise Refused(f'holds {what}; only dense real tensors are weights here')

    return refuse


def _text(*parts: Any) -> str:
    if not all(isinstance(part, (str, int)) for part in parts):
        raise Refused('builds a text of other things')
    return ':'.join(map(str, parts))


def _of_subclass(function: object, kind: object, arguments: Sequence[Any], state: object) -> Any:
    """Build the plain tensor of a Tensor subclass or of a tensor with attributes."""
    if not isinstance(function, Name) or function.path not in TORCH:
        raise Refused(f'builds a tensor by {shown(function)}')
    return TORCH[function.path](*arguments)


TORCH: Dict[str,
            Callable[..., Any]] = {
                **VALUES,
                'torch._tensor._rebuild_from_type_v2': _of_subclass,
                # Tensors of devices that torch does not support natively.
                'torch._utils._rebuild_device_tensor_from_cpu_tensor': lambda data, *_: data,
                'torch._utils._rebuild_device_tensor_from_numpy': lambda data, *_: data,
                'torch._utils._rebuild_parameter': lambda data, *_: data,
                'torch._utils._rebuild_parameter_with_state': lambda data, *_: data,
                'torch._utils._rebuild_tensor': lambda *arguments: TensorPlan(*arguments[:4]),
                'torch._utils._rebuild_tensor_v2': lambda *arguments: TensorPlan(*arguments[:4]),
                'torch._utils._rebuild_tensor_v3':
                lambda *arguments: TensorPlan(*arguments[:4], arguments[6]),
                'torch._utils._rebuild_meta_tensor_no_storage':
                _refuse('a tensor without values (meta)'),
                'torch._utils._rebuild_nested_tensor': _refuse('a nested tensor'),
                'torch._utils._rebuild_qtensor': _refuse('a quantised tensor'),
                'torch._utils._rebuild_sparse_tensor': _refuse('a sparse tensor'),
                'torch.Size': lambda sizes=(): tuple(sizes),
                'torch.device': _text,
                'torch.torch_version.TorchVersion': _text,
                **{
                    f'{module}.{kind}Storage': _refuse('a storage by itself')
                    for module in ('torch', 'torch.cuda', 'torch.storage')
                    for kind in (*DTYPES, *QUANTISED)
                },
                **{  # dtypes and layouts, which occur only as arguments
                    f'torch.{name}': _refuse(f'torch.{name} as a function')
                    for name, value in vars(torch).items() if isinstance(
                        value, (torch.dtype, torch.layout, torch.qscheme))
                },
                'torch.serialization._get_layout': lambda name: name,
                'torch.Tensor': _refuse('a tensor of the time before torch 0.4'),
                'torch.nn.parameter.Parameter': _refuse('a parameter of the time before torch 0.4'),
            }


def _dtype_of_storage(kind: str) -> torch.dtype:
    name = kind.rpartition('.')[2]
    dtype = DTYPES.get(name[:-len('Storage')])
    if dtype is None:
        raise Refused(f'holds a {name}; only dense real tensors are weights here')
    return dtype


def read_zip(file: MappedFile) -> Any:
    """Read what `torch.save` has written since 1.6: an uncompressed archive of a pickle and one
    record per storage."""
    with open(file.path, 'rb') as opened, _archive(opened, len(file)) as archive:
        records = {info.filename: info for info in archive.infolist()}
        folder = _folder(records)
        order = records.get(f'{folder}byteorder')
        if order is not None and archive.read(order) != b'little':
            raise Refused('was written on a big-endian machine')
        pickled = io.BytesIO(archive.read(f'{folder}data.pkl'))

    @_load_once
    def storage(kind: str, key: str, numel: int) -> Storage:
        dtype = _dtype_of_storage(kind)

        def values() -> Tensor:
            start, num_bytes = _locate_record(file, records[f'{folder}data/{key}'])
            if numel * dtype.itemsize > num_bytes:
                raise Refused(f'declares {numel} numbers where {num_bytes} bytes are')
            return file.values(start, numel, dtype)

        return Storage(values)

    return _finished(*_loaded(pickled, storage))


def _loaded(stream: IO[bytes], storage: Callable[[Any],
                                                 Storage]) -> Tuple[Any, Optional[UnknownName]]:
    """Unpickle the value at the stream's position, with plans for its tensors.

    Objects of unknown classes are kept as data; the second value is then the error to raise for them.
    """
    start = stream.tell()
    try:
        return safe_pickle.load(stream, TORCH, storage), None
    except UnknownName as refused:
        stream.seek(start)
        try:
            return safe_pickle.load(stream, TORCH, storage, hold_all=True), refused
        except Refused as other:  # a class of Python itself, the more dangerous one
            raise (other if isinstance(other, UnknownName) else refused) from None


def _finished(value: object, refused: Optional[UnknownName]) -> Any:
    """Build the tensors of a value; if it has unknown objects, take the weights of the modules in it.

    Raises `refused` if there is no module.
    """
    value = build_plans(value)
    if refused is None:
        return value
    content = weights_of_modules(value)
    if content is None:
        raise refused
    return content


def _archive(opened: IO[bytes], size: int) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(opened)
    except zipfile.BadZipFile:
        raise Refused(
            f'is broken or cut short ({size} bytes): the directory at the end of the archive is not there; '
            'fetch or copy the file again') from None


def _folder(records: Dict[str, zipfile.ZipInfo]) -> str:
    """Return the folder of torch's files in the archive; raise Refused for archives that torch.save
    does not write."""
    pickles = [name for name in records if name.split('/')[1:] == ['data.pkl']]
    if not pickles:
        raise Refused(_other_archive(list(records)))
    folder = pickles[0][:-len('data.pkl')]
    if f'{folder}constants.pkl' in records:
        raise Refused('is a TorchScript program; save its state_dict() with torch.save instead: '
                      "torch.save(torch.jit.load(path, 'cpu').state_dict(), 'weights.pth')")
    if any(record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size
           for record in records.values()):
        raise Refused(
            'is a compressed archive, which torch.save never writes: unpack and store it, '
            'or save it again')
    return folder


WEIGHTS = ('.pth', '.pt', '.safetensors', '.ckpt', '.bin', '.pkl'
           )  # suffixes of files inside an archive


def _other_archive(names: List[str]) -> str:
    """Describe what a zip archive without torch's pickle is, and what to do with it."""
    if any(name.endswith('.npy') for name in names):
        return (
            f'is a .npz of numpy arrays: `{how_to_run("npz_to_pth")}` turns those of a classifier '
            "into weights; others: torch.save({name: torch.from_numpy(value) for name, value in "
            "numpy.load(path).items()}, 'weights.pth')")
    if any(name.endswith(('archive_format', 'serialized_exported_program.json')) for name in names):
        return ('is a program of torch.export (.pt2); save its weights: '
                "torch.save(torch.export.load(path).state_dict, 'weights.pth')")
    if any(name.endswith('.weights.h5') for name in names):
        return 'is a model of Keras, whose weights are not read here'
    inside = [name for name in names if name.endswith(WEIGHTS)]
    if inside:
        return f'is a zip archive that holds {", ".join(inside[:4])}: unpack it, and name that file'
    return f'is a zip archive, but not of torch; it has {", ".join(names[:4])}'


def _locate_record(file: MappedFile, record: zipfile.ZipInfo) -> Tuple[int, int]:
    """Return the offset and the size of a record's data, in bytes; a header of 30 bytes, the
    record's name and padding precede them."""
    header = file.bytes[record.header_offset:record.header_offset + 30]
    lengths = int.from_bytes(header[26:28], 'little') + int.from_bytes(header[28:30], 'little')
    return record.header_offset + 30 + lengths, record.file_size


def _load_once(storage: Callable[..., Storage]) -> Callable[[Any], Storage]:
    """Turn a function of a storage's kind, key and count into pickle's `persistent_load`. Equal
    references give the same storage, so that tensors share it again."""
    storages: Dict[Any, Storage] = {}

    def persistent(reference: object) -> Storage:
        if type(reference) is tuple and len(reference) == 4 and reference[0] == 'module':
            return reference[
                1]  # a class name with its source code: how modules were saved before 1.6
        if type(reference) is not tuple or len(reference) < 5 or reference[0] != 'storage':
            what = reference[0] if type(reference) is tuple and reference else reference
            raise Refused(f'holds a {shown(what)} by reference, where only storages are read')
        _, kind, key, _, numel, *view = reference
        if not isinstance(kind, Name) or type(
                key) is not str or not _are_counts(numel) or view not in ([], [None]):
            raise Refused(f'refers to a storage as {shown(reference)}')
        index = kind.path, key, numel
        if index not in storages:
            storages[index] = storage(*index)
        return storages[index]

    return persistent


def _are_counts(*numbers: Any) -> bool:
    return all(type(number) is int and 0 <= number < 2**62 for number in numbers)


def read_legacy(file: MappedFile) -> Any:
    """Read what torch.save wrote before 1.6: pickles of a magic number, a version, the machine, the
    content and the storages' keys; then each storage, preceded by its count."""
    stream = file.bytes
    stream.seek(0)
    _, version, machine = [safe_pickle.load(stream) for _ in range(3)]
    if version != 1001 or not machine.get('little_endian'):
        raise Refused(
            f'is of version {shown(version)} on {shown(machine)}, where 1001 and little_endian are read'
        )
    dtypes: Dict[Any, torch.dtype] = {}
    indices: Dict[Any, Tuple[int, int]] = {}

    @_load_once
    def storage(kind: str, key: str, numel: int) -> Storage:
        dtypes[key] = _dtype_of_storage(kind)
        return Storage(lambda: file.values(*indices[key], dtypes[key]))

    content, refused = _loaded(stream, storage)
    keys = safe_pickle.load(stream)
    position = stream.tell()
    for key in keys:
        numel = int.from_bytes(stream[position:position + 8], 'little')
        indices[key] = position + 8, numel
        position += 8 + numel * dtypes[key].itemsize
    if position > len(file):
        raise Refused(f'is cut short: it should have {position} bytes and has {len(file)}')
    return _finished(content, refused)
