"""Checks before a run starts: data, labels, disk space, sizes of the run."""
