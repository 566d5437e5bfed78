"""Download of files into the cache: once, complete, verified by hash, and resumable."""
import contextlib
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import socket
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import IO, Any, Callable, Iterator, Mapping, Optional, Tuple

from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.offline import REASON, is_offline

try:
    import fcntl
except ImportError:  # Windows: every process downloads its own copy
    fcntl = None  # type: ignore[assignment]

STALL_SECONDS = 30  # without data before a connection is closed
ATTEMPTS = 3  # in a row without progress
PAUSE_SECONDS = 1.  # before the second, twice that before the third
CHUNK = 1 << 18

logger = logging.getLogger('mmdet_ft')


class Failure(Exception):
    """A failed download, with a message for the user."""


class Interruption(Failure):
    """A failure that another attempt may overcome."""


def cache_path(url: str) -> str:
    """Return the cache path of a URL's file, where it can also be put by hand.

    A name with a hash is kept, as in torch.hub and torchvision. Other names get a folder per URL, so
    that the `latest.pth` of two sites are not confused.
    """
    name = os.path.basename(urllib.parse.unquote(urllib.parse.urlsplit(url).path))
    name = name if name.strip('.') else 'weights'
    from torch import hub  # the import takes seconds, and local paths do not need it
    folder = os.path.join(hub.get_dir(), 'checkpoints')
    if hash_of(name) is None:
        folder = os.path.join(folder, hashlib.sha256(url.encode()).hexdigest()[:8])
    return os.path.join(folder, name)


def hash_of(name: str) -> Optional[str]:
    """Return the first digits of the sha256 in a name such as `model-0676ba61.pth`; None without one."""
    found = re.search(r'-([0-9a-f]{8,64})(?:\.\w+)+$', name)
    if found is None or re.fullmatch(r'(19|20)\d\d(0[1-9]|1[0-2])[0-3]\d', found.group(1)):
        return None  # the latter is a date
    return found.group(1)


def fetch(url: str) -> str:
    """Return the local path of a URL's file, after downloading it unless it is in the cache.

    Raises CheckpointError with the cause and the path where a manually downloaded copy is found.
    """
    try:
        path = cache_path(url)
    except ValueError as error:
        raise CheckpointError(f'cannot download {url}: {error}') from None
    if os.path.isfile(path):
        return path
    if is_offline():
        raise CheckpointError(f'cannot download {url}: {REASON}. '
                              f'A copy fetched by other means is found at {path}')
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with _lock_file(path) as (partial, notes):
            if not os.path.isfile(path):  # another process may have downloaded it meanwhile
                _download(url, partial, notes)
                _check_hash(partial, hash_of(os.path.basename(path)))
                os.replace(partial, path)
    except Failure as failure:
        raise CheckpointError(f'cannot download {url}: {failure}. '
                              f'A copy fetched by other means is found at {path}') from None
    except OSError as error:
        raise CheckpointError(
            f'cannot download {url}: {error.strerror or error} ({error.filename or path}). The environment '
            f'variable TORCH_HOME names another folder for downloads; a copy fetched by other means is found at '
            f'{path}') from None
    return path


@contextlib.contextmanager
def _lock_file(path: str) -> Iterator[Tuple[str, IO[str]]]:
    """Lock a download for one process, also across machines that share the disk; yield the path of
    the partial file and the file of notes about it.

    The kernel locks the notes file, so the lock of a process that dies is released.
    """
    partial, name = f'{path}.partial', f'{path}.lock'
    while True:
        notes = open(name, 'a+', encoding='utf-8')
        if not _lock(notes, path):
            partial = f'{path}.{os.getpid()}.partial'
            break
        # The previous owner may have removed the lock file meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(notes.fileno()), os.stat(name)):
                break
        notes.close()
    try:
        yield partial, notes
    finally:
        if _size(partial) == 0:  # nothing to resume from
            for leftover in (partial, name):
                with contextlib.suppress(OSError):
                    os.remove(leftover)
        notes.close()


