"""The config of a folder of data: a short python file over a shipped config."""
import os.path as osp
from typing import Any, Dict, List, Tuple

from mmdet_ft.config.writing import Code, as_statements
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.folders.choosing import SCOPE, Choice
from mmdet_ft.folders.contents import Contents
from mmdet_ft.folders.files import FOLDER
from mmdet_ft.registry import DATASETS

PATHS = ('ann_file', 'img_prefix', 'data_prefix')


def config_text(contents: Contents, choice: Choice, work_dir: str) -> str:
    """Return the text of a config that `train` runs."""
    images = ', '.join(f'{len(split.paths)} {name}' for name, split in contents.splits.items())
    lines = [
        f'# Written by `mmdet-ft train --data`: {contents.layout.kind}, images: {images}.',
        '# Edit it, and train it again: mmdet-ft train CONFIG', f"_base_ = '{SCOPE}{choice.base}'"
    ]
    root = _common_root(contents, work_dir)
    items: List[Tuple[str, Any]] = [('classes', tuple(contents.classes))]
    settings = _with_test(contents.settings)
    data = {
        split: _written(own, root, work_dir, 'custom/classifier' in choice.base)
        for split, own in settings.items()
    }
    items += [('data_root', root)] if root else []
    items.append(('data', data))
    values = dict(choice.values, evaluation=_evaluation(contents, choice))
    items += [(key, values[key]) for key in sorted(values, key=_rank)]
    items.append(('work_dir', Code("'{{ fileDirname }}'")))
    return '\n'.join(lines) + '\n' + as_statements(items)


def _rank(key: str) -> int:
    order = ('model', 'runner', 'lr_config', 'evaluation', 'checkpoint_config', 'log_config')
    return order.index(key) if key in order else len(order)


def _with_test(settings: Dict[str, Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
    """Return the settings with a test set: without one it is that to validate on, as in most configs of V2."""
    return settings if 'test' in settings else {**settings, 'test': settings['val']}


def _written(settings: Dict[str, Any], root: str, work_dir: str,
             is_classifier: bool) -> Dict[str, Any]:
    """Return the settings of a dataset as they are written: paths relative to data_root, or to the config."""
    written = {**settings, 'classes': Code('classes')}
    if not is_classifier:
        written.setdefault('img_prefix', '')  # the base has one of other data
    for key in PATHS:
        if isinstance(written.get(key), str) and written[key]:
            written[key] = _path(written[key], root, work_dir)
    return written


def _path(path: str, root: str, work_dir: str) -> str:
    own = osp.join(osp.abspath(work_dir), FOLDER, '')
    if path.startswith(own):
        return Code(repr(f'{{{{ fileDirname }}}}/{FOLDER}/{path[len(own):]}'))
    if osp.join(path, '') == root:
        return Code('data_root')
    return Code(f'data_root + {path[len(root):]!r}') if root and path.startswith(root) else path


def _common_root(contents: Contents, work_dir: str) -> str:
    """Return the folder that all paths of the data are in, with a slash at its end; '' without a path."""
    own = osp.join(osp.abspath(work_dir), FOLDER, '')
    paths = [
        settings[key] for settings in contents.settings.values() for key in PATHS
        if isinstance(settings.get(key), str) and not settings[key].startswith(own)
    ]
    if not paths:  # a list in the work_dir names every file
        return ''
    common = osp.commonpath(paths)
    return osp.join(common if osp.isdir(common) else osp.dirname(common), '')


def _evaluation(contents: Contents, choice: Choice) -> Dict[str, Any]:
    """Return when and how the dataset to validate on is evaluated."""
    own = choice.values['evaluation']
    settings = contents.settings['val']
    kind = DATASETS.resolve(settings['type'], settings)
    if not contents.has_boxes or issubclass(kind, CocoDataset):
        return dict(own)
    return dict(own, _delete_=True, metric='mAP', save_best='mAP')
