"""Published files: downloads, checked by md5."""
import contextlib
import hashlib
import os
import os.path as osp
import urllib.error
import urllib.request
from typing import Iterator, Optional, Sequence

from mmdet_ft.datasets.errors import DataError
from mmdet_ft.offline import REASON, is_offline
from mmdet_ft.untrusted import extract

CHUNK = 1 << 20


def check_md5(path: str, md5: str) -> None:
    """Raise DataError when a file differs from the published one."""
    digest = hashlib.md5()
    with open(path, 'rb') as file:
        for chunk in iter(lambda: file.read(CHUNK), b''):
            digest.update(chunk)
    if digest.hexdigest() != md5:
        raise DataError(
            f'{path} is not the published file: its md5 is {digest.hexdigest()}, not {md5}. Fetch it '
            f'again; for data of your own in this form write check_md5=False in the dataset')


def fetch(urls: Sequence[str], path: str, md5: str) -> None:
    """Download `path` from the first working address, completely or not at all; processes of one machine do it once.

    Raises DataError with all addresses and their errors.
    """
    if is_offline():
        raise DataError(f'cannot download {path}: {REASON}; put the file there by hand')
    try:
        os.makedirs(osp.dirname(path) or '.', exist_ok=True)
        with _lock_file(f'{path}.lock'):
            if osp.exists(path):  # another process was first
                return
            answers = []
            for url in urls:
                try:
                    return _download(url, path, md5)
                except (urllib.error.URLError, OSError, DataError) as error:
                    answers.append(f'{url}: {error}')
    except OSError as error:
        answers = [str(error)]
    raise DataError(f'cannot download {path}; put the file there by hand. ' + '; '.join(answers))


def _download(url: str, path: str, md5: str) -> None:
    part, digest = f'{path}.part', hashlib.md5()
    try:
        with urllib.request.urlopen(url, timeout=60) as source, open(part, 'wb') as target:
            for chunk in iter(lambda: source.read(CHUNK), b''):
                digest.update(chunk)
                target.write(chunk)
        if digest.hexdigest() != md5:
            raise DataError(f'what came has the md5 {digest.hexdigest()}, not {md5}')
        os.replace(part, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(part)


@contextlib.contextmanager
def _lock_file(path: str) -> Iterator[None]:
    """Allow only one process at a time, where the system supports that."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with open(path, 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def unpack(archive: str, md5: Optional[str]) -> None:
    """Unpack an archive next to itself, after checking its md5; processes of one machine take turns.

    Raises DataError when it differs from the published file or the folder cannot be written,
    UntrustedFileError when it is broken or tries to write elsewhere.
    """
    if md5 is not None:
        check_md5(archive, md5)
    try:
        with _lock_file(f'{archive}.lock'):
            extract(archive, osp.dirname(archive))
    except OSError as error:
        raise DataError(f'cannot unpack {archive}: {error}') from error
