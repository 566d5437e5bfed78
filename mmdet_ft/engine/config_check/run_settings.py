"""Table of the allowed values of run settings that have a range or no part with a signature.

Types that a signature gives, such as number or string, are checked in value_kinds.py.
"""
import logging
import math
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

import torch

from mmdet_ft.engine.config_check.mistakes import Findings, locate_num_classes, short
from mmdet_ft.engine.settings.keys import leaves

LEVELS = ('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL')
STARTS = torch.multiprocessing.get_all_start_methods()
# Factors, and thresholds of scores and overlaps, wherever they stand.
AMOUNTS = ('loss_weight', )
SHARES = ('score_thr', 'iou_threshold', 'pos_iou_thr', 'neg_iou_thr')


class Setting(NamedTuple):
    """The allowed values of a setting."""
    words: str  # printed after 'must be '
    fits: Callable[[Any], bool]
    example: Any = None  # a value to suggest; None if none suits most users
    is_number: bool = False
    may_be_none: bool = True  # for a setting that is left out


def whole(least: int,
          example: object = None,
          most: float = math.inf,
          also: Tuple[int, ...] = ()) -> Setting:
    """Describe an integer in a range; `also` are values outside it with a meaning."""
    upper = f' to {most:g}' if most < math.inf else ' on'
    words = f'a whole number from {least}{upper}' + ''.join(f', or {value}' for value in also)
    return Setting(words,
                   lambda value: _is_whole(value) and (least <= value <= most or value in also),
                   example, True, False)


def number(words: str, fits: Callable[[float], bool], example: object = None) -> Setting:
    """Describe a number in a range."""
    return Setting(words, lambda value: _is_number(value) and fits(value), example, True)


def choice(*values: Any, example: object = None) -> Setting:
    """Describe one of several values."""
    return Setting(f'one of {", ".join(map(repr, values))}', lambda value: value in values, example
                   or values[0])


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_named(value: object) -> bool:
    """Return whether a value is a string, such as a name or path, or a non-empty list of strings."""
    return _is_text(value) or isinstance(value, (list, tuple)) and bool(value) and all(
        map(_is_text, value))


def _is_workflow(value: object) -> bool:
    good = isinstance(value, (list, tuple)) and all(
        isinstance(entry, (list, tuple)) and len(entry) == 2 and entry[0] in
        ('train', 'val') and _is_whole(entry[1]) and entry[1] > 0 for entry in value)
    return good and 'train' in [entry[0] for entry in value]


def _is_folder(value: object) -> bool:
    return _is_text(value) and '://' not in value


AMOUNT = number('0 or more, and finite',
                lambda value: 0 <= value < math.inf)._replace(may_be_none=False)
ABOVE_0 = number('more than 0, and finite',
                 lambda value: 0 < value < math.inf)._replace(may_be_none=False)
SECONDS = number('a number of seconds, from 0 to 1e9',
                 lambda value: 0 <= value <= 1e9)._replace(may_be_none=False)
SWITCH = Setting('True or False',
                 lambda value: isinstance(value, bool) or _is_whole(value) and value in (0, 1),
                 True)
WEIGHTS = Setting(
    'a path or URL that is not empty, or a list of them (the first available one is used)',
    lambda value: _is_named(value.get('checkpoint')
                            if isinstance(value, dict) else value), 'checkpoint.pth')
METRIC = Setting('the name of a metric, or a list of names', _is_named)
FOLDER = Setting('a folder on this machine, not a URL: nothing is uploaded', _is_folder)

LOSS_SCALE: Dict[str, Setting] = {
    'loss_scale': Setting(
        "a number above 0, 'dynamic' or a dict",
        lambda value: value == 'dynamic' or isinstance(value, dict) or _is_number(value) and 0 < value < math.inf,
        'dynamic'),
    'loss_scale.init_scale': ABOVE_0._replace(example=65536.),
    'loss_scale.growth_factor': number('more than 1', lambda value: 1 < value < math.inf, 2.),
    'loss_scale.backoff_factor': number('more than 0 and less than 1', lambda value: 0 < value < 1, .5),
    'loss_scale.growth_interval': whole(1, 2000),
}  # yapf: disable

