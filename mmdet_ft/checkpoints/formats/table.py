"""All kinds of checkpoints, the most specific first.

A kind is one function of a file's content. It returns the weights under V2's names, in V2's order,
with their Origin for the report; or None if the file is of another kind.
"""
from typing import Any, Callable, Dict, Optional, Tuple

from mmdet_ft.checkpoints.formats import backbones, detectron2, megvii, openmmlab, torchvision
from mmdet_ft.checkpoints.formats.origin import Converted, File, Origin, StateDict

KINDS: Tuple[Callable[[File], Optional[Converted]], ...] = (
    torchvision.detector,
    torchvision.one_stage_detector,
    torchvision.ssd300,
    detectron2.detector,
    detectron2.cascade,
    detectron2.retinanet,
    detectron2.msra_backbone,
    detectron2.torch_backbone,
    megvii.yolox,
    openmmlab.mmdet_1,
    openmmlab.mmdet_3,
    openmmlab.mmdet_2,
    openmmlab.mmcls,
    backbones.vgg,
    backbones.regnet,
    backbones.mobilenet_v2,
    backbones.resnet,
    torchvision.classifier,
    torchvision.mobilenet_v2,
)


def convert(state_dict: StateDict, meta: Dict[str, Any], content: Dict[str, Any]) -> Converted:
    """Convert weights of any known kind to V2's names and order; names of unknown files stay.

    `meta` gets V2's CLASSES if the file or its kind names the classes elsewhere.
    """
    file = File(state_dict, meta, content)
    converted = next(filter(None, (kind(file) for kind in KINDS)), (state_dict, Origin()))
    classes = class_names(meta, converted[1].classes)
    if classes is not None:
        meta['CLASSES'] = classes
    return converted


def class_names(meta: Dict, known: Optional[Tuple[str, ...]]) -> Optional[Tuple[str, ...]]:
    """Return the file's class names: V1 and V2 in meta.CLASSES, V3 in meta.dataset_meta; or those of its kind."""
    dataset = meta.get('dataset_meta') if isinstance(meta.get('dataset_meta'), dict) else {}
    for names in (meta.get('CLASSES'), dataset.get('classes'), dataset.get('CLASSES'), known):
        if isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names):
            return tuple(names)
    return None
