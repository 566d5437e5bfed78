"""The labels of a classifier's data against its head: before the first step, in training, test and check_data."""
import re
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from mmdet_ft.config import Config
from mmdet_ft.datasets.wrappers import ConcatDataset, RepeatDataset
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.hooks.monitoring import NumClassCheckHook
from mmdet_ft.engine.models.build import build_model
from mmdet_ft.engine.models.labels import check_labels, check_learnable, warn_of_unused_outputs
from mmdet_ft.engine.run_check.data import check_data
from mmdet_ft.models.heads.cls_head import LinearClsHead, MultiLabelLinearClsHead


class Labels:
    """A classification data set of labels alone."""
    CLASSES = None
    ann_file = 'labels.txt'

    def __init__(self, labels, classes=None):
        self.labels, self.CLASSES = np.array(labels), classes

    def __len__(self):
        return len(self.labels)

    def get_gt_labels(self):
        return self.labels


def model_of(head):
    return SimpleNamespace(head=head, backbone=SimpleNamespace())


def test_labels_beyond_the_head_are_refused_with_the_number_to_write():
    model = model_of(LinearClsHead(2, 4))
    check_labels(Labels([0, 1, 1]), model)
    with pytest.raises(UserError, match='labels.txt: 1 of 3 images have a label of 2 or more.*=3'):
        check_labels(Labels([0, 1, 2]), model)
    with pytest.raises(UserError, match='seem to count from 1: subtract 1'):
        check_labels(Labels([1, 2]), model)
    for wrapped in (RepeatDataset(Labels([0, 5]), 2), ConcatDataset([Labels([0]), Labels([5])])):
        with pytest.raises(UserError, match='up to 5'):
            check_labels(wrapped, model)


@pytest.mark.parametrize('classes, outputs, words', [
    (['cat', 'dog'], 5, 'num_classes is 5 and the training dataset has 2 classes: .*write num_classes=2'),
    (['cat', 'dog'], 2, None), (None, 5, None),
])  # yapf: disable
def test_outputs_beyond_the_classes_of_the_data_are_told_once(monkeypatch, classes, outputs, words):
    message = []
    monkeypatch.setattr('mmdet_ft.engine.models.labels.logger.warning',
                        lambda text, *values: message.append(text % values))
    warn_of_unused_outputs(Labels([0, 1], classes), model_of(LinearClsHead(outputs, 4)))
    assert len(message) == bool(words) and all(re.search(words, text) for text in message)


def test_a_head_of_several_labels_is_not_for_one_label_an_image():
    head = MultiLabelLinearClsHead(2, 4)
    check_labels(Labels([[0, 1], [1, 1]]), model_of(head))
    with pytest.raises(UserError, match="write model.head.type='LinearClsHead'"):
        check_labels(Labels([0, 1]), model_of(head))


def test_one_class_alone_is_refused_for_training_and_not_for_a_test():
    model = model_of(LinearClsHead(2, 4))
    check_labels(Labels([1, 1], ['cat', 'dog']), model)
    check_learnable(Labels([1, 0]), model)
    with pytest.raises(UserError, match="is of one class, 'dog'.*at loss 0"):
        check_learnable(Labels([1, 1], ['cat', 'dog']), model)


def test_the_model_of_a_test_is_checked_too_and_detectors_are_let_through():
    cfg = Config(
        dict(
            model=dict(
                type='ImageClassifier',
                backbone=dict(type='LeNet5'),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=2, in_channels=120))))
    assert build_model(cfg.model, Labels([0, 1], ['a', 'b'])).CLASSES == ['a', 'b']
    with pytest.raises(UserError, match='num_classes is 2'):
        build_model(cfg.model, Labels([0, 2]))
    check_labels(SimpleNamespace(CLASSES=('a', )), SimpleNamespace(bbox_head=None))


def config(root, train, count=2, **settings):
    """A classifier on label files below `root`."""
    (root / 'train.txt').write_text(train)
    data = dict(
        type='CustomDataset',
        data_prefix=str(root),
        ann_file=str(root / 'train.txt'),
        pipeline=[],
        **settings)
    head = dict(type='LinearClsHead', num_classes=count, in_channels=4)
    return Config(dict(model=dict(type='ImageClassifier', head=head), data=dict(train=data)))


def kinds(cfg):
    return [problem.kind for problem in check_data(cfg, ['train'], images=False).problems]


def test_check_data_says_the_same(tmp_path):
    assert kinds(config(tmp_path, 'a.jpg 0\nb.jpg 1\n')) == []  # no names: no false alarm
    assert kinds(config(tmp_path, 'a.jpg 1\nb.jpg 2\n')) == ['label beyond the head']
    assert kinds(config(tmp_path, 'a.jpg 1\nb.jpg 1\n')) == ['one class only']
    assert 'label beyond the head' not in kinds(config(tmp_path, 'a.jpg 0\nb.jpg 2\n', 'auto'))


def test_another_number_of_classes_is_said_without_a_training_step(tmp_path):
    cfg = config(tmp_path, 'a.jpg 0\nb.jpg 1\n', 3, classes=['cat', 'dog'])
    assert kinds(cfg) == []
    cfg.custom_hooks = [dict(type='NumClassCheckHook')]
    assert kinds(cfg) == ['another number of classes']
    with pytest.raises(
            UserError, match='Labels has 2 classes but head.num_classes is 3; write num_classes=2'):
        NumClassCheckHook.refuse_other_num_classes(
            Labels([0, 1], ['cat', 'dog']), Net(LinearClsHead(3, 4)))
    NumClassCheckHook.refuse_other_num_classes(Labels([0, 1]), Net(LinearClsHead(3, 4)))


class Net(nn.Module):

    def __init__(self, head):
        super().__init__()
        self.head = head