def _lock(notes: IO[str], path: str) -> bool:
    """Wait for the lock; return False if locks are unavailable (Windows, some network disks)."""
    if fcntl is None:
        return False
    try:
        try:
            fcntl.flock(notes, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info('another process is fetching %s: waiting for it', path)
            fcntl.flock(notes, fcntl.LOCK_EX)
    except OSError:
        return False
    return True


def _download(url: str, partial: str, notes: IO[str]) -> None:
    """Download the whole file to `partial`, resuming after interruptions as long as there is progress."""
    attempt = 0
    while True:
        before = _size(partial)
        try:
            return _transfer(url, partial, notes)
        except Interruption as interruption:
            attempt = attempt + 1 if _size(partial) <= before else 1
            if attempt >= ATTEMPTS:
                kept = _size(partial)
                raise Failure(f'{interruption}' +
                              (f'; {_megabytes(kept)} are kept, and the next try resumes from there'
                               if kept else '')) from None
            logger.warning('%s: %s; trying again', url, interruption)
            time.sleep(PAUSE_SECONDS * attempt)


def _transfer(url: str, partial: str, notes: IO[str]) -> None:
    """Send one request, for the missing bytes only if the server supports that."""
    done = _size(partial)
    headers = {'User-Agent': 'mmdet_ft', 'Accept-Encoding': 'identity'}
    validator = _read_validator(notes, url)
    if done and (validator or hash_of(os.path.basename(cache_path(url)))):
        headers['Range'] = f'bytes={done}-'
        if validator:  # else the hash shows whether the parts belong together
            headers['If-Range'] = validator
    try:
        with _open(url, headers) as response:
            total = _check_response(response, url, partial, notes)
            done = _size(partial)
            with open(partial, 'ab') as file, _progress(url, done, total) as advance:
                while True:
                    chunk = _read_chunk(response)
                    if not chunk:
                        break
                    if file.tell() == 0 and chunk.lstrip()[:1] == b'<':
                        raise _web_page_failure()
                    file.write(chunk)
                    advance(len(chunk))
                file.flush()
                os.fsync(file.fileno())
    except socket.timeout:  # TimeoutError since Python 3.10
        raise Interruption(f'the server sent nothing for {STALL_SECONDS:g} s') from None
    except (ConnectionError, http.client.HTTPException) as error:
        raise Interruption(f'the connection broke ({error or type(error).__name__})') from None
    if total is not None and _size(partial) < total:
        raise Interruption(
            f'the server hung up after {_megabytes(_size(partial))} of {_megabytes(total)}')


def _read_chunk(response: Any) -> bytes:
    """Read the received bytes; raise network errors other than timeouts as ConnectionError."""
    try:
        return response.read1(CHUNK)
    except socket.timeout:
        raise
    except OSError as error:  # from TLS, for example
        raise ConnectionError(error) from None


def _open(url: str, headers: Mapping[str, str]) -> Any:
    try:
        return urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=STALL_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # the download is complete, or the file has changed
            return error
        answer = f'the server answered {error.code} {error.reason}'
        raise (Interruption
               if error.code >= 500 or error.code in (408, 429) else Failure)(answer) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, socket.timeout):
            raise error.reason from None
        raise Failure(str(error.reason)) from None
    except ValueError as error:
        raise Failure(str(error)) from None


def _check_response(response: Any, url: str, partial: str, notes: IO[str]) -> Optional[int]:
    """Check a response's headers, and discard the partial file if it cannot be resumed. Return the
    total size if the server reports it."""
    done = _size(partial)
    about = re.fullmatch(r'bytes (\d+-\d+|\*)/(\d+)', response.headers.get('Content-Range', ''))
    if response.status == 416:
        if about is None or int(about.group(2)) != done:
            os.remove(partial)
            raise Interruption('another file has taken its name')
        return done
    if response.headers.get_content_type() == 'text/html':
        raise _web_page_failure()
    length = response.headers.get('Content-Length')
    missing = int(length) if length is not None else None
    if response.status != 206 or about is None or not about.group(1).startswith(f'{done}-'):
        done = 0
        open(partial, 'wb').close()
        _store_validator(notes, url, response.headers)
    if missing is not None and missing > shutil.disk_usage(os.path.dirname(partial)).free:
        raise Failure(
            f'it needs {_megabytes(missing)}, more than is free in {os.path.dirname(partial)}')
    return None if missing is None else done + missing


def _web_page_failure() -> Failure:
    return Failure(
        'the server answered with a web page (html) instead of weights, as log-in pages and proxies do; '
        'open the URL in a browser')


def _store_validator(notes: IO[str], url: str, headers: Mapping[str, str]) -> None:
    """Store the validator by which the server can check that the file is unchanged."""
    tag = headers.get('ETag', '')
    validator = headers.get('Last-Modified') if tag.startswith('W/') or not tag else tag
    notes.truncate(0)
    json.dump(dict(url=url, validator=validator), notes)
    notes.flush()


def _read_validator(notes: IO[str], url: str) -> Optional[str]:
    notes.seek(0)
    try:
        content = json.load(notes)
    except ValueError:
        return None
    return content.get('validator') if content.get('url') == url else None


def _check_hash(partial: str, expected: Optional[str]) -> None:
    if expected is None:
        return
    digest = hashlib.sha256()
    with open(partial, 'rb') as file:
        while True:
            chunk = file.read(1 << 22)
            if not chunk:
                break
            digest.update(chunk)
    if not digest.hexdigest().startswith(expected):
        os.remove(partial)
        raise Failure(
            f'its sha256 begins with {digest.hexdigest()[:len(expected)]}, not with {expected} as its '
            'name says: it was damaged or changed; nothing of it is kept')


def _size(path: str) -> int:
    return os.path.getsize(path) if os.path.exists(path) else 0


def _megabytes(size: int) -> str:
    return f'{size / 1e6:.1f} MB'


@contextlib.contextmanager
def _progress(url: str, done: int, total: Optional[int]) -> Iterator[Callable[[int], None]]:
    """Show a transient progress bar at a terminal, and log one line."""
    size = 'of unknown size' if total is None else _megabytes(total)
    logger.info('downloading %s (%s%s)', url, size, f', from {_megabytes(done)} on' if done else '')
    if not sys.stderr.isatty():
        yield lambda size: None
        return
    from rich import progress
    from rich.console import Console
    with progress.Progress(
            progress.TextColumn('{task.description}'),
            progress.BarColumn(),
            progress.DownloadColumn(),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True) as bars:
        task = bars.add_task(os.path.basename(cache_path(url)), total=total, completed=done)
        yield lambda size: bars.advance(task, size)
