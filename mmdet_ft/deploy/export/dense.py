"""One-stage detectors as modules that exporters can record; see graphs.py."""
import functools
from typing import List, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from mmdet_ft.deploy.export import forms
from mmdet_ft.deploy.export.graphs import Graph, graph_of, suppressed
from mmdet_ft.deploy.facts import ModelFacts
from mmdet_ft.errors import UserError
from mmdet_ft.models.anchors import AnchorGenerator
from mmdet_ft.models.dense_heads.dense_head import Candidates, DenseHead, apart
from mmdet_ft.models.dense_heads.paa_head import PAAHead
from mmdet_ft.models.detectors.single_stage import SingleStageDetector
from mmdet_ft.ops.boxes import take
from mmdet_ft.structures import Detections


@graph_of.register
def _(model: SingleStageDetector, facts: ModelFacts) -> Graph:
    head = model.bbox_head
    if type(head).select is not DenseHead.select and not isinstance(head, PAAHead):
        raise UserError(
            f'{type(head).__name__} has no export form yet: it has a `select` of its own')
    return DenseGraph(model, facts)


class DenseGraph(Graph):
    """A detector of one stage. Its outputs are dets and labels, as those of TwoStageGraph."""
    output_names = ('dets', 'labels')

    def __init__(self, model: nn.Module, facts: ModelFacts):
        super().__init__(model, facts)
        head: DenseHead = self.model.bbox_head
        # vars: these are methods of the class, replaced in this copy only
        vars(head)['best'] = best
        vars(head)['priors'] = functools.partial(priors, head.prior_generator)
        if hasattr(head, 'sample_at'):
            vars(head)['sample_at'] = sample_at

    def run(self,
            images: Tensor,
            sizes: Optional[Tensor] = None,
            mask_size: Optional[Tensor] = None) -> Tuple[Tensor, ...]:
        assert sizes is not None
        head: DenseHead = self.model.bbox_head
        settings = head.test_settings
        assert settings is not None, 'no test_cfg'
        found = head.candidates_in(head(self.model.extract_features(images)), sizes)
        kept = by_class(head, found) if isinstance(head, PAAHead) else together(head, found)
        scores, index = forms.top_k(kept, settings.nms.limit(settings.max_per_img, 1 << 30))
        count = (scores >= 0).sum(1).max().clamp(min=1)
        scores, index = scores[:, :count], index[:, :count]
        boxes, labels = take(found.boxes, index), take(found.labels, index)
        if isinstance(head, PAAHead) and head.score_voting:
            boxes = head.voted(Detections(boxes, scores, labels, scores >= 0), found)
        return torch.cat([boxes, scores.clamp(min=0)[..., None]], -1), labels


def together(head: DenseHead, found: Candidates) -> Tensor:
    """Return the scores [B, N] of DenseHead.select, -1 for suppressed boxes."""
    settings = head.test_settings
    assert settings is not None, 'no test_cfg'
    boxes = found.boxes if settings.nms.class_agnostic else apart(found)
    return suppressed(boxes, valid_scores(found), settings.nms)


def by_class(head: DenseHead, found: Candidates) -> Tensor:
    """Return the scores [B, P * K] of PAAHead.select, -1 for suppressed boxes."""
    settings, num_classes = head.test_settings, head.num_classes
    assert settings is not None, 'no test_cfg'
    scores = valid_scores(found)
    if settings.nms.class_agnostic:
        return suppressed(found.boxes, scores, settings.nms)
    boxes = found.boxes.unflatten(1, (-1, num_classes)).transpose(1, 2)  # [B, K, P, 4]
    scores = scores.unflatten(1, (-1, num_classes)).transpose(1, 2)
    kept = suppressed(boxes.flatten(0, 1), scores.flatten(0, 1), settings.nms)
    return kept.unflatten(0, (-1, num_classes)).transpose(1, 2).flatten(1)


def valid_scores(found: Candidates) -> Tensor:
    """Return the scores [B, N], -1 where a candidate is not valid."""
    return torch.where(found.valid, found.scores, torch.full_like(found.scores, -1.))


def best(scores: Tensor, valid: Optional[Tensor], count: int) -> Tuple[Tensor, Tensor]:
    """Choose as DenseHead.best does; of equal scores the first comes first."""
    if valid is not None:
        scores = torch.where(valid, scores, torch.full_like(scores, -1.))
    scores, index = forms.top_k(scores, count)
    return index, scores >= 0


def sample_at(x: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
    """Sample as torchvision's deform_conv2d with a 1x1 kernel does."""
    return forms.deform_conv_form(x, offset, weight, None, (1, 1), (0, 0), (1, 1), None)


def priors(generator: AnchorGenerator, sizes: Sequence[Tuple[int, int]],
           device: torch.device) -> List[Tensor]:
    """Return the priors of each level as DenseHead.priors does, without the cache of the generator."""
    return [
        generator._single_level(size, level, step, torch.float32, device)[0]
        for level, (size, step) in enumerate(zip(sizes, generator.steps(sizes)))
    ]
