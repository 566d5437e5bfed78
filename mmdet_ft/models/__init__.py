# Importing a leaf registers its types; one line each.
from mmdet_ft.models import anchors  # noqa: F401
from mmdet_ft.models import assigners  # noqa: F401
from mmdet_ft.models import backbones  # noqa: F401
from mmdet_ft.models import coders  # noqa: F401
from mmdet_ft.models import dense_heads  # noqa: F401
from mmdet_ft.models import detectors  # noqa: F401
from mmdet_ft.models import layers  # noqa: F401
from mmdet_ft.models import losses  # noqa: F401
from mmdet_ft.models import necks  # noqa: F401
from mmdet_ft.models import roi_heads  # noqa: F401
