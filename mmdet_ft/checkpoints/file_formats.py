"""The file format of weights by its first bytes, and what a file is that holds none.

Nothing slow is imported: a command refuses a wrong file before it imports torch.
"""
import codecs
import mmap
import os
from typing import Callable, Dict, Optional

from mmdet_ft import file_kinds

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
    (b'%PDF', 'is a PDF, not weights'),
)
NOT_WEIGHTS = (file_kinds.CONFIG, file_kinds.ANNOTATIONS, file_kinds.LOG, file_kinds.IMAGE)
# The pickled number 0x1950a86a20f9469cfc6c with which torch.save began a file before 1.6.
LEGACY_MAGIC = file_kinds.TORCH_LEGACY + b'.'
HEAD = 1024  # bytes that a format is detected by


def detect_format(path: str) -> Optional[str]:
    """Return the name in FORMATS of a file's format; None if it is no format of weights."""
    with open(path, 'rb') as file:
        start = file.read(HEAD)
    return next((name for name, fits in FORMATS.items() if fits(path, start)), None)


def describe_wrong_file(path: str) -> str:
    """Return what a file is that holds no weights, worded to follow its name; '' if it may hold some."""
    if os.path.getsize(path) == 0:
        return 'is empty'
    if detect_format(path) is not None:
        return ''
    kind = file_kinds.kind_of_file(path)
    if kind in NOT_WEIGHTS:
        return f'is {kind}, expected a checkpoint (.pth)'
    with open(path, 'rb') as file:
        return _describe_content(file.read(HEAD))


def _describe_content(start: bytes) -> str:
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
        return ('is a web page, not weights: the server sent a page instead of the file; open its '
                'address in a browser and save the file itself')
    if _is_text(start):
        return f'is a text, not weights; it begins with {start[:40].decode("utf-8", "replace")!r}'
    return f'is not a weight file of a known format; it begins with the bytes {start[:8].hex(" ")}'


def _is_text(start: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder('utf-8')().decode(
            start)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)


def _is_safetensors(path: str, start: bytes) -> bool:
    return start[8:9] == b'{' and int.from_bytes(start[:8], 'little') + 8 <= os.path.getsize(path)


def _is_index(path: str, start: bytes) -> bool:
    """Return whether a json file lists shards, in whatever order of its keys."""
    if start.lstrip()[:1] != b'{':
        return False
    with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return text.find(b'"weight_map"') >= 0


# Whether a path and the first bytes of its file are of a format; the most specific ones first.
FORMATS: Dict[str, Callable[[str, bytes], bool]] = {
    'zip': lambda path, start: start.startswith(b'PK\x03\x04'),
    'safetensors': _is_safetensors,
    'legacy': lambda path, start: LEGACY_MAGIC in start[:24],
    'index': _is_index,
    # Protocols 2 and up begin with 0x80; 0 and 1 with a dict or a mark.
    'pickle': lambda path, start: start[:1] == b'\x80' or start[:2] in (b'(d', b'}q', b'(l', b']q'),
}
