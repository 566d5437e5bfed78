"""V2's `mmdet.datasets.builder`: its names lead to their present location or to their replacement."""
from mmdet_ft.old_names import face

__getattr__ = face(__name__)
