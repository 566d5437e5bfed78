"""MMDetection 3.3 with the full mmcv if it is installed; with mmcv-lite, which lacks the operators,
on those of torchvision (see `_operators`)."""
import argparse
import os
import sys
import types
from typing import Any, List, Tuple

import torch
import torchvision
from torch import Tensor, nn

from tools.benchmarks.peers import mmdet_ft as ours
from tools.benchmarks.peers.work import Peer, Setting, Work, layout, learn, prepare


class RoIAlign(nn.Module):

    def __init__(self, output_size: int, spatial_scale: float, sampling_ratio: int, aligned: bool):
        super().__init__()
        self.output_size = (output_size, output_size)
        self.spatial_scale, self.sampling_ratio, self.aligned = spatial_scale, sampling_ratio, aligned

    def forward(self, features: Tensor, rois: Tensor) -> Tensor:
        return torchvision.ops.roi_align(features, rois, self.output_size, self.spatial_scale,
                                         self.sampling_ratio, self.aligned)


def _roi_align(features: Tensor, rois: Tensor, output_size: Any, spatial_scale: float,
               sampling_ratio: int, pool_mode: str, aligned: bool) -> Tensor:
    return torchvision.ops.roi_align(features, rois, output_size, spatial_scale, sampling_ratio,
                                     aligned)


def _batched_nms(boxes: Tensor,
                 scores: Tensor,
                 groups: Tensor,
                 settings: Any,
                 class_agnostic: bool = False) -> Tuple[Tensor, Tensor]:
    keep = torchvision.ops.batched_nms(boxes, scores, groups, settings['iou_threshold'])
    return torch.cat([boxes[keep], scores[keep, None]], 1), keep


class _Operators(types.ModuleType):

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__'):
            raise AttributeError(name)
        return type(name, (nn.Module, ), {})  # used by models that are not compared here


def _operators() -> str:
    """Make `import mmdet` work, and return whose operators it uses."""
    import mmcv
    from mmcv.cnn.bricks import transformer
    try:
        import mmcv.ops  # noqa: F401
        return "mmcv's operators"
    except ImportError:
        substitute = _Operators('mmcv.ops')
        substitute.__path__ = []
        substitute.RoIAlign, substitute.roi_align = RoIAlign, _roi_align
        substitute.batched_nms = _batched_nms
        for name in ('', '.nms', '.roi_align', '.carafe', '.merge_cells', '.modulated_deform_conv'):
            sys.modules[f'mmcv.ops{name}'] = substitute
        mmcv.ops = substitute
        transformer.MultiScaleDeformableAttention = substitute.MultiScaleDeformableAttention
    if mmcv.__version__ == '2.2.0':  # 3.3.0 refuses it, but needs nothing that changed
        mmcv.__version__ = '2.1.0'
    return "torchvision's operators"


def build(weights: str) -> nn.Module:
    """Build MMDetection's Mask R-CNN R50-FPN with our weights, which have the same names, frozen
    norms and the sampling of torchvision's RoIAlign."""
    import mmdet.models  # noqa: F401
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.registry import init_default_scope
    folder = os.path.dirname(mmdet.__file__)
    path = os.path.join(folder, '.mim/configs/_base_/models/mask-rcnn_r50_fpn.py')
    settings = Config.fromfile(path).model
    settings.backbone.norm_cfg.requires_grad = False
    settings.backbone.init_cfg = None
    for extractor in (settings.roi_head.bbox_roi_extractor, settings.roi_head.mask_roi_extractor):
        extractor.roi_layer.update(sampling_ratio=2, aligned=False)
    init_default_scope('mmdet')
    model = MODELS.build(settings)
    model.load_state_dict(ours.build(weights).state_dict())
    return model.train()


def peer(weights: str, work: Work, setting: Setting, args: argparse.Namespace) -> Peer:
    operators = _operators()
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData
    device = torch.device(args.device)
    model = prepare(build(weights), setting, device)
    images = layout(work.images.to(device), setting)
    extra = work.extra.to(device)
    size = tuple(args.size)
    meta = dict(img_shape=size, pad_shape=size, ori_shape=size, batch_input_shape=size)
    positives: List[Any] = []
    of_images: List[int] = []
    samples = []
    for boxes, labels, masks in zip(work.boxes, work.labels, work.masks):
        truth = InstanceData(
            bboxes=boxes.to(device),
            labels=labels.to(device),
            masks=BitmapMasks(masks.numpy(), *size))
        samples.append(DetDataSample(metainfo=meta, gt_instances=truth))
    propose, sample = model.rpn_head.predict_by_feat, model.roi_head.bbox_sampler.sample

    def with_extra(*arguments: Any, **named: Any) -> List[Any]:
        more = []
        for found, boxes in zip(propose(*arguments, **named), extra):
            added = InstanceData(
                bboxes=boxes,
                scores=boxes.new_ones(len(boxes)),
                labels=torch.zeros(len(boxes), dtype=torch.long, device=device))
            more.append(InstanceData.cat([found, added]))
        return more

    def counted(*arguments: Any, **named: Any) -> Any:
        chosen = sample(*arguments, **named)
        of_images.append(chosen.pos_inds.numel())
        return chosen

    model.rpn_head.predict_by_feat, model.roi_head.bbox_sampler.sample = with_extra, counted

    def loss_of() -> Tensor:
        losses = model.loss(images, [sample.clone() for sample in samples])
        positives.append(sum(of_images))
        of_images.clear()
        return sum(
            sum(value) if isinstance(value, list) else value for name, value in losses.items()
            if 'loss' in name)

    step, optimizer = learn(model, loss_of, setting, args)
    return Peer(step, positives, model, optimizer, operators)
