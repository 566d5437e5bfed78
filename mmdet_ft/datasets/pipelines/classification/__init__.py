"""Transforms of a classifier's image; they move no boxes."""
