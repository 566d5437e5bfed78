"""V2's `mmdet.utils`: its names lead to where things stand today, or to what is written instead."""
from mmdet_ft.old_names import face

__getattr__ = face(__name__)
