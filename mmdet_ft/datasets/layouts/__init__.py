"""Recognition of the layout of a folder of data."""
