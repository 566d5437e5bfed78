"""Image classifier: an image in, a score for each class out."""
import dataclasses
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from mmdet_ft.models.base_module import BaseModule, InitCfg, PartConfig
from mmdet_ft.models.classification_defaults import build_for_classification
from mmdet_ft.models.classifiers.mixing import Mixing
from mmdet_ft.models.heads.cls_head import ClsHead, MultiLabelClsHead
from mmdet_ft.models.necks.chain import build_necks
from mmdet_ft.models.settings import read_settings
from mmdet_ft.ops.normalize import normalize_images
from mmdet_ft.parts import stated_layers
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import Batch, Losses, Scores


@dataclasses.dataclass(frozen=True)
class ClassifierTrainSettings:
    """`model.train_cfg` of a classifier."""
    augments: Any = None  # one or several ways to mix the images of a batch


@MODELS.register_module()
class ImageClassifier(BaseModule):
    """A classifier, called with a batch: returns Losses in training, Scores in evaluation.

        images (-> mixing) -> backbone -> neck -> head -> loss or scores

    MMClassification 0.25's arguments and state_dict.

    Args:
        backbone, neck, head: parts, or their configs. Some backbones contain their classifier (VGG, LeNet5);
            then the head only computes the loss and scores.
        pretrained: a checkpoint of the whole classifier, as `init_cfg=dict(type='Pretrained', ...)`.
        train_cfg: `augments`, which mix the images of a batch in training: BatchMixup or BatchCutMix, or a list
            of them with their probabilities.
    """
    CLASSES: Optional[Tuple[str, ...]] = None
    PALETTE: Any = None

    def __init__(self,
                 backbone: PartConfig,
                 neck: Union[PartConfig, Sequence[Dict], None] = None,
                 head: Optional[PartConfig] = None,
                 pretrained: Optional[str] = None,
                 train_cfg: Union[Dict, ClassifierTrainSettings, None] = None,
                 init_cfg: InitCfg = None):
        if pretrained is not None:
            init_cfg = dict(type='Pretrained', checkpoint=pretrained)
        super().__init__(init_cfg)
        train = read_settings(ClassifierTrainSettings, train_cfg or {}, 'train_cfg')
        self.backbone = build_for_classification(backbone)
        self.neck = build_necks(neck)
        self.head: Union[ClsHead, MultiLabelClsHead] = MODELS.build(head)
        self.mixing = None if train.augments is None else Mixing(train.augments)
        num_classes = getattr(self.head, 'num_classes', getattr(self.backbone, 'num_classes', None))
        if self.mixing is not None and num_classes not in (None, self.mixing.num_classes):
            raise ValueError(
                f'train_cfg.augments: num_classes is {self.mixing.num_classes}, but the model has '
                f'{num_classes}; write num_classes={num_classes} there')

    def forward(self, batch: Union[Batch, Tuple[Batch, ...]]) -> Union[Losses, Scores]:
        """Return losses of a batch in training, Scores in evaluation.

        For a tuple of views of the same images, Scores are the mean over the views.
        """
        if self.training:
            assert isinstance(batch, Batch), 'views are for evaluation'
            return self.loss(batch)
        views = (batch, ) if isinstance(batch, Batch) else batch
        scores = [self.head.scores(self.logits(normalize_images(view))) for view in views]
        return Scores(scores[0] if len(views) == 1 else torch.stack(scores).mean(0))

    def extract_features(self, images: Tensor) -> Tuple[Tensor, ...]:
        """Return the features of the backbone, or of the neck, for normalized images [B, C, H, W]."""
        features = self.backbone(images)
        return features if self.neck is None else self.neck(features)

    def logits(self, images: Tensor) -> Tensor:
        """Return logits of normalized images, float32 [B, K]."""
        return self.head(self.extract_features(images))

    def loss(self, batch: Batch) -> Losses:
        """Return losses in training, where images are mixed, and for validation, where they are not."""
        assert batch.gt is not None, 'a batch without labels has no loss'
        images, labels = normalize_images(batch), batch.gt.labels
        if self.mixing is not None and self.training:
            images, labels = self.mixing(images, labels)
        return self.head.loss(self.logits(images), labels)

    def results(self, scores: Scores, metas: List[Dict[str, Any]]) -> List[np.ndarray]:
        """Return MMClassification's result of each image: its scores, float32 [K], on the host."""
        # A copy, so that pinned memory is not kept until all images are done.
        return list(scores.scores.float().cpu().numpy().copy())

    def prediction_layers(self) -> Tuple[str, ...]:
        """Return prefixes of state_dict names whose shape depends on the number of classes."""
        return tuple(stated_layers(self))
