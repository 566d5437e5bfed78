"""`load_from=dict(checkpoint=..., heads='by_class')`."""
import pytest
import torch

from mmdet_ft.checkpoints.class_rows import copy_class_rows, match_classes
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.fitting import fit, parse_load_from
from mmdet_ft.checkpoints.reading import Checkpoint
from mmdet_ft.datasets.detection.cityscapes import CityscapesDataset
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.parts import Rows
from tests.models.tiny import tiny_batch, tiny_model

COCO, CITYSCAPES = CocoDataset.CLASSES, CityscapesDataset.CLASSES


def named_model(classes, seed=0, with_mask=True):
    model = tiny_model(with_mask, len(classes), seed)
    model.CLASSES = classes
    return model.eval()


def of(model):
    return Checkpoint('coco.pth', model.state_dict(), dict(CLASSES=model.CLASSES), {})


def head_outputs(model):
    """Logits, deltas and mask logits of some regions."""
    generator = torch.Generator().manual_seed(5)
    regions = torch.randn(4, 16, 7, 7, generator=generator)
    with torch.no_grad():
        logits, deltas = model.roi_head.bbox_head(regions)
        return logits, deltas.unflatten(1, (-1, 4)), model.roi_head.mask_head(regions)


def test_copied_classes_say_before_the_first_step_what_they_said():
    source, model = named_model(COCO), named_model(CITYSCAPES, seed=1)
    fresh = head_outputs(model)
    report = fit(model, of(source), heads='by_class')
    assert len(report.loaded) == report.total and not report.reinitialised
    old, new = head_outputs(source), head_outputs(model)
    for index, name in enumerate(CITYSCAPES):
        for before, after, random in zip(old, new, fresh):
            if name != 'rider':
                assert torch.allclose(after[:, index], before[:, COCO.index(name)], atol=1e-5)
    assert torch.allclose(new[0][:, -1], old[0][:, -1], atol=1e-5)  # the background
    text = str(report)
    assert (
        'heads by class: 7 of 8 classes copied: person, car, truck, bus, train, motorcycle, bicycle; new: rider'
        in text)
    assert report.as_json()['heads_by_class']['new'] == ['rider']


def test_detections_of_copied_classes_are_those_of_the_source():
    """Every class of the model is in the file, in another order: whole images agree."""
    source = named_model(('cat', 'dog', 'bird'))
    model = named_model(('bird', 'cat', 'dog'), seed=1)
    fit(model, of(source), heads='by_class')
    batch = tiny_batch((2, ))
    with torch.no_grad():
        expected, found = source(batch), model(batch)
    assert expected.valid.sum() > 0
    assert torch.equal((expected.labels + 1) % 3, found.labels)
    assert torch.allclose(expected.boxes, found.boxes, atol=1e-3)
    assert torch.allclose(expected.masks, found.masks, atol=1e-5)


def test_a_new_class_keeps_its_fresh_rows():
    source, model = named_model(COCO), named_model(CITYSCAPES, seed=1)
    rider = CITYSCAPES.index('rider')
    fresh = model.roi_head.bbox_head.fc_cls.weight[rider].clone()
    fit(model, of(source), heads='by_class')
    assert torch.equal(model.roi_head.bbox_head.fc_cls.weight[rider], fresh)


def test_the_same_classes_are_the_identity():
    source, model = named_model(COCO), named_model(COCO, seed=1)
    report = fit(model, of(source), heads='by_class')
    assert len(report.by_class.copied) == 80 and not report.by_class.new_classes
    own = model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in source.state_dict().items())


def test_an_alias_says_what_the_file_calls_a_class():
    source, model = named_model(COCO), named_model(CITYSCAPES, seed=1)
    report = fit(model, of(source), heads='by_class', aliases=dict(rider='person'))
    head, old = model.roi_head.bbox_head, source.roi_head.bbox_head
    assert torch.equal(head.fc_cls.weight[CITYSCAPES.index('rider')], old.fc_cls.weight[0])
    assert '8 of 8 classes copied: person, rider (as person), car' in str(report)


def test_names_match_apart_from_case_spaces_and_signs():
    match = match_classes(COCO, ('Dining-Table', 'pottedplant', 'tv_monitor'), {})
    assert [COCO[old] for _, old in match.copied] == ['dining table', 'potted plant']
    assert match.new_classes == ['tv_monitor']


def test_the_default_drops_what_does_not_fit():
    source, model = named_model(COCO), named_model(CITYSCAPES, seed=1)
    report = fit(model, of(source))
    assert report.by_class is None and len(report.reinitialised) == 6


@pytest.mark.parametrize('arguments, message', [
    (dict(heads='by_name'), "load_from.heads is 'by_class'"),
    (dict(aliases=dict(a='b')), "goes with heads='by_class'"),
])
def test_a_wrong_load_from_is_answered(arguments, message):
    with pytest.raises(CheckpointError, match=message):
        parse_load_from(dict(checkpoint='a.pth', **arguments))


def test_wrong_aliases_and_nameless_classes_are_answered():
    source, model = named_model(COCO), named_model(CITYSCAPES, seed=1)
    with pytest.raises(
            CheckpointError, match="'ridr' is not a class of the model, which has person, rider"):
        fit(model, of(source), heads='by_class', aliases=dict(ridr='person'))
    with pytest.raises(CheckpointError, match="'man' is not a class of the file"):
        fit(model, of(source), heads='by_class', aliases=dict(rider='man'))
    with pytest.raises(
            CheckpointError, match='needs the names of the classes, and the file has none'):
        fit(model, of(source)._replace(meta={}), heads='by_class')


def test_rows_of_a_classifier_and_of_anchors():
    match = match_classes(('a', 'b', 'c'), ('c', 'd'), {})
    old, new = torch.arange(3.)[:, None].expand(-1, 4), torch.full((2, 4), -1.)
    assert copy_class_rows(Rows(), old, new, match)[:, 0].tolist() == [2, -1]
    per_anchor = copy_class_rows(Rows('anchor and class'), torch.arange(6.), -torch.ones(4), match)
    assert per_anchor.tolist() == [2, -1, 5, -1]
    assert copy_class_rows(Rows('anchor'), torch.zeros(3), torch.zeros(2), match) is None
    agnostic = copy_class_rows(Rows(each=4), torch.zeros(4), torch.zeros(4), match)
    assert agnostic is None