# By dotted path; '*' is any key or index.
SETTINGS: Dict[str, Setting] = {
    'log_level': Setting(
        f'one of {", ".join(map(repr, LEVELS))}', lambda value: value in (*LEVELS, 'NOTSET', 'WARN', 'FATAL') or
        _is_whole(value) and logging.getLevelName(value) in LEVELS, 'INFO'),
    'seed': whole(0, 0, 2**32 - 1)._replace(may_be_none=True),
    'work_dir': FOLDER._replace(example='work_dirs/NAME'),
    'load_from': WEIGHTS,
    'resume_from': WEIGHTS._replace(fits=_is_named),
    'auto_resume': SWITCH,
    'find_unused_parameters': SWITCH,
    'cudnn_benchmark': SWITCH,
    'channels_last': SWITCH,
    'compile': SWITCH._replace(
        words='True, False, or a dict of arguments of torch.compile',
        fits=lambda value: isinstance(value, dict) or SWITCH.fits(value)),
    'cuda_graphs': SWITCH,
    'triton': SWITCH,
    'opencv_num_threads': whole(0, 0, also=(-1, )),
    'mp_start_method': choice(*STARTS, example='fork' if 'fork' in STARTS else STARTS[0]),
    'workflow': Setting(
        "like [('train', 1)] or [('train', 1), ('val', 1)], each with how many epochs from 1 on", _is_workflow,
        [('train', 1)]),
    'data.samples_per_gpu': whole(1, 2),
    'data.workers_per_gpu': whole(0, 2),
    'data.*.samples_per_gpu': whole(1, 1),
    'data.*.workers_per_gpu': whole(0, 2),
    'data.*.prefetch_factor': whole(1, 2)._replace(may_be_none=True),
    'data.*.bucket': whole(1, 64)._replace(may_be_none=True),
    'data.*.timeout': SECONDS,
    'data.*.multiprocessing_context': choice(*STARTS),
    'optimizer.lr': AMOUNT,
    'optimizer.weight_decay': AMOUNT,
    'optimizer.momentum': AMOUNT,
    **{f'optimizer.paramwise_cfg.{name}_mult': AMOUNT._replace(example=1.)
       for name in ('bias_lr', 'bias_decay', 'norm_decay', 'dwconv_decay', 'dcn_offset_lr')},
    'optimizer.paramwise_cfg.bypass_duplicate': SWITCH,
    'optimizer.paramwise_cfg.custom_keys.*.lr_mult': AMOUNT._replace(example=0.1),
    'optimizer.paramwise_cfg.custom_keys.*.decay_mult': AMOUNT._replace(example=0.),
    'optimizer_config.cumulative_iters': whole(1, 1),
    'optimizer_config.grad_clip.max_norm': ABOVE_0._replace(example=35),
    'optimizer_config.grad_clip.norm_type':
        number('more than 0', lambda value: value > 0, 2)._replace(may_be_none=False),
    'lr_config.warmup_iters': whole(0, 500),
    'lr_config.warmup_ratio': AMOUNT._replace(example=0.001),
    'runner.max_epochs': whole(1, 12)._replace(may_be_none=True),
    'runner.max_iters': whole(1, 90000)._replace(may_be_none=True),
    'evaluation.interval': whole(1, 1),
    'evaluation.start': whole(0, 1)._replace(may_be_none=True),
    'evaluation.metric': METRIC,
    'evaluation.save_best': Setting("the name of a metric, or 'auto'", _is_text, 'auto'),
    'evaluation.rule': choice('greater', 'less'),
    'early_stop.monitor': Setting("the name of a metric, such as 'bbox_mAP'", _is_text),
    'early_stop.patience': whole(1, 5),
    'early_stop.min_delta': AMOUNT._replace(example=0.001),
    'early_stop.rule': choice('greater', 'less'),
    'checkpoint_config.interval': whole(1, 1, also=(-1, )),
    'checkpoint_config.max_keep_ckpts': whole(1, 3, also=(-1, )),
    'checkpoint_config.out_dir': FOLDER,
    'checkpoint_config.filename_tmpl': Setting(
        "a file name with a field for the number, such as 'epoch_{}.pth'",
        lambda value: _is_text(value) and '{}' in value, 'epoch_{}.pth'),
    'log_config.interval': whole(1, 50),
    'log_config.hooks.*.interval': whole(1, 50),
    'auto_scale_lr.enable': SWITCH,
    'auto_scale_lr.base_batch_size': whole(1, 16)._replace(may_be_none=True),
    'fp16.dtype': choice('float16', 'bfloat16', 'fp16', 'bf16'),
    **{f'{section}.{name}': setting
       for section in ('fp16', 'optimizer_config')
       for name, setting in LOSS_SCALE.items()},
    'dist_params.backend': choice('nccl', 'gloo', 'mpi', 'ucc')._replace(may_be_none=False),
    'dist_params.port': whole(1, 29500, 65535)._replace(may_be_none=True),
    'dist_params.timeout': SECONDS._replace(example=1800),
    'dist_params.stall_timeout': SECONDS._replace(example=300),
}  # yapf: disable


