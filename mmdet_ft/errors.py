"""User errors: each message says what failed, the value found, the value expected and the fix.

Nothing is imported here, so that a command can reject its arguments before it imports torch.
Config errors have classes of their own: mmdet_ft/config/errors.py.
"""


class UserError(RuntimeError):
    """A mistake in a config, in data or on the command line; its message names the value and the fix."""


class UsageError(UserError):
    """A mistake on the command line; a command ends with exit code 2."""
    exit_code = 2


class NonFiniteError(UserError):
    """A loss or gradient became NaN or infinite; the weights are those before that step."""


class DataError(ValueError):
    """An annotation file, an image or `classes` is invalid; the message names the file, the record and the fix.
    A command shows nothing but this message."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be found, read or matched to the model; the message names the file and the fix."""


class UntrustedFileError(ValueError):
    """A file asks for more than to be read; the message names it and the request."""
