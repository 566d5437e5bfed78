"""Classes of a checkpoint and of a run, compared by name: heads are never permuted in silence."""
import logging
import shlex
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from mmdet_ft.checkpoints.class_rows import copy_class_rows, match_classes
from mmdet_ft.checkpoints.classes import compare, line_of, renaming_line
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.fitting import fit, load_trained, pretrained_loader
from mmdet_ft.checkpoints.input_format import InputFormat
from mmdet_ft.checkpoints.reading import Checkpoint
from mmdet_ft.commands.publish_model import publish
from mmdet_ft.datasets.classification.folder import ClassFolders
from mmdet_ft.engine.models.trained import build_trained
from mmdet_ft.engine.runner.resume_state import restore
from mmdet_ft.parts import Rows
from mmdet_ft.registry import MODELS
from tests.models.tiny import tiny_config, tiny_model

CLASSES = ('cat', 'dog', 'bird')
FC_CLS = 'roi_head.bbox_head.fc_cls.weight'


def of(model, classes=CLASSES, source='a.pth'):
    return Checkpoint(source, model.state_dict(), {} if classes is None else dict(CLASSES=classes),
                      {})


def named(classes, seed=5, num_classes=None):
    torch.manual_seed(seed)
    model = MODELS.build(tiny_config(num_classes=num_classes or len(classes)))
    model.CLASSES = classes
    return model


@pytest.mark.parametrize('known, wanted, same, moved, missing', [
    (CLASSES, CLASSES, True, False, ()),
    (CLASSES, ('Cat', 'dog', 'BIRD'), True, False, ()),
    (CLASSES, ('dog', 'cat', 'bird'), False, True, ()),
    (CLASSES, ('cat', 'dog'), False, False, ()),
    (CLASSES, ('dog', ), False, True, ()),
    (CLASSES, ('cat', 'dog', 'cow'), False, False, ('cow', )),
    (('a b', 'ab'), ('ab', 'a b'), False, True, ()),
])  # yapf: disable
def test_classes_are_compared_by_name(known, wanted, same, moved, missing):
    found = compare(known, wanted)
    assert (found.is_same, found.are_moved, found.missing) == (same, moved, missing)


def test_without_names_nothing_is_said():
    assert compare(None, CLASSES) is None and compare(CLASSES, ()) is None
    assert line_of(('a', )) == "classes=('a',)"
    source, model = tiny_model(), named(('x', 'y', 'z'))
    report = str(fit(model, of(source, None)))
    assert 'class' not in report and torch.equal(model.state_dict()[FC_CLS],
                                                 source.state_dict()[FC_CLS])


def test_names_that_stand_twice_are_two_classes():
    """ImageNet has two cranes."""
    found = compare(('crane', 'dog', 'crane'), ('crane', 'dog', 'crane'))
    assert found.is_same and not found.are_moved
    assert compare(('crane', 'dog', 'crane'), ('dog', 'crane', 'crane')).indices == (1, 0, 2)


def test_a_few_other_words_for_the_same_list_are_a_warning(tmp_path, caplog):
    known = tuple(f'class {number}' for number in range(20))
    source, model = named(known), named(('klass 0', 'the second', *known[2:]))
    with caplog.at_level(logging.WARNING, logger='mmdet_ft'):
        load_trained(model, of(source, known))
    assert 'has other names for 2 of its 20 classes, taken as the same ones: klass 0 for class 0' in caplog.text
    assert not compare(known, (known[1], known[0], *known[2:])).is_spelling
    assert not compare(CLASSES, ('cat', 'dog', 'cow')).is_spelling


