"""From datasets to batches: samplers, workers, collate."""
