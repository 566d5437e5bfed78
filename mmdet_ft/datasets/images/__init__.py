"""Image files: their heads, names, sizes and decoding."""
