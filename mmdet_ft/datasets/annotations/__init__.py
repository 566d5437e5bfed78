"""Readers of annotation files, and annotations in memory."""
