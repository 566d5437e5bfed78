"""Transforms that move boxes, masks and maps with the image."""
