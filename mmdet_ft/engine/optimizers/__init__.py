"""Optimizers, their step, and the learning rate for a batch size."""
