"""V2's `mmdet.core`: each name leads to its current location, or to advice on its replacement."""
from mmdet_ft.old_names import resolve_old_names

__getattr__ = resolve_old_names(__name__)
