"""The settings of a run as frozen records, read once from a checked config."""
