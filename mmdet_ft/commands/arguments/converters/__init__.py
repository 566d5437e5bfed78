"""Arguments of `mmdet-ft convert FORMAT`."""
