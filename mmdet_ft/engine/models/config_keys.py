"""Config keys of files, for error messages that name the key to change."""
from typing import Any, Callable, Iterator, Tuple

from mmdet_ft.config.config import Config


def leaves(value: Any, path: str) -> Iterator[Tuple[str, Any]]:
    """Yield (dotted path, value) of all values that are neither dict nor list."""
    if isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, f'{path}.{key}')
    else:
        yield path, value


def place_of(cfg: Config, section: str, names: Callable[[str, Any], bool]) -> str:
    """Return 'model.backbone.init_cfg.checkpoint (configs/a.py:12)' for the first leaf that `names`
    accepts by its path and value; '' if no key matches."""
    for path, value in leaves(cfg.get(section), section):
        if names(path, value):
            where = cfg.where(path) or cfg.where(path.rpartition('.')[0])
            return f'{path} ({where})' if where else path
    return ''
