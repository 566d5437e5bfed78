"""Checks of data before training, used by tools/misc/check_data.py."""
