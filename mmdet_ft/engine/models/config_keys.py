"""Where a config names a file: what errors about files say of the key that the user has to change."""
from typing import Any, Callable, Iterator, Tuple

from mmdet_ft.config.config import Config


def leaves(value: Any, path: str) -> Iterator[Tuple[str, Any]]:
    """(dotted path, value) of all that is neither dict nor list."""
    if isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, f'{path}.{key}')
    else:
        yield path, value


def place_of(cfg: Config, section: str, names: Callable[[str, Any], bool]) -> str:
    """'model.backbone.init_cfg.checkpoint (configs/a.py:12)' for the first leaf that `names` takes by its path
    and value; '' where there is none."""
    for path, value in leaves(cfg.get(section), section):
        if names(path, value):
            where = cfg.where(path) or cfg.where(path.rpartition('.')[0])
            return f'{path} ({where})' if where else path
    return ''
