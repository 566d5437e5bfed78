"""The peers of train_step.py, one per file, which imports its framework only on demand."""
