"""From `data.train` and its sisters to dataset objects."""
from typing import Any, Dict, Optional

from mmdet_ft.datasets.wrappers import (ClassBalancedDataset, ConcatDataset, MultiImageMixDataset,
                                        RepeatDataset)
from mmdet_ft.registry import DATASETS

WRAPPERS = (RepeatDataset, ClassBalancedDataset, MultiImageMixDataset)
ONE_EACH = ('ann_file', 'img_prefix', 'seg_prefix', 'proposal_file')


def build_dataset(cfg: Any, default_args: Optional[Dict[str, Any]] = None) -> Any:
    """The dataset of a config: V2's rules.

    A list is a ConcatDataset of its parts; wrappers (ConcatDataset, RepeatDataset,
    ClassBalancedDataset, MultiImageMixDataset) build what they wrap; lists in `ann_file` (and
    `img_prefix`, `seg_prefix`, `proposal_file`) make a ConcatDataset of one dataset each.
    `default_args` fill what the innermost datasets leave out.
    """
    if isinstance(cfg, (list, tuple)):
        return ConcatDataset([build_dataset(part, default_args) for part in cfg])
    if not isinstance(cfg, dict):
        return cfg
    kind = cfg.get('type')
    if kind in ('ConcatDataset', ConcatDataset):
        parts = [build_dataset(part, default_args) for part in _inner(cfg, 'datasets')]
        return DATASETS.build({**cfg, 'datasets': parts})
    if kind in WRAPPERS or kind in [wrapper.__name__ for wrapper in WRAPPERS]:
        return DATASETS.build({
            **cfg, 'dataset': build_dataset(_inner(cfg, 'dataset'), default_args)
        })
    if isinstance(cfg.get('ann_file'), (list, tuple)):
        return _one_dataset_each(cfg, default_args)
    return DATASETS.build(cfg, **(default_args or {}))


def build_for_losses(cfg: Dict[str, Any], pipeline: Any) -> Any:
    """A validation set in the training pipeline: `workflow` asks for the losses on it.

    A detector's data set gives the truth when it is not in test_mode. A classifier's always does, and its test_mode
    chooses the files.
    """
    split = {
        key: value
        for key, value in cfg.items() if key not in ('samples_per_gpu', 'test_mode')
    }
    kind = DATASETS.resolve(cfg['type'], cfg)
    if getattr(kind, 'truth_in_test_mode', False):
        split['test_mode'] = True
    return build_dataset({**split, 'pipeline': pipeline})


def _inner(cfg: Dict[str, Any], key: str) -> Any:
    if key not in cfg:
        raise KeyError(f'{cfg["type"]} needs {key}=: what it is made of')
    return cfg[key]


def _one_dataset_each(cfg: Dict[str, Any], default_args: Optional[Dict[str, Any]]) -> ConcatDataset:
    parts = []
    number = len(cfg['ann_file'])
    for key in ONE_EACH:
        if isinstance(cfg.get(key), (list, tuple)) and len(cfg[key]) != number:
            raise ValueError(
                f'{number} paths in ann_file but {len(cfg[key])} in {key}; give one for each, or a single '
                f'one for all')
    for place in range(number):
        part = {key: value for key, value in cfg.items() if key != 'separate_eval'}
        for key in ONE_EACH:
            if isinstance(part.get(key), (list, tuple)):
                part[key] = part[key][place]
        parts.append(build_dataset(part, default_args))
    return ConcatDataset(parts, cfg.get('separate_eval', True))
