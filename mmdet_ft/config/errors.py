"""Mistakes in configs, and how a message tells places and names."""
import os.path as osp
from typing import Any, Iterable, Sequence

from mmdet_ft import spelling


class ConfigError(Exception):
    """A mistake in a config; the message says `path:line: what is wrong`, as far as these are known.

    A command ends with exit code 2.
    """
    exit_code = 2


class ConfigFileError(ConfigError, OSError):
    """A file that is no config: wrong extension, not readable."""


class ConfigNotFoundError(ConfigFileError, FileNotFoundError):
    """A config, or a base of one, that does not exist."""


class ConfigSyntaxError(ConfigError, SyntaxError):
    """A file that does not parse."""


class ConfigTypeError(ConfigError, TypeError):
    """A dict over something that is none, or the other way round."""


class ConfigKeyError(ConfigError, KeyError):
    """A key that is reserved, set twice, or not there."""

    def __str__(self) -> str:  # KeyError would show the repr of its message
        return str(self.args[0])


class CheckError(ConfigError):
    """What a config says that nothing understands.

    `mistakes` lists all of it, see mmdet_ft.engine.config_check.check.
    """
    mistakes: Sequence[Any] = ()


def shown(path: str) -> str:
    """A path as the user would type it."""
    relative = osp.relpath(path)
    return path if relative.startswith(osp.pardir) else relative


def place_in(path: str, text: str, place: int) -> str:
    return f'{shown(path)}:{text.count(chr(10), 0, place) + 1}'


def did_you_mean(name: Any, names: Iterable[Any]) -> str:
    hint = spelling.did_you_mean(name, names)
    return f'; {hint}' if hint else ''
