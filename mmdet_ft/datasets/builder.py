"""V2's `mmdet.datasets.builder`: its names lead to their present location or to their replacement."""
from mmdet_ft.old_names import resolve_old_names

__getattr__ = resolve_old_names(__name__)
