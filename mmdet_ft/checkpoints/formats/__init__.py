"""Whose weights a file holds: one module an origin, one function a kind, all in table.py."""
