"""File kinds by their first bytes, for messages to a user who has named the wrong file.

Only the first bytes are read, and nothing slow is imported: a command asks before it imports torch.
"""
import os
import zipfile
from typing import Union

FOLDER, EMPTY, CHECKPOINT, PICKLE = 'a folder', 'an empty file', 'a checkpoint', 'a pickle'
CONFIG, ANNOTATIONS, LOG, JSON = 'a config', 'an annotation file', 'the log of a run', 'a json file'
IMAGE, ARCHIVE, TEXT, UNKNOWN = 'an image', 'an archive', 'a text', ''

HEAD = 1 << 16  # bytes that are read: annotation json names its sections early, a log its mode
TORCH_LEGACY = b'\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19'  # the number at the start of older torch.save files
IMAGES = (b'\xff\xd8\xff', b'\x89PNG', b'BM', b'GIF8', b'II*\0', b'MM\0*')
ARCHIVES = (b'PK', b'\x1f\x8b', b'BZh', b'\xfd7zXZ', b'Rar!', b'7z\xbc\xaf')
ANNOTATION_KEYS = (b'"annotations"', b'"categories"', b'"shapes"', b'"file_name"', b'"bbox"')
LOG_KEYS = (b'"env_info"', b'"mode"', b'"data_time"', b'"eta_seconds"')
CONFIG_KEYS = (b'"model"', b'"_base_"', b'"data"', b'"optimizer"', b'"runner"')


def kind_of_file(path: Union[str, os.PathLike]) -> str:
    """Return the kind of a file: one of the kinds above; UNKNOWN if it is missing or of no known kind."""
    path = os.fspath(path)
    if os.path.isdir(path):
        return FOLDER
    try:
        with open(path, 'rb') as file:
            head = file.read(HEAD)
    except OSError:
        return UNKNOWN
    if not head.strip():
        return EMPTY
    if head.startswith(IMAGES) or head[:4] == b'RIFF' and head[8:12] == b'WEBP':
        return IMAGE
    if head.startswith(ARCHIVES):
        return CHECKPOINT if _is_of_torch(path) else ARCHIVE
    if head[:1] == b'\x80' and head[1:2] in b'\2\3\4\5':
        return CHECKPOINT if TORCH_LEGACY in head[:64] else PICKLE
    if head[8:9] == b'{' and b'"dtype"' in head:  # safetensors: the length of its index comes first
        return CHECKPOINT
    try:
        head.decode('utf-8')
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:  # not a character cut off by the end of the head
            return UNKNOWN
    return _kind_of_text(path, head)


def _kind_of_text(path: str, head: bytes) -> str:
    if path.endswith(('.py', '.yaml', '.yml')):
        return CONFIG
    if head.lstrip()[:1] not in (b'{', b'['):
        return TEXT
    if b'"weight_map"' in head:  # index of shards
        return CHECKPOINT
    if any(key in head for key in CONFIG_KEYS) and not any(key in head
                                                           for key in ANNOTATION_KEYS[:2]):
        return LOG if b'"env_info"' in head else CONFIG
    if any(key in head for key in LOG_KEYS):
        return LOG
    return ANNOTATIONS if any(key in head for key in ANNOTATION_KEYS) else JSON


def _is_of_torch(path: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith('data.pkl') for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
