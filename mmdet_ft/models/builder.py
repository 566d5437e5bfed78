"""V2's `mmdet.models.builder`: names lead to their current location or to advice."""
from mmdet_ft.old_names import resolve_old_names

__getattr__ = resolve_old_names(__name__)
