"""Input files of a command, and refusal of outputs among the data."""
import os
from typing import List, Optional

from mmdet_ft.datasets.build import leaves_of
from mmdet_ft.datasets.checks.split import innermost
from mmdet_ft.datasets.loading.sample_images import image_files
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.engine.settings.records import TestSettings
from mmdet_ft.errors import UserError
from mmdet_ft.outputs import Inputs, Path


def inputs_of(settings: TestSettings, dataset: Dataset, *others: Optional[Path]) -> Inputs:
    """Collect the files that a command reads: config and bases, annotations, images, and `others`."""
    inputs = Inputs([*settings.keys.files, *others])
    for part in innermost(dataset):
        for image in image_files(part):
            inputs.add_image(image.path)
        for key in ('ann_file', 'proposal_file'):
            inputs.add(_path(getattr(part, key, None)))
        inputs.add_folder(_path(getattr(part, 'seg_prefix', None)))
    for split in ('train', 'val', 'test'):
        for part in leaves_of(settings.data.split(split)):
            inputs.add(_path(part.get('classes')))
    inputs.add(_path(settings.hooks.evaluation.get('gt_lists')))
    return inputs


def _path(value: object) -> Optional[Path]:
    return value if isinstance(value, (str, os.PathLike)) else None


def _annotations(dataset: Dataset) -> List[str]:
    paths = [getattr(part, 'ann_file', None) for part in innermost(dataset)]
    return [path for path in paths if isinstance(path, str)]


def require_apart_from_data(prefix: Path, option: str, dataset: Dataset, inputs: Inputs) -> None:
    """Refuse to format results over an input, or into a folder of images or annotations.

    Raises UserError; `option` is the command line option of `prefix`.
    """
    for kind in ('bbox', 'segm', 'proposal'):
        inputs.require_free(f'{prefix}.{kind}.json', option)
    folders = [path for path in _annotations(dataset)
               if os.path.isdir(path)]  # a folder of text files, one per image
    if os.path.isdir(prefix) and (inputs.folder_of_images(prefix)
                                  or any(os.path.samefile(folder, prefix) for folder in folders)):
        raise UserError(f'{option} {prefix}: results would be written among the data there; name '
                        f'another folder')
