"""User code written for MMClassification is answered with what to write."""
from torch import nn

from mmdet_ft.engine.legacy.user_code import explain_class, old_names


class OldHead(nn.Module):

    def forward_train(self, x, gt_label, **kwargs):
        return dict()

    def simple_test(self, x):
        return x


class OldClassifier(nn.Module):

    def extract_feat(self, img):
        return img

    def forward_train(self, img, gt_label, **kwargs):
        return dict()


def test_a_head_of_mmclassification_is_told_the_methods_of_ours():
    text = explain_class(OldHead)
    assert 'forward_train and simple_test' in text
    assert 'loss(logits, labels) and scores(logits) as ClsHead' in text


def test_a_classifier_is_told_the_methods_of_ours():
    assert 'results(scores, metas) as ImageClassifier' in explain_class(OldClassifier)


def test_imports_of_mmclassification_are_answered():
    source = '\n'.join([
        'from mmcls.models import BACKBONES, LinearClsHead',
        'from mmcls.models.backbones.base_backbone import BaseBackbone',
        'from mmcls.models.builder import build_classifier'
    ])
    text = ' '.join(map(str, old_names(source)))
    assert 'from mmdet_ft.models.heads.cls_head import LinearClsHead' in text
    assert 'from mmdet_ft.models.base_module import BaseModule' in text
    assert 'from mmdet_ft.apis import build_classifier' in text
