"""Checks of the classes of datasets against the heads that count them, from the config alone."""
from typing import Any, Dict, Iterator, Tuple

from mmdet_ft.engine.config_check.mistakes import Findings
from mmdet_ft.engine.config_check.schema import allowed_keys
from mmdet_ft.registry import DATASETS, MODELS


def check_classes(found: Findings) -> None:
    """Compare heads with datasets if the config gives both, also without V2's NumClassCheckHook.

    The configs of TOOD and YOLOX replace that hook by others.
    """
    config = found.config
    heads = list(_heads(config.model, 'model'))
    modes = [entry[0] for entry in config.get('workflow') or [('train', 1)]]
    for split in sorted(set(modes), reverse=True):
        for name, classes, classes_path in _classes(config.data.get(split), f'data.{split}'):
            if isinstance(classes, str):
                found.report(
                    classes_path,
                    f'is the string {classes!r}; for a single class write classes=({classes!r}, )')
                continue
            for path, count in heads:
                if count == len(classes):
                    continue
                given = found.config.where(f'{path}.num_classes')
                stated = f' ({found.config.where(classes_path)})' if found.config.where(
                    classes_path) else ''
                origin = '' if given else ' by default'
                found.report(
                    f'{path}.num_classes',
                    f'{name} has {len(classes)} classes{stated} but {path}.num_classes is '
                    f'{count}{origin}; write num_classes={len(classes)} there or in your config',
                    is_sentence=True)
        if found.mistakes:
            return


def check_counts(found: Findings) -> None:
    """Check `topk` and the class weights of the loss against a head's own number of classes."""
    for path, head in _dicts(found.config.model, 'model'):
        count = head.get('num_classes')
        cls = MODELS.class_of(head)
        if not isinstance(count, int) or not isinstance(cls, type):
            continue
        topk = head.get('topk')
        largest = max(topk) if isinstance(topk, (list, tuple)) and topk else topk
        if head.get('cal_acc') and isinstance(largest, int) and largest > count:
            found.report(f'{path}.topk',
                         f'asks for the best {largest} of {count} classes; write topk=(1, )')
        for key in ('loss', 'loss_cls'):
            loss = head.get(key)
            weights = loss.get('class_weight') if isinstance(loss, dict) else None
            if not isinstance(weights, (list, tuple)):
                continue
            background = getattr(cls, 'has_background_class',
                                 False) and not loss.get('use_sigmoid', False)
            if len(weights) != count + background:
                of_what = f'{count} classes and the background' if background else f'{count} classes'
                found.report(
                    f'{path}.{key}.class_weight',
                    f'has {len(weights)} weights for {of_what}; write {count + background}')


def _dicts(value: object, path: str) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Yield every dict of a model with its dotted path."""
    if isinstance(value, dict):
        yield path, value
    items = value.items() if isinstance(
        value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    for key, item in items:
        if isinstance(item, (dict, list, tuple)):
            yield from _dicts(item, f'{path}.{key}')


def _innermost(split: object, path: str) -> Iterator[Tuple[Dict[str, Any], str]]:
    """Yield the datasets inside wrappers and lists."""
    if isinstance(split, (list, tuple)):
        for origin, part in enumerate(split):
            yield from _innermost(part, f'{path}.{origin}')
    elif isinstance(split, dict):
        inner = next((key for key in ('dataset', 'datasets') if key in split), None)
        if inner is None:
            yield split, path
        else:
            yield from _innermost(split[inner], f'{path}.{inner}')


def _dataset_class(split: Dict[str, Any]) -> Any:
    kind = split.get('type')
    return kind if callable(kind) else DATASETS.get(kind, split) if isinstance(kind, str) else None


def dataset_classes(split: object) -> Iterator[Any]:
    for part, _ in _innermost(split, ''):
        if _dataset_class(part) is not None:
            yield _dataset_class(part)


def _classes(split: object, path: str) -> Iterator[Tuple[str, Any, str]]:
    """Yield (type, classes, path of the classes) of datasets whose classes need no file to be read."""
    for part, part_path in _innermost(split, path):
        cls = _dataset_class(part)
        classes = part.get('classes')
        if classes is None:
            classes = getattr(cls, 'CLASSES', None)
        is_file = isinstance(part.get('classes'), str)  # a file with one name per line
        if classes is not None and not is_file:
            yield DATASETS.name_of(cls) if isinstance(cls, type) else str(
                part.get('type')), classes, f'{part_path}.classes'


def _heads(value: object, path: str) -> Iterator[Tuple[str, int]]:
    """Yield (path, num_classes) of the parts of a model that count classes."""
    if isinstance(value, (list, tuple)):
        for origin, item in enumerate(value):
            yield from _heads(item, f'{path}.{origin}')
    elif isinstance(value, dict):
        cls = MODELS.class_of(value)
        parameter = allowed_keys(cls).parameters.get('num_classes') if cls is not None else None
        count = value.get('num_classes', getattr(parameter, 'default', None))
        if isinstance(count, int) and count > 0 and getattr(cls, 'counts_classes', True):
            yield path, count
        for key, item in value.items():
            yield from _heads(item, f'{path}.{key}')
