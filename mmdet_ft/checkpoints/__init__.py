"""Checkpoints: where they come from, how they are read safely, fitted to a model, and written."""
