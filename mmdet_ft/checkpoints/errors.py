"""What a user can mend in a checkpoint."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be found, read or fitted to the model; the message names the file and the
    remedy."""
