"""What a run writes: logs, progress, metrics, pictures and its summary."""
