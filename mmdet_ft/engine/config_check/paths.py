"""Checks that paths and class names are strings without line breaks, not numbers, booleans or lists."""
from typing import Any, Iterable, Iterator, Mapping, Tuple

from mmdet_ft.config.options import TEXT_KEYS
from mmdet_ft.engine.config_check.mistakes import Findings, short
from mmdet_ft.registry import DATASETS

AT_TOP = ('work_dir', 'load_from', 'resume_from')
# A list here means several datasets, files or alternatives; see mmdet_ft/datasets/build.py.
MAY_BE_LIST = ('ann_file', 'load_from', 'classes')
WITH_ANN_FILES = ('img_prefix', 'seg_prefix', 'proposal_file')
SHOWN = {'\n': '\\n', '\t': '\\t', '\r': '\\r', '\a': '\\a', '\b': '\\b', '\f': '\\f', '\v': '\\v'}


def check_paths(found: Findings) -> None:
    """Check every path that one of the commands opens, and every list of class names."""
    config = found.config
    for name in AT_TOP:
        _check(found, name, config.get(name), name, True)
    for section in ('data', 'model'):
        for path, owner in _dicts(config.get(section), section):
            for key in TEXT_KEYS:
                if key in owner and key not in AT_TOP:
                    _check(found, f'{path}.{key}', owner[key], key, _is_ours(owner, section), owner)


def _is_ours(owner: Mapping[str, Any], section: str) -> bool:
    kind = owner.get('type')
    cls = DATASETS.get(kind, owner) if isinstance(kind, str) and section == 'data' else None
    return str(getattr(cls, '__module__', '')).startswith('mmdet_ft.')


def _dicts(value: object, path: str) -> Iterator[Tuple[str, Any]]:
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            if isinstance(item, (dict, list, tuple)):
                yield from _dicts(item, f'{path}.{key}')
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if isinstance(item, (dict, list, tuple)):
                yield from _dicts(item, f'{path}.{index}')


def _check(found: Findings,
           path: str,
           value: object,
           key: str,
           is_ours: bool,
           owner: Mapping[str, Any] = ()) -> None:
    if value is None or isinstance(value, dict):
        return
    if key == 'pretrained' and isinstance(value, bool):  # of a timm backbone
        return
    if isinstance(value, (list, tuple)):
        wrong = [item for item in _leaves(value) if not isinstance(item, str)]
        if wrong and key == 'classes':
            in_yaml = '; yaml reads no and yes as booleans' if isinstance(wrong[0], bool) else ''
            found.report_instead(
                path,
                f'must be names as texts, not {short(wrong[0])}{in_yaml}; write each in quotes: '
                f"'{_as_text(wrong[0])}'")
        elif wrong and is_ours:
            found.report_instead(path,
                                 f'must be paths, not {short(wrong[0])}; write each in quotes')
        elif is_ours and key not in MAY_BE_LIST and not (key in WITH_ANN_FILES and isinstance(
                owner.get('ann_file'), (list, tuple))):
            comma = ','.join(map(str, value))
            found.report_instead(
                path,
                f'must be one path, not the list {short(value)}; if the comma is a part of its name, '
                f"""quotes keep it: '{key}="{comma}"' on the command line""")
        return
    if isinstance(value, (set, frozenset)):
        return found.report_instead(
            path, f'must be a list, for a set has no order, not {short(value)}; write '
            f'{key}={sorted(map(str, value))!r}')
    if not isinstance(value, str):
        what = 'names' if key == 'classes' else 'a path'
        return found.report_instead(
            path,
            f'must be {what}, not {_kind(value)} {value!r}; write it in quotes: {key}={str(value)!r}'
        )
    control = next((letter for letter in value if letter in SHOWN), None)
    if control:
        meant = ''.join(SHOWN.get(letter, letter) for letter in value)
        found.report_instead(
            path,
            f"has {_name(control)} in it, which {SHOWN[control]} means in a text of Python; write r'{meant}' "
            f"or {meant.replace(chr(92), '/')!r}")


def _leaves(value: Iterable[Any]) -> Iterator[Any]:
    for item in value:
        if isinstance(item, (list, tuple)):
            yield from _leaves(item)
        else:
            yield item


def _as_text(value: object) -> str:
    return {True: 'yes', False: 'no'}[value] if isinstance(value, bool) else str(value)


def _kind(value: object) -> str:
    return 'the boolean' if isinstance(
        value, bool) else 'the number' if isinstance(value,
                                                     (int,
                                                      float)) else f'the {type(value).__name__}'


def _name(control: str) -> str:
    return {'\n': 'a line break', '\t': 'a tab'}.get(control, 'a control character')
