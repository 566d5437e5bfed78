"""What a config alone tells to be wrong of a classifier's head, neck and rates."""
from pathlib import Path

import pytest
import torch

from mmdet_ft.config import CheckError, load_config
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.run_check.preflight import check_learning_rate

CONFIGS = Path(__file__).parents[2] / 'configs'
FT = 'custom/classifier_ft.py'
CLS_HEAD = {'model.head': dict(_delete_=True, type='ClsHead')}


@pytest.mark.parametrize('options, words', [
    ({'model.head.topk': (1, 5), 'model.head.cal_acc': True, 'model.head.num_classes': 2},
     'model.head.topk: asks for the best 5 of 2 classes; write topk=(1, ) (--cfg-options model.head.topk)'),
    ({'model.head.loss.class_weight': [1., 2., 3.], 'model.head.num_classes': 2},
     'model.head.loss.class_weight: has 3 weights for 2 classes; write 2'),
    ({'model.neck': None}, "model.neck: is None, but LinearClsHead takes one vector per image and ResNet gives maps; "
                           "write neck=dict(type='GlobalAveragePooling')"),
    (CLS_HEAD, "model.head: ClsHead has no layer: the 2048 features of ResNet would be taken for the scores of as many "
               "classes; write head=dict(type='LinearClsHead', num_classes=..., in_channels=2048)"),
    ({**CLS_HEAD, 'model.neck': None}, 'model.head: ClsHead has no layer'),
    ({'optimizer.lr': -.1}, 'optimizer.lr: must be 0 or more, and finite, not -0.1'),
    ({'optimizer.lr': float('nan')}, 'optimizer.lr: must be 0 or more, and finite, not nan'),
    ({'optimizer.lr': float('inf')}, 'must be 0 or more, and finite, not inf'),
    ({'optimizer.weight_decay': -1}, 'optimizer.weight_decay: must be 0 or more'),
    ({'optimizer.momentum': True}, 'optimizer.momentum: must be a number, not True'),
    ({'model.head.in_channels': 64}, 'model.head.in_channels: is 64, but ResNet of model.backbone gives 2048'),
])  # yapf: disable
def test_a_setting_of_a_classifier_that_cannot_work_is_told_before_the_start(options, words):
    with pytest.raises(CheckError) as caught:
        prepare(load_config(CONFIGS / FT, options))
    assert words in str(caught.value)


def test_weights_of_a_box_head_count_the_background():
    options = {
        'model.roi_head.bbox_head.num_classes': 2,
        'model.roi_head.bbox_head.loss_cls.class_weight': [1., 2.]
    }
    with pytest.raises(CheckError, match='has 2 weights for 2 classes and the background; write 3'):
        prepare(load_config(CONFIGS / 'custom/faster_rcnn.py', options))
    options['model.roi_head.bbox_head.loss_cls.class_weight'] = [1., 2., 1.]
    prepare(load_config(CONFIGS / 'custom/faster_rcnn.py', options))


@pytest.mark.parametrize('name, options', [
    (FT, {'model.head.topk': (1, 2), 'model.head.cal_acc': True, 'model.head.loss.class_weight': [1., 2.]}),
    (FT, {'model.head.topk': (1, 5)}),  # asked for in evaluation alone: V2 takes the classes that there are
    ('mnist/lenet5.py', {}),
])  # yapf: disable
def test_what_works_passes(name, options):
    prepare(load_config(CONFIGS / name, options))


def test_rates_multiplied_by_zero_are_not_said_to_be_written_as_zero():
    weight = torch.nn.Parameter(torch.zeros(1))

    class Runner:
        optimizer = torch.optim.SGD([dict(params=[weight], lr=0.)], lr=.1)

    with pytest.raises(
            UserError,
            match='optimizer.lr=0.1, but paramwise_cfg multiplies it by 0 for each parameter'):
        check_learning_rate(Runner)
    Runner.optimizer = torch.optim.SGD([weight], lr=0.)
    with pytest.raises(UserError, match='optimizer.lr=0 trains nothing'):
        check_learning_rate(Runner)
