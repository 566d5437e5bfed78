"""Loading of batches from datasets: samplers, workers, collate."""
