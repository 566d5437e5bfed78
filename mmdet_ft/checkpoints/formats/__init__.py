"""Known kinds of checkpoints: one module per origin, one function per kind, listed in table.py."""
