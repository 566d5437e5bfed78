"""What a user can mend in data."""


class DataError(ValueError):
    """An annotation file, an image or `classes` is not as it has to be; the message names the file, the record and the
    remedy, and is all that a command shows."""
