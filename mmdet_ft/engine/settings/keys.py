"""Keys of a config and the files that set them, for messages that name the line to change."""
from typing import Any, Callable, Iterator, List, Optional, Tuple

from mmdet_ft.config.config import Config


def leaves(value: object, path: str) -> Iterator[Tuple[str, Any]]:
    """Yield (dotted path, value) of all values that are neither dict nor list."""
    if isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, f'{path}.{key}')
    else:
        yield path, value


class ConfigKeys:
    """Locations of the keys of a config: 'configs/my/pets.py:7'."""

    def __init__(self, config: Config):
        self._config = config

    @property
    def filename(self) -> Optional[str]:
        """Return the path of the config file; None for a config made in a program."""
        return self._config.filename

    @property
    def files(self) -> List[str]:
        """Return the paths of the config file and its bases."""
        paths = [self._config.filename, *(layer.path for layer in self._config.layers)]
        return [path for path in paths if path is not None]

    def where(self, path: str) -> Optional[str]:
        """Return 'file.py:line' of the key with this dotted path; None where no file sets it."""
        return self._config.where(path)

    def is_in_a_file(self, key: str) -> bool:
        """Return whether a file sets a top-level key, to anything but an empty value."""
        return any(layer.values.get(key) for layer in self._config.layers if layer.path is not None)

    def is_used(self, key: str) -> bool:
        """Return whether a file or the command line has a top-level key, of an older spelling too."""
        return any(key in layer.values for layer in self._config.layers)

    def find(self, section: str, accepts: Callable[[str, Any], bool]) -> str:
        """Return 'model.backbone.init_cfg.checkpoint (configs/a.py:12)' for the first value of a
        section for which `accepts(path, value)` is true; '' if there is none."""
        for path, value in leaves(self._config.get(section), section):
            if accepts(path, value):
                where = self.where(path) or self.where(path.rpartition('.')[0])
                return f'{path} ({where})' if where else path
        return ''
