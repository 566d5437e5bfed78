"""Output of a run: logs, progress, metrics, pictures and its summary."""
