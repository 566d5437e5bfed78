"""Converters from other annotation formats to COCO json."""
