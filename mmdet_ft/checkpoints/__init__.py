"""Checkpoints: download, safe reading, loading into a model, and writing."""
