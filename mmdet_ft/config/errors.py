"""Config errors, and the display of paths in messages."""
import os.path as osp
from typing import Any, Iterable, Sequence

from mmdet_ft import spelling


class ConfigError(Exception):
    """A mistake in a config; the message is `path:line: description`, as far as these are known.

    A command ends with exit code 2.
    """
    exit_code = 2


class ConfigFileError(ConfigError, OSError):
    """A file that is not a config: wrong extension or not readable."""


class ConfigNotFoundError(ConfigFileError, FileNotFoundError):
    """A config, or a base of one, that does not exist."""


class ConfigSyntaxError(ConfigError, SyntaxError):
    """A file that does not parse."""


class ConfigTypeError(ConfigError, TypeError):
    """A dict over a value of another type, or the other way round."""


class ConfigKeyError(ConfigError, KeyError):
    """A reserved, duplicate or missing key."""

    def __str__(self) -> str:  # KeyError would show the repr of its message
        return str(self.args[0])


class CheckError(ConfigError):
    """Config entries that no part of the project understands.

    `mistakes` lists all of them, see mmdet_ft.engine.config_check.check.
    """
    mistakes: Sequence[Any] = ()


def display_path(path: str) -> str:
    """Return a path as the user would type it."""
    relative = osp.relpath(path)
    return path if relative.startswith(osp.pardir) else relative


def format_location(path: str, text: str, index: int) -> str:
    return f'{display_path(path)}:{text.count(chr(10), 0, index) + 1}'


def did_you_mean(name: object, names: Iterable[Any]) -> str:
    hint = spelling.did_you_mean(name, names)
    return f'; {hint}' if hint else ''