@pytest.mark.parametrize('whole', [True, False])
def test_heads_that_init_cfg_brings_go_by_name_too(tmp_path, caplog, whole):
    source = tiny_model()
    path = str(tmp_path / 'a.pth')
    torch.save(dict(state_dict=source.state_dict(), meta=dict(CLASSES=CLASSES)), path)
    settings = tiny_config()
    init_cfg = dict(type='Pretrained', checkpoint=path)
    if whole:
        settings['init_cfg'] = init_cfg
    else:
        settings['roi_head']['bbox_head']['init_cfg'] = dict(init_cfg, prefix='roi_head.bbox_head.')
    model = MODELS.build(settings)
    with caplog.at_level(logging.WARNING, logger='mmdet_ft'):
        model.init_weights(load=pretrained_loader(InputFormat(), classes=('bird', 'cat', 'dog')))
    assert torch.equal(model.state_dict()[FC_CLS], source.state_dict()[FC_CLS][[2, 0, 1, 3]])
    assert 'rows of the heads are matched by name: 3 of 3 classes copied: bird, cat, dog' in caplog.text


# ------------------------------------------------------------------------------------------ load_from


def test_load_from_with_classes_in_another_order_takes_the_heads_by_name():
    source, model = tiny_model(), named(('dog', 'bird', 'cat'))
    report = fit(model, of(source))
    theirs, ours = source.state_dict(), model.state_dict()
    assert torch.equal(ours[FC_CLS], theirs[FC_CLS][[1, 2, 0, 3]])
    reg = 'roi_head.bbox_head.fc_reg.weight'
    assert torch.equal(ours[reg].view(3, 4, -1), theirs[reg].view(3, 4, -1)[[1, 2, 0]])
    assert 'in another order: rows of the heads are matched by name' in str(report)
    assert 'heads by class: 3 of 3 classes copied: dog, bird, cat' in str(report)


def test_a_class_that_only_the_run_has_begins_fresh_where_others_have_moved():
    source, model = tiny_model(), named(('dog', 'cow', 'cat'))
    fresh = model.state_dict()[FC_CLS].clone()
    fit(model, of(source))
    theirs, ours = source.state_dict()[FC_CLS], model.state_dict()[FC_CLS]
    assert torch.equal(ours[[0, 2]], theirs[[1, 0]]) and torch.equal(ours[1], fresh[1])


def test_names_that_are_not_those_of_the_rows_are_told():
    model = named(('dog', 'cat'), num_classes=3)
    report = fit(model, of(tiny_model(), ('cat', 'dog')))
    assert report.by_class is None and 'have not one row for each' in report.warnings[0]


def test_boxes_that_know_no_classes_stay_as_they_are():
    """Four rows and two classes: two rows would be each one's."""
    old, new = torch.arange(4.), torch.zeros(4)
    match = match_classes(('cat', 'dog'), ('dog', 'cat'), {})
    assert copy_class_rows(Rows(each=4), old, new, match) is None
    rows = copy_class_rows(Rows(each=4), torch.arange(8.), torch.zeros(8), match)
    assert rows.tolist() == [4, 5, 6, 7, 0, 1, 2, 3]


def test_other_names_at_the_same_places_are_told_and_taken_as_they_are():
    source, model = tiny_model(), named(('cat', 'dog', 'cow'))
    report = fit(model, of(source))
    assert torch.equal(model.state_dict()[FC_CLS], source.state_dict()[FC_CLS])
    assert "cow as bird" in report.warnings[0] and "heads='by_class'" in report.warnings[0]


def test_another_number_of_classes_names_those_that_the_file_has_too():
    report = fit(named(('dog', 'cow')), of(tiny_model()))
    assert "1 of the classes are in the file too (dog)" in report.warnings[0]
    assert "load_from=dict(checkpoint='a.pth', heads='by_class')" in report.warnings[0]
    assert not fit(named(('x', 'y')), of(tiny_model())).warnings


