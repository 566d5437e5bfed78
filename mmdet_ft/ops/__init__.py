"""Functions on tensors: batched, of static shape, without a device synchronization."""
