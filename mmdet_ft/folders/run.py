"""From a folder of data to the config of a run."""
import os.path as osp
from typing import List, NamedTuple, Optional

from mmdet_ft.datasets.layouts.recognize import recognize
from mmdet_ft.errors import UserError
from mmdet_ft.folders.choosing import Choice, Machine, choose
from mmdet_ft.folders.contents import Contents, read_contents
from mmdet_ft.folders.describing import describe
from mmdet_ft.folders.files import write_once
from mmdet_ft.folders.writing import config_text

NAME = 'config.py'


class Prepared(NamedTuple):
    """The config of a folder, and messages about it."""
    path: str
    lines: List[str]


def write_config(data: str,
                 work_dir: str,
                 machine: Machine,
                 key: Optional[str] = None,
                 seed: int = 0) -> Prepared:
    """Write the config of a folder of data into a work_dir, with the lists and jsons that it names.

    The same folder gives the same files. A file that is there with another content stays, and is an error.

    Args:
        data: the folder, or one annotation file in it.
        work_dir: of the run.
        machine: what there is to train on.
        key: the format of the data, where there are several.
        seed: of a split that is made.

    Raises FileNotFoundError, DataError for data that cannot be learned from, UserError for files in the way.
    """
    _require_apart(data, work_dir)
    contents = read_contents(recognize(data, key, work_dir), work_dir, seed)
    choice = choose_for(contents, machine)
    path = osp.join(work_dir, NAME)
    text = config_text(contents, choice, work_dir)
    write_once(path, text)
    return Prepared(path, [*describe(contents), f'Model: {choice.text}', f'Config: {path}'])


def choose_for(contents: Contents, machine: Machine) -> Choice:
    """Choose the model and the schedule for the training images."""
    has_masks = contents.has_boxes and 0 < contents.num_masks == contents.num_objects
    return choose(len(contents.splits['train'].paths), contents.has_boxes, has_masks, machine)


def _require_apart(data: str, work_dir: str) -> None:
    """Raise UserError for a work_dir that is the folder of the data, or a file."""
    if osp.isdir(data) and osp.realpath(data) == osp.realpath(work_dir):
        raise UserError(f'--work-dir {work_dir} is the folder of the data; name another one')
    if osp.exists(work_dir) and not osp.isdir(work_dir):
        raise UserError(f'--work-dir {work_dir} is a file; name a folder')