@pytest.mark.parametrize('config, layer', [
    (dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18, base_channels=4, out_indices=(3, )),
          neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=3, in_channels=32)),
     'head.fc.weight'),
    (dict(type='ImageClassifier', backbone=dict(type='LeNet5', num_classes=3), head=dict(type='ClsHead')),
     'backbone.classifier.2.weight'),
])  # yapf: disable
def test_a_classifiers_rows_go_by_name_too(config, layer):
    source, model = MODELS.build(dict(config)), MODELS.build(dict(config))
    model.CLASSES = ('bird', 'cat', 'dog')
    fit(model, of(source))
    assert torch.equal(model.state_dict()[layer], source.state_dict()[layer][[2, 0, 1]])


# -------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize('classes, words', [
    (('dog', 'cat', 'bird'), ["classes=('cat', 'dog', 'bird') in data.train, data.val and data.test", '<- differ',
                              "load_from='a.pth'"]),
    (('cat', 'dog', 'cow'), ['publish_model.py a.pth renamed.pth --classes cat dog cow',
                             "classes=('cat', 'dog', 'bird')"]),
    (('cat', 'dog'), ['3 classes (cat, dog, bird), and this run has 2 classes (cat, dog)', "load_from='a.pth'"]),
])  # yapf: disable
def test_other_classes_cannot_be_resumed(classes, words):
    model = named(classes)
    checkpoint = of(tiny_model())
    checkpoint.meta.update(epoch=1, iter=2)
    with pytest.raises(CheckpointError, match='a.pth cannot be resumed') as error:
        restore(SimpleNamespace(model=model), checkpoint, True)
    assert all(word in str(error.value) for word in words), str(error.value)


# --------------------------------------------------------------------------------------------- test


def write(tmp_path, model, classes=CLASSES):
    path = str(tmp_path / 'a.pth')
    torch.save(dict(state_dict=model.state_dict(), meta=dict(CLASSES=classes)), path)
    return path


def settings_of(num_classes=3):
    return tiny_config(num_classes=num_classes)


class Faked:
    """Stands for what a detector has found: boxes and masks of each class."""

    def __init__(self, classes):
        self.CLASSES = classes


@pytest.mark.parametrize('classes, num_classes', [(('dog', 'bird', 'cat'), 3), (('dog', ), 3),
                                                  (('dog', ), 1), (('bird', 'cat'), 2)])
def test_results_of_a_detector_come_in_the_order_of_the_data(tmp_path, caplog, classes, num_classes,
                                                             monkeypatch):
    source = named(CLASSES)
    with caplog.at_level(logging.WARNING, logger='mmdet_ft'):
        model = build_trained(settings_of(num_classes), Faked(classes), write(tmp_path, source))
    assert torch.equal(model.state_dict()[FC_CLS], source.state_dict()[FC_CLS])
    assert model.CLASSES == classes and 'results are put in the order of the data, by name' in caplog.text
    monkeypatch.setattr(type(model), 'results', lambda self, found, metas: found)
    model = build_trained(settings_of(num_classes), Faked(classes), write(tmp_path, source))
    found = [(['cats', 'dogs', 'birds'], (['m cats', 'm dogs',
                                           'm birds'], ['s cats', 's dogs', 's birds']))]
    boxes, (masks, scores) = model.results(found, [{}])[0]
    assert boxes == [f'{name}s' for name in classes] and masks == [f'm {name}s' for name in classes]
    assert scores == [f's {name}s' for name in classes]


@pytest.mark.parametrize('classes, words', [
    (('cat', 'cow', 'bird'), ["'cow'", "data.test.classes=('cat', 'bird')", '--classes cat cow bird', 'data.test']),
    (('x', 'y', 'z'), ["'x', 'y', 'z'", '--classes x y z', 'name a checkpoint of these classes']),
    (('cat', 'fox'), ["'fox'", "data.test.classes=('cat',)"]),
])  # yapf: disable
def test_a_test_of_other_classes_is_refused_with_both_lists(tmp_path, classes, words):
    with pytest.raises(
            CheckpointError, match='data.test has classes that it does not know') as error:
        build_trained(settings_of(), Faked(classes), write(tmp_path, named(CLASSES)))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_checkpoint_without_names_is_tested_as_it_is(tmp_path, caplog):
    model = build_trained(settings_of(), Faked(('x', 'y', 'z')),
                          write(tmp_path, named(CLASSES), None))
    assert model.CLASSES == ('x', 'y', 'z') and not caplog.text


