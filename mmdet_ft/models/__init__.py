# Importing a leaf registers its types.
from mmdet_ft.models import anchors, coders, losses  # noqa: F401
