"""Functions on tensors: batched, static in shape, without a wait for the device."""
