"""V2's `mmdet.models.builder`: names lead to their current location or to advice."""
from mmdet_ft.old_names import face

__getattr__ = face(__name__)
