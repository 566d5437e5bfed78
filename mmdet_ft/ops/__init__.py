"""Functions on tensors: batched, of static shape, without a device synchronization.

Two are of predictions and do wait: `paste` works on the host, `soft_nms` synchronizes once.
"""
