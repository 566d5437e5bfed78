"""Numbers that are none, or out of the range in which they mean something."""
import math
from typing import Any

from mmdet_ft.engine.checks.config.mistakes import Findings, as_dict, places_of_classes, short

LEAST = {  # whole numbers, and the smallest that means something
    'data.samples_per_gpu': 1,
    'data.workers_per_gpu': 0,
    'runner.max_epochs': 0,
    'runner.max_iters': 0,
    'evaluation.interval': 1,
    'log_config.interval': 1,
    'lr_config.warmup_iters': 0,
}
RATES = ('optimizer.lr', 'optimizer.weight_decay', 'optimizer.momentum', 'lr_config.warmup_ratio')


def check_numbers(found: Findings) -> None:
    """Those of every config, before a training comes to them."""
    for path in (*LEAST, *RATES):
        section, _, key = path.partition('.')
        values = found.config.get(section)
        value = values.get(key) if isinstance(values, dict) else None
        if value is None:
            continue
        least = LEAST.get(path)
        if isinstance(value, str):
            hint = f'; without quotes: {key}={value}' if _is_number(value) else ''
            in_yaml = ', which yaml takes for a number only with a point: 1.0e-3' if 'e' in value and hint else ''
            found.say(path, f'must be a number, not the text {value!r}{hint}{in_yaml}')
        elif least is not None and (not isinstance(value, int) or isinstance(value, bool)
                                    or value < least):
            found.say(path, f'must be a whole number from {least} on, not {short(value)}')
        elif least is None and (not isinstance(value, (int, float)) or isinstance(value, bool)):
            found.say(path, f'must be a number, not {short(value)}')
        elif least is None and not 0 <= value < math.inf:  # NaN too
            found.say(path, f'must be 0 or more, and finite, not {short(value)}')
    for path in places_of_classes(found.config):
        value: Any = found.config
        for key in path.split('.'):
            value = as_dict(value).get(key) if value is not found.config else value.get(key)
        if value != 'auto' and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            found.say(path, f"must be a whole number from 1 on, or 'auto', not {short(value)}")


def _is_number(text: Any) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