def folders(root: Path, names):
    for name in names:
        (root / name).mkdir(parents=True)
        cv2.imwrite(str(root / name / '0.png'), np.zeros((4, 4, 3), np.uint8))
    return ClassFolders(str(root))


CLASSIFIER = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet', depth=18, base_channels=4, out_indices=(3, )),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=32))


def test_class_folders_count_their_labels_as_the_checkpoint_does(tmp_path, caplog):
    source = MODELS.build(dict(CLASSIFIER))
    path = write(tmp_path, source)
    dataset = folders(tmp_path / 'data', ('bird', 'dog'))
    with caplog.at_level(logging.WARNING, logger='mmdet_ft'):
        model = build_trained(dict(CLASSIFIER), dataset, path)
    assert dataset.get_gt_labels().tolist() == [2, 1] and tuple(dataset.CLASSES) == CLASSES
    assert int(dataset.data_infos[0]['gt_label']) == 2 and tuple(model.CLASSES) == CLASSES
    assert 'labels are counted as in the checkpoint' in caplog.text
    scores = [np.eye(3, dtype=np.float32)[label] for label in (2, 1)]
    assert dataset.evaluate(scores, metric_options=dict(topk=(1, )))['accuracy_top-1'] == 100
    assert dataset.result_items(scores)['pred_class'] == ['bird', 'dog']
    with pytest.raises(CheckpointError, match="'fox'"):
        build_trained(dict(CLASSIFIER), folders(tmp_path / 'more', ('fox', 'dog')), path)


def test_a_checkpoint_that_is_loaded_by_itself_is_compared_too():
    model = named(('dog', 'cat', 'bird'))
    with pytest.raises(CheckpointError, match=r"Write classes=\('cat', 'dog', 'bird'\)"):
        load_trained(model, of(tiny_model()))
    model.CLASSES = None
    load_trained(model, of(tiny_model()))
    assert model.CLASSES == CLASSES


@pytest.mark.parametrize('edit, words', [
    (lambda state: {'encoder.weight': torch.ones(2, 2)}, 'None of its names is one of the MaskRCNN'),
    (lambda state: {n: v for n, v in state.items() if n.startswith('backbone.')}, 'It holds backbone and no neck'),
    (lambda state: tiny_model(num_classes=5).state_dict(), 'Only its prediction layers differ'),
    (lambda state: tiny_model(base_channels=4).state_dict(), 'write the settings of the training'),
])  # yapf: disable
def test_a_checkpoint_of_another_model_says_what_it_is(edit, words):
    model = named(CLASSES)
    with pytest.raises(
            CheckpointError, match='This is not a checkpoint of the model in the config') as error:
        load_trained(model, Checkpoint('a.pth', edit(model.state_dict()), {}, {}))
    assert words in str(error.value), str(error.value)


def test_names_of_classes_are_given_to_a_checkpoint(tmp_path):
    path = write(tmp_path, named(CLASSES))
    renamed = publish(path, str(tmp_path / 'b.pth'), classes=('Katze', 'Hund', 'Vogel'))
    assert torch.load(renamed, weights_only=True)['meta']['CLASSES'] == ('Katze', 'Hund', 'Vogel')
    with pytest.raises(CheckpointError, match='--classes needs 3 names, not 1'):
        publish(path, str(tmp_path / 'b.pth'), classes=('Katze', ))


def test_a_command_that_is_told_can_be_pasted():
    line = renaming_line('runs 1/[a].pth', ['cat', "driver's", 'hot dog', 'S\u00fc\u00df'])
    assert shlex.split(line)[2:] == [
        'runs 1/[a].pth', 'renamed.pth', '--classes', 'cat', "driver's", 'hot dog', 'S\u00fc\u00df'
    ]
