"""Trained models over images: what is given, how it is run, and what comes of it."""
