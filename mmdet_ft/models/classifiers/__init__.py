"""Complete classifiers."""
from mmdet_ft.models.classifiers.image import ImageClassifier
from mmdet_ft.models.classifiers.mixing import BatchCutMix, BatchMixup, Identity

__all__ = ['BatchCutMix', 'BatchMixup', 'Identity', 'ImageClassifier']
