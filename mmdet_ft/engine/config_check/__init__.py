"""Checks of the whole config against signatures before anything is built; start with check.py."""
