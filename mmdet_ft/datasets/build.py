"""Build dataset objects from the config's `data.train`, `data.val` and `data.test`."""
import os
from typing import Any, Dict, Iterator, List, Optional

from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.wrappers import (ClassBalancedDataset, ConcatDataset, MultiImageMixDataset,
                                        RepeatDataset)
from mmdet_ft.registry import DATASETS

WRAPPERS = (RepeatDataset, ClassBalancedDataset, MultiImageMixDataset)
ONE_EACH = ('ann_file', 'img_prefix', 'seg_prefix', 'proposal_file', 'data_prefix')


def build_dataset(cfg: Any, default_args: Optional[Dict[str, Any]] = None) -> Any:
    """Build the dataset of a config by V2's rules.

    A list gives a ConcatDataset of its parts. Wrappers (ConcatDataset, RepeatDataset,
    ClassBalancedDataset, MultiImageMixDataset) build their inner datasets. Lists in `ann_file` or
    `data_prefix` (and `img_prefix`, `seg_prefix`, `proposal_file`) give a ConcatDataset of one
    dataset each. `default_args` are defaults for the innermost datasets.

    Raises DataError for invalid combinations.
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
        return DATASETS.build({**cfg, 'dataset': build_dataset(_wrapped(cfg), default_args)})
    if _is_list(cfg):
        parts = [build_dataset(part, default_args) for part in one_each(cfg)]
        return ConcatDataset(parts, cfg.get('separate_eval', True))
    return DATASETS.build(cfg, **(default_args or {}))


def leaves_of(settings: Any) -> Iterator[Dict[str, Any]]:
    """Yield the settings of each dataset that `build_dataset` would build, under wrappers and lists.

    Raises DataError like `build_dataset`.
    """
    if isinstance(settings, (list, tuple)):
        for part in settings:
            yield from leaves_of(part)
        return
    if not isinstance(settings, dict):
        return
    kind = settings.get('type')
    if kind in ('ConcatDataset', ConcatDataset):
        yield from leaves_of(_inner(settings, 'datasets'))
    elif kind in WRAPPERS or kind in [wrapper.__name__ for wrapper in WRAPPERS]:
        yield from leaves_of(_wrapped(settings))
    elif _is_list(settings):
        yield from one_each(settings)
    else:
        yield settings


def build_for_losses(settings: Any, pipeline: Any) -> Any:
    """Build a validation set in the training pipeline, for the losses that `workflow` computes on it.

    A detector's dataset has ground truth in its samples unless it is in test_mode. A classifier's
    always has it, and its test_mode selects the files.
    """
    return build_dataset(_with_losses(settings, pipeline))


def _with_losses(settings: Any, pipeline: Any) -> Any:
    """Return the settings of each dataset, under wrappers and lists, with ground truth and the pipeline."""
    if isinstance(settings, (list, tuple)):
        return [_with_losses(part, pipeline) for part in settings]
    held = next((key for key in ('dataset', 'datasets') if key in settings), None)
    if held is not None:
        wrapper = {key: value for key, value in settings.items() if key != 'samples_per_gpu'}
        return {**wrapper, held: _with_losses(settings[held], pipeline)}
    split = {
        key: value
        for key, value in settings.items() if key not in ('samples_per_gpu', 'test_mode')
    }
    kind = DATASETS.resolve(settings['type'], settings)
    if getattr(kind, 'truth_in_test_mode', False):
        split['test_mode'] = True
    return {**split, 'pipeline': pipeline}


def _inner(settings: Dict[str, Any], key: str) -> Any:
    if not settings.get(key):
        raise DataError(f'{_name(settings)} needs {key}=: what it is made of')
    inner = settings[key]
    if key == 'datasets' and not isinstance(inner, (list, tuple)):
        raise DataError(f'{_name(settings)}: datasets is a list of datasets; write datasets=[...]')
    return inner


def _wrapped(settings: Dict[str, Any]) -> Any:
    """Return the settings of a wrapper's inner dataset, after checking the wrapper's own arguments."""
    check = getattr(DATASETS.resolve(settings['type']), 'check_arguments', None)
    if check is not None:
        check(**{key: value for key, value in settings.items() if key not in ('type', 'dataset')})
    return _inner(settings, 'dataset')


def _name(settings: Dict[str, Any]) -> str:
    return getattr(settings.get('type'), '__name__', str(settings.get('type')))


def _is_list(settings: Dict[str, Any]) -> bool:
    return any(isinstance(settings.get(key), (list, tuple)) for key in ONE_EACH)


def one_each(settings: Dict[str, Any]) -> List[Dict[str, Any]]:
    """Return the settings of one dataset for each path in the lists of a config.

    Raises DataError with the lengths and a fix when the lists do not match.
    """
    lists = {key: settings[key] for key in ONE_EACH if isinstance(settings.get(key), (list, tuple))}
    main = next(key for key in ('ann_file', 'data_prefix', *ONE_EACH) if key in lists)
    number = len(lists[main])
    if main not in ('ann_file', 'data_prefix'):
        raise DataError(
            f'{_name(settings)}: {main} is a list of {number} paths, and ann_file is one path; give one for '
            f'each: ann_file=[...] of {number}, or {main}={_first(lists[main])}')
    if not number:
        raise DataError(f'{_name(settings)}: {main}=[] is an empty list; name at least one path')
    for key, paths in lists.items():
        if len(paths) != number:
            raise DataError(
                f'{_name(settings)}: {number} paths in {main} but {len(paths)} in {key}; give one for each, or a '
                f'single one for all: {key}={_first(paths)}')
        wrong = [path for path in paths if not isinstance(path, (str, os.PathLike, type(None)))]
        if wrong:
            raise DataError(f'{_name(settings)}: {key} holds {wrong[0]!r:.80}, expected paths')
    return [{
        **{
            key: value
            for key, value in settings.items() if key != 'separate_eval'
        },
        **{
            key: paths[index]
            for key, paths in lists.items()
        }
    } for index in range(number)]


def _first(paths: Any) -> str:
    return repr(paths[0]) if paths else "'...'"
