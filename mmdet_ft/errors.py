"""The mistakes of a user: each message says what failed, what was found, what was expected and how to fix it.

Nothing is imported here, so that a command can refuse its arguments before it imports torch.
Mistakes in a config have classes of their own: mmdet_ft/config/errors.py.
"""


class UserError(RuntimeError):
    """A mistake in a config, in data or on the command line; its message names the value and the fix."""


class UsageError(UserError):
    """A mistake on the command line; a command ends with exit code 2."""
    exit_code = 2


class NonFiniteError(UserError):
    """A loss or gradient became NaN or infinite; the weights are those before it."""


class DataError(ValueError):
    """An annotation file, an image or `classes` is not as expected; the message names the file, the record and the
    fix, and is all that a command shows."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be found, read or fitted to the model; the message names the file and the fix."""


class UntrustedFileError(ValueError):
    """A file asks for more than being read; the message names it and what it asks for."""
