"""Detection datasets, one file a format."""
