"""Transforms for detection and classification."""
