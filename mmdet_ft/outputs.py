"""Output paths of commands: never over an input file, and no picture over another one."""
import argparse
import contextlib
import os
import re
import sys
import tempfile
from typing import Any, Dict, Iterable, Iterator, List, Optional, Set, Tuple, Union

from mmdet_ft.errors import UserError

Path = Union[str, 'os.PathLike[str]']

# Formats that keep a picture's colors. Others become .png: a .gif has 256 colors, a .pgm none.
PICTURES = ('.png', '.jpg', '.jpeg', '.jpe', '.bmp', '.tif', '.tiff', '.webp')


class OutputError(UserError):
    """An output that would destroy an input, or that cannot be written."""


class Inputs:
    """The input files of a command. Links count as their targets.

    Args:
        paths: files; None and missing ones are skipped.
    """

    def __init__(self, paths: Iterable[Optional[Path]] = ()):
        self._files: Dict[Tuple[int, int], str] = {}
        self._folders: Dict[Tuple[int, int], str] = {}
        for path in paths:
            self.add(path)

    def add(self, path: Optional[Path]) -> None:
        """Add a file to the inputs."""
        identity = _identity(path)
        if path is not None and identity is not None:
            self._files[identity] = os.fspath(path)

    def add_image(self, path: Optional[Path]) -> None:
        """Add an image to the inputs; no picture is written into its folder either."""
        self.add(path)
        if path is not None:
            self.add_folder(os.path.dirname(os.path.abspath(path)))

    def add_folder(self, folder: Optional[Path]) -> None:
        """Add a folder of images to the inputs: no picture is written into it."""
        identity = _identity(folder)
        if folder is not None and identity is not None:
            self._folders.setdefault(identity, os.fspath(folder))

    def find_same(self, target: Path) -> Optional[str]:
        """Return the input that `target` would overwrite, if there is one."""
        identity = _identity(target)
        return None if identity is None else self._files.get(identity)

    def require_free(self, target: Path, option: str) -> None:
        """Raise OutputError if `target`, given by `option`, is an input."""
        source = self.find_same(target)
        if source is not None:
            raise OutputError(
                f'{option} {os.fspath(target)} would overwrite {source}, which this command reads; '
                f'name another file')

    def folder_of_images(self, folder: Path) -> Optional[str]:
        """Return `folder` as the inputs name it, if input images are directly in it."""
        identity = _identity(folder)
        return None if identity is None else self._folders.get(identity)


def _identity(path: Optional[Path]) -> Optional[Tuple[int, int]]:
    """Return device and inode of a file, the same for each of its names; None if there is no file."""
    if path is None:
        return None
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


@contextlib.contextmanager
def atomic_file(path: str) -> Iterator[Any]:
    """Open a binary file that appears under `path` only when it is complete and on the disk."""
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(
        dir=folder, prefix=f'.{os.path.basename(path)}.', suffix='.tmp')
    try:
        with os.fdopen(handle, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    with contextlib.suppress(OSError):  # sync the rename itself, if a folder can be synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def name_below(name: Path, prefix: Optional[Path] = None) -> str:
    """Convert the name of an image to a relative path below an output folder.

    A name inside the folder `prefix` keeps its relative path. Other names lose drive, root and '..', so that
    /data/a.png becomes data/a.png. The ending becomes .png if a picture cannot be written in the image's own
    format.
    """
    name = os.fspath(name)
    if prefix and os.path.isabs(name):
        inside = os.path.relpath(name, os.path.abspath(prefix))
        name = name if inside.split(os.sep)[0] == os.pardir else inside
    name = re.sub(r'^[A-Za-z]:', '', name.replace('\\', '/'))
    parts = [part for part in name.split('/') if part not in ('', os.curdir, os.pardir)]
    if not parts:
        parts = ['picture']
    stem, ending = os.path.splitext(parts[-1])
    if ending.lower() not in PICTURES:
        is_ending = re.fullmatch(r'\.\w{1,5}', ending) is not None
        parts[-1] = f'{stem if is_ending else parts[-1]}.png'
    return os.path.join(*parts)


def require_folder(path: Path, option: str) -> None:
    """Raise OutputError if `path`, given by `option`, is a file, is below one, or is not writable."""
    above = os.path.abspath(path)
    while not os.path.exists(above) and os.path.dirname(above) != above:
        above = os.path.dirname(above)
    if not os.path.isdir(above):
        raise OutputError(f'{option} {os.fspath(path)}: {above} is a file; name a folder')
    if not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(
            f'{option} {os.fspath(path)}: {above} cannot be written to; name another folder')


class PictureNames:
    """Output paths of a command's pictures: below one folder, each with a unique name.

    Args:
        folder: of the pictures.
        inputs: the inputs of the command.
        option: name of the option that gives the folder, for messages.

    Raises OutputError for a folder that is a file.
    """

    def __init__(self, folder: Path, inputs: Inputs, option: str):
        require_folder(folder, option)
        self.folder = os.fspath(folder)
        self.inputs = inputs
        self.option = option
        self._taken: Set[str] = set()

    def take(self, name: Path, prefix: Optional[Path] = None) -> str:
        """Return the path of an image's picture; a name already in use is numbered.

        Raises OutputError for a path that is an input image or directly beside one.
        """
        name = name_below(name, prefix)
        stem, ending = os.path.splitext(name)
        number = 1
        while name.casefold(
        ) in self._taken:  # street.png of two folders; some file systems ignore case
            number += 1
            name = f'{stem}_{number}{ending}'
        self._taken.add(name.casefold())
        target = os.path.join(self.folder, name)
        source = self.inputs.find_same(target)
        if source is not None:
            raise OutputError(
                f'{self.option} {self.folder} would overwrite {source}; choose another folder')
        self.require_apart(os.path.dirname(target))
        return target

    def require_apart(self, folder: Optional[Path] = None) -> None:
        """Raise OutputError if input images are directly in a folder, by default that of the pictures."""
        folder = self.folder if folder is None else folder
        if self.inputs.folder_of_images(folder):
            raise OutputError(
                f'{self.option} {self.folder}: pictures would overwrite or join the images in {folder}; '
                f'choose another folder, such as {os.path.join(self.folder, "pictures")}')

    def take_all(self, images: Iterable[Tuple[Optional[str], str, Optional[str]]]) -> List[str]:
        """Return the paths of all images before the first is written: (path, name, folder of the name) each.

        Raises OutputError as `take`.
        """
        images = list(images)
        for path, _, _ in images:
            self.inputs.add_image(path)
        return [self.take(name, prefix) for _, name, prefix in images]


def print_text(text: str) -> None:
    """Print a text. A reader that stops early, such as `head`, ends the process without a traceback."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more
        sys.exit(141)  # 128 + SIGPIPE, as in a shell


def add_drawing_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command for the style of its pictures."""
    parser.add_argument(
        '--labels',
        choices=('auto', 'none', 'score', 'full'),
        default='auto',
        help='captions: class and score (full), the score, none; auto leaves off those that would '
        'cover objects')
    parser.add_argument(
        '--color-by',
        choices=('auto', 'instance', 'class'),
        default='auto',
        help='one color per object or per class; auto: per object if there are at most two classes')
