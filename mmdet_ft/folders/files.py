"""Files that a folder of data gets in a work_dir: written once, never over another content."""
import os.path as osp

from mmdet_ft.errors import UserError
from mmdet_ft.outputs import atomic_file

FOLDER = 'annotations'  # in the work_dir, of lists of images and jsons


def write_once(path: str, text: str) -> str:
    """Write a text file and return its path; a file of the same content stays as it is.

    Raises UserError for a file of another content, and for one that cannot be written.
    """
    content = text.encode('utf-8')
    try:
        if osp.exists(path):
            with open(path, 'rb') as file:
                is_same = file.read() == content
            if is_same:
                return path
            raise UserError(
                f'{path} is there already, with another content: the data or options have changed, or it was '
                f'edited. To fix: name another --work-dir, or train the config.py of that folder, or take '
                f'both config.py and {FOLDER} out of it')
        with atomic_file(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(f'cannot write {path}: {error.strerror or error}') from error
    return path


def annotation_path(out: str, name: str) -> str:
    """Return the path of a list or a json in a work_dir."""
    return osp.join(osp.abspath(out), FOLDER, name)
