"""Models as modules that exporters can record: tensors in, tensors out, any batch and image size.

`graph_of(model, ...)` chooses by the model's class; a new kind of model registers its module with
`graph_of.register`. A graph uses the model's own layers and coders. Only what depends on the number of boxes or on the
size of the image is written here, as ONNX has it: no limit that is a Python number of the traced image.
"""
import copy
import functools
from typing import Any, List, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdet_ft.deploy.export import forms
from mmdet_ft.deploy.facts import ModelFacts
from mmdet_ft.errors import UserError
from mmdet_ft.models.classifiers.image import ImageClassifier
from mmdet_ft.models.deform_conv import DeformConv2d, DeformConv2dPack, ModulatedDeformConv2dPack
from mmdet_ft.models.dense_heads.rpn_head import RPNHead
from mmdet_ft.models.detectors.two_stage import TwoStageDetector
from mmdet_ft.models.roi_heads.base import RoIHead
from mmdet_ft.models.roi_heads.regions import to_rois
from mmdet_ft.models.roi_heads.roi_extractor import (GenericRoIExtractor, SingleRoIExtractor,
                                                     scale_rois)
from mmdet_ft.models.settings import NMSSettings
from mmdet_ft.ops.boxes import take


class Prepare(nn.Module):
    """Normalize and pad images: uint8 [B, H, W, 3] in BGR -> float32 [B, 3, H', W']."""

    mean: Tensor
    std: Tensor

    def __init__(self, facts: ModelFacts):
        super().__init__()
        self.facts = facts
        self.register_buffer('mean', torch.tensor(facts.mean, dtype=torch.float32)[:, None, None])
        self.register_buffer('std', torch.tensor(facts.std, dtype=torch.float32)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        x = images.permute(0, 3, 1, 2).float()
        if self.facts.to_rgb:
            x = x[:, [2, 1, 0]]
        x = (x - self.mean) / self.std
        if self.facts.divisor <= 1:
            return x
        below, right = ((-x.shape[side]) % self.facts.divisor for side in (2, 3))
        return F.pad(x, [0, right, 0, below])


class Graph(nn.Module):
    """A model from images to outputs. Subclasses name the outputs and give `run`.

    Its inputs are those of `input_names`: images as `Prepare` takes them, or without it float32 [B, 3, H, W] and, for
    a detector, sizes float32 [B, 2], height and width without padding; where masks are pasted, mask_size int64 [2],
    height and width of the masks.
    """
    output_names: Tuple[str, ...]
    model: Any

    def __init__(self, model: nn.Module, facts: ModelFacts):
        super().__init__()
        self.model = with_export_forms(model)
        self.facts = facts
        self.prepare: Optional[Prepare] = Prepare(facts) if facts.prepares else None

    def forward(self, *inputs: Tensor) -> Tuple[Tensor, ...]:
        given = dict(zip(input_names(self.facts), inputs))
        images = given['images']
        if self.prepare is not None:
            own = torch.stack([torch.as_tensor(images.shape[side]) for side in (1, 2)]).float()
            given.update(images=self.prepare(images), sizes=own[None].expand(images.shape[0], -1))
        return self.run(**given)

    def run(self,
            images: Tensor,
            sizes: Optional[Tensor] = None,
            mask_size: Optional[Tensor] = None) -> Tuple[Tensor, ...]:
        """Return the outputs for normalized images [B, 3, H, W] of `sizes` [B, 2]."""
        raise NotImplementedError


def input_names(facts: ModelFacts) -> Tuple[str, ...]:
    """Return the names of a file's inputs."""
    sizes = ('sizes', ) if facts.task == 'detector' and not facts.prepares else ()
    return ('images', *sizes, *(('mask_size', ) if facts.pastes else ()))


def with_export_forms(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose deformable convolutions and extractors are in their export form."""
    copied = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    for module in copied.modules():
        if isinstance(module, SingleRoIExtractor):
            vars(module)['forward'] = functools.partial(_pooled, module)
        if isinstance(module, DeformConv2d):
            vars(module)['forward'] = functools.partial(_shifted, module)
        if isinstance(module, (DeformConv2dPack, ModulatedDeformConv2dPack)):
            # vars: `sample` is a method of the class, replaced in this copy only
            vars(module)['sample'] = functools.partial(_sample, module)
    return copied


def _sample(module: Any, x: Tensor, offset: Tensor, mask: Optional[Tensor] = None) -> Tensor:
    return forms.deform_conv_form(x, offset, module.weight, module.bias, module.stride,
                                  module.padding, module.dilation, mask)


def _shifted(module: DeformConv2d, x: Tensor, offset: Tensor) -> Tensor:
    return forms.deform_conv_form(x, offset, module.weight, None, (1, 1), (1, 1), (1, 1), None)


@functools.singledispatch
def graph_of(model: nn.Module, facts: ModelFacts) -> Graph:
    """Return the graph of a model; raises UserError for a class without one."""
    raise UserError(
        f'{type(model).__name__} has no export form yet: there is one of '
        f'{", ".join(kind.__name__ for kind in graph_of.registry if kind is not object)}')


@graph_of.register
def _(model: ImageClassifier, facts: ModelFacts) -> Graph:
    return ClassifierGraph(model, facts)


class ClassifierGraph(Graph):
    """An image classifier: scores [B, K]."""
    output_names = ('scores', )

    def run(self,
            images: Tensor,
            sizes: Optional[Tensor] = None,
            mask_size: Optional[Tensor] = None) -> Tuple[Tensor, ...]:
        return (self.model.head.scores(self.model.logits(images)), )


@graph_of.register
def _(model: TwoStageDetector, facts: ModelFacts) -> Graph:
    if type(model.rpn_head) is not RPNHead:
        raise UserError(
            f'{type(model.rpn_head).__name__} has no export form yet: there is one of RPNHead')
    head = model.roi_head
    if type(head).predict is not RoIHead.predict or type(head).add_masks is not RoIHead.add_masks:
        raise UserError(f'{type(head).__name__} has no export form yet: it has scores of masks')
    for name, part in head.named_modules():
        if isinstance(part, GenericRoIExtractor):
            raise UserError(
                f'roi_head.{name}: GenericRoIExtractor has no export form yet: there is one of '
                'SingleRoIExtractor')
    return TwoStageGraph(model, facts)


class TwoStageGraph(Graph):
    """A detector of two stages.

    Outputs, with D the largest number of detections in an image of the batch (1 at least): dets float32 [B, D, 5]
    (x0, y0, x1, y1 in pixels of the input image, score), labels int64 [B, D], and with a mask head masks. Best first;
    a row without a detection has score 0. Masks are probabilities inside the boxes, float32 [B, D, M, M]; with
    `facts.pastes` bool [B, D, *mask_size], pasted into images of that size.
    """

    def __init__(self, model: TwoStageDetector, facts: ModelFacts):
        super().__init__(model, facts)
        self.output_names = ('dets', 'labels') + (('masks', ) if model.gives_masks else ())
        self.proposals = Proposals(self.model.rpn_head)
        self.detections = Detections(self.model.roi_head)

    def run(self,
            images: Tensor,
            sizes: Optional[Tensor] = None,
            mask_size: Optional[Tensor] = None) -> Tuple[Tensor, ...]:
        assert sizes is not None
        head: RoIHead = self.model.roi_head
        features = self.model.extract_features(images)
        boxes, scores = self.proposals(features, sizes)
        features = head.prepare(features)
        boxes, scores, labels = self.detections(features, boxes, scores, sizes)
        dets = torch.cat([boxes, scores.clamp(min=0)[..., None]], -1)
        if not self.model.gives_masks:
            return dets, labels
        masks = head.mask_probabilities(features, to_rois(boxes), labels.flatten())
        masks = masks.reshape(*labels.shape, *masks.shape[1:])
        if mask_size is not None:
            scale = (mask_size.float() / sizes).flip(1).repeat(1, 2)  # [B, 4] as x y x y
            pasted = forms.paste_form(
                masks.flatten(0, 1), (boxes * scale[:, None]).flatten(0, 1), mask_size[0],
                mask_size[1], self.facts.mask_threshold)
            masks = pasted.reshape(*labels.shape, *pasted.shape[1:])
        return dets, labels, masks


def suppressed(boxes: Tensor, scores: Tensor, settings: NMSSettings) -> Tensor:
    """Return scores [R, N] with -1 where nms removes a box [R, N, 4]; boxes with -1 take no part."""
    if settings.type != 'nms':
        raise UserError(
            f"nms type {settings.type!r} has no export form: in the config of the export write nms=dict(type='nms', "
            f'iou_threshold={settings.iou_threshold})')
    valid = scores >= 0
    if settings.score_threshold > 0:
        valid = valid & (scores > settings.score_threshold)
    if settings.offset:
        boxes = boxes + F.pad(boxes.new_zeros(2), [0, 2], value=settings.offset)
    keep = forms.nms_keep_form(boxes, scores, valid, settings.iou_threshold)
    return torch.where(keep, scores, torch.full_like(scores, -1.))


class Proposals(nn.Module):
    """Proposals of a region proposal network, as RPNHead.proposals: boxes [B, P, 4] and scores [B, P], -1 if none."""

    def __init__(self, head: RPNHead):
        super().__init__()
        self.head = head

    def forward(self, features: Sequence[Tensor], sizes: Tensor) -> Tuple[Tensor, Tensor]:
        settings = self.head.test_settings
        assert settings is not None, 'no test_cfg'
        outputs = self.head(features)
        levels = [
            self.level(*parts, sizes)
            for parts in zip(self.anchors(features), outputs.logits, outputs.deltas)
        ]
        if settings.nms.class_agnostic:
            parts = [torch.cat(part, 1) for part in zip(*levels)]
            boxes, scores = parts[0], suppressed(parts[0], parts[1], settings.nms)
        else:
            boxes = torch.cat([boxes for boxes, _ in levels], 1)
            scores = torch.cat([suppressed(*level, settings.nms) for level in levels], 1)
        limit = settings.nms.limit(settings.max_per_img, 1 << 30)
        scores, index = forms.top_k(scores, limit)
        return take(boxes, index), scores

    def anchors(self, features: Sequence[Tensor]) -> List[Tensor]:
        """Return the anchors of each level, [A_l, 4], without the cache of the generator."""
        generator = self.head.anchor_generator
        sizes = [(feature.shape[2], feature.shape[3]) for feature in features]
        return [
            generator._single_level(size, level, step, torch.float32, features[0].device)[0]
            for level, (size, step) in enumerate(zip(sizes, generator.steps(sizes)))
        ]

    def level(self, anchors: Tensor, logits: Tensor, deltas: Tensor,
              sizes: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the best boxes [B, N, 4] of a level and their scores [B, N], -1 for those that are too small."""
        settings = self.head.test_settings
        assert settings is not None, 'no test_cfg'
        scores = (logits.sigmoid() if self.head.use_sigmoid else logits.softmax(-1))[..., 0]
        scores, index = forms.top_k(scores, settings.nms_pre if settings.nms_pre > 0 else 1 << 30)
        boxes = self.head.bbox_coder.decode(anchors[index], take(deltas, index), max_shape=sizes)
        if settings.min_bbox_size >= 0:
            good = ((boxes[..., 2:] - boxes[..., :2]) > settings.min_bbox_size).all(-1)
            scores = torch.where(good, scores, torch.full_like(scores, -1.))
        return boxes, scores


class Detections(nn.Module):
    """Classes and boxes of regions: boxes [B, D, 4], scores [B, D], -1 if none, and labels [B, D]."""

    def __init__(self, head: RoIHead):
        super().__init__()
        self.head = head

    def forward(self, features: Sequence[Tensor], boxes: Tensor, scores: Tensor,
                sizes: Tensor) -> Tuple[Tensor, Tensor, Tensor]:
        head, settings = self.head, self.head.test_settings
        assert settings is not None, 'no test_cfg'
        num_images, num_proposals = boxes.shape[:2]
        moved, likely = head.box_predictions(features, boxes, sizes)
        num_classes = likely.shape[2]
        moved = moved.expand(-1, -1, num_classes, -1)
        candidate = (scores >= 0)[..., None] & (likely > settings.score_thr)
        likely = torch.where(candidate, likely, torch.full_like(likely, -1.))
        if settings.nms.class_agnostic:
            kept = suppressed(moved.flatten(1, 2), likely.flatten(1), settings.nms)
        else:
            kept = suppressed(
                moved.transpose(1, 2).flatten(0, 1),
                likely.transpose(1, 2).flatten(0, 1), settings.nms)
            kept = kept.reshape(num_images, num_classes, num_proposals).transpose(1, 2).flatten(1)
        best, index = forms.top_k(kept, settings.nms.limit(settings.max_per_img, 1 << 30))
        count = (best >= 0).sum(1).max().clamp(min=1)
        best, index = best[:, :count], index[:, :count]
        return take(moved.flatten(1, 2), index), best, index % num_classes


def _pooled(extractor: SingleRoIExtractor,
            features: Sequence[Tensor],
            rois: Tensor,
            roi_scale_factor: Optional[float] = None) -> Tensor:
    """Return the features of rois [R, 5] as SingleRoIExtractor.forward."""
    layer, level = extractor.roi_layer, extractor.map_roi_levels(rois)
    if roi_scale_factor is not None and extractor.num_inputs > 1:
        rois = scale_rois(rois, roi_scale_factor)
    return forms.roi_align_form(features[:extractor.num_inputs], rois, level,
                                [1 / stride for stride in extractor.featmap_strides],
                                layer.output_size, layer.sampling_ratio, layer.aligned)
