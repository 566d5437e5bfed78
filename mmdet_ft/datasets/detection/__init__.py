"""Detection datasets, one file per format."""
