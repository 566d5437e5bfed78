"""From a folder of data to a config: what is in it, a split, a model and a schedule."""
