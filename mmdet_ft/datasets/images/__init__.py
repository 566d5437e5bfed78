"""Image files: heads, names, sizes and decoding."""
