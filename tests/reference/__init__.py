"""Slow readable twins of the package's ops: one image, loops, as the papers tell it."""
