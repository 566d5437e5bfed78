"""Who takes part in train_step.py. A file imports its framework when it is asked for."""
