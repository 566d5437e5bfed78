"""Models, and V2's names for their registry. Importing a module registers its types."""
from mmdet_ft.models import anchors  # noqa: F401
from mmdet_ft.models import assigners  # noqa: F401
from mmdet_ft.models import attention  # noqa: F401
from mmdet_ft.models import backbones  # noqa: F401
from mmdet_ft.models import balanced_samplers  # noqa: F401
from mmdet_ft.models import classifiers  # noqa: F401
from mmdet_ft.models import coders  # noqa: F401
from mmdet_ft.models import deform_conv  # noqa: F401
from mmdet_ft.models import dense_heads  # noqa: F401
from mmdet_ft.models import detectors  # noqa: F401
from mmdet_ft.models import heads  # noqa: F401
from mmdet_ft.models import layers  # noqa: F401
from mmdet_ft.models import losses  # noqa: F401
from mmdet_ft.models import necks  # noqa: F401
from mmdet_ft.models import normed_layers  # noqa: F401
from mmdet_ft.models import roi_heads  # noqa: F401
from mmdet_ft.models import ssd_anchors  # noqa: F401
from mmdet_ft.old_names import resolve_old_names
from mmdet_ft.registry import (ANCHOR_GENERATORS, BACKBONES, BBOX_ASSIGNERS, BBOX_CODERS,
                               BBOX_SAMPLERS, CLASSIFIERS, DETECTORS, HEADS, IOU_CALCULATORS,
                               LOSSES, MODELS, NECKS, PRIOR_GENERATORS, ROI_EXTRACTORS,
                               SHARED_HEADS)

__all__ = [
    'ANCHOR_GENERATORS', 'BACKBONES', 'BBOX_ASSIGNERS', 'BBOX_CODERS', 'BBOX_SAMPLERS',
    'CLASSIFIERS', 'DETECTORS', 'HEADS', 'IOU_CALCULATORS', 'LOSSES', 'MODELS', 'NECKS',
    'PRIOR_GENERATORS', 'ROI_EXTRACTORS', 'SHARED_HEADS'
]

__getattr__ = resolve_old_names(__name__)  # V2's names