def check_settings(found: Findings) -> None:
    """Compare the settings of a config with the table, and note each value that it does not allow."""
    for pattern, setting in SETTINGS.items():
        for path, value in _set_at(found.config, pattern.split('.')):
            if not (setting.may_be_none if value is None else setting.fits(value)):
                found.report_instead(path, _refused(setting, path.rpartition('.')[2], value))
    for path in locate_num_classes(found.config):
        _, value = next(_set_at(found.config, path.split('.')))
        if value != 'auto' and (not _is_whole(value) or value < 1):
            found.report_instead(
                path, f"must be a whole number from 1 on, or 'auto', not {short(value)}")


def check_numbers(found: Findings) -> None:
    """Note numbers that no part of a run can use: NaN, a share outside 0 to 1, an std below 0."""
    known = {mistake.path for mistake in found.mistakes}
    for section in found.config:
        for path, value in leaves(found.config[section], section):
            if path in known or not _is_number(value):
                continue
            keys = [key for key in path.split('.') if not key.isdigit()]
            if math.isnan(value):
                found.report(path, 'must be a number, not nan')
            elif keys[-1] in SHARES and not 0 <= value <= 1:
                found.report(path, f'must be a number from 0 to 1, not {value}')
            elif keys[-1] in AMOUNTS and not 0 <= value < math.inf:
                found.report(path, f'must be 0 or more, and finite, not {value}')
            elif keys[-1] == 'std' and (value < 0 or value == 0 and section == 'data'):
                words = 'more than 0' if section == 'data' else '0 or more'
                found.report(path, f'must be {words}, not {value}')


def _set_at(config: object, steps: List[str], path: str = '') -> Iterator[Tuple[str, Any]]:
    """Yield (dotted path, value) of each setting that matches a pattern."""
    step, rest = steps[0], steps[1:]
    if step == '*':
        keys = config if isinstance(
            config, dict) else range(len(config)) if isinstance(config, (list, tuple)) else ()
    elif isinstance(config, (list, tuple)) and step.isdigit():
        keys = [int(step)] if int(step) < len(config) else ()
    else:
        keys = [step] if hasattr(config, 'get') and step in config else ()
    for key in keys:
        inside = f'{path}.{key}' if path else str(key)
        if not rest:
            yield inside, config[key]
        elif isinstance(config[key], (dict, list, tuple)):
            yield from _set_at(config[key], rest, inside)


def _refused(setting: Setting, key: str, value: object) -> str:
    if setting.is_number and isinstance(value, str):
        return not_a_text(key, value)
    words = setting.words if _is_number(
        value) or not setting.is_number or 'whole' in setting.words else 'a number'
    example = '' if setting.example is None else f'; write {key}={setting.example!r}'
    return f'must be {words}, not {short(value)}{example}'


def not_a_text(key: str, value: str) -> str:
    """Say how to write a number that was given as a string."""
    is_number = _reads_as_number(value)
    hint = f'; without quotes: {key}={value}' if is_number else ''
    in_yaml = ', which yaml takes for a number only with a point: 1.0e-3' if 'e' in value and hint else ''
    return f'must be a number, not the text {short(value)}{hint}{in_yaml}'


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
