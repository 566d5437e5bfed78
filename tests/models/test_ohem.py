"""OHEMSampler: the boxes that the box head classifies worst."""
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from mmdet_ft.models.assigners import OHEMSampler
from mmdet_ft.models.dense_heads.rpn_head import Proposals
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import to_device
from tests.models.tiny import tiny_batch, tiny_config
from tools.benchmarks.no_sync import count_syncs


def hardest(label, losses, num, pos_fraction):
    """One image, as V2's rules read: (positives, background), each a set of places."""
    indices = range(len(label))
    worst = sorted(indices, key=lambda index: -losses[index])
    positives = [index for index in worst if label[index] == 1][:int(num * pos_fraction)]
    background = [index for index in worst if label[index] == 0][:num - len(positives)]
    return set(positives), set(background)


@given(
    st.lists(st.sampled_from([-1, 0, 0, 0, 1]), min_size=1, max_size=30), st.integers(1, 12),
    st.sampled_from([0., .25, .5, 1.]), st.integers(0, 99))
def test_the_worst_of_each_kind_are_drawn(label, num, pos_fraction, seed):
    losses = torch.rand(2, len(label), generator=torch.Generator().manual_seed(seed))
    drawn = OHEMSampler(num, pos_fraction)(torch.tensor([label, label[::-1]]), losses)
    for row, labels in enumerate((label, label[::-1])):
        positives, background = hardest(labels, losses[row].tolist(), num, pos_fraction)
        count = drawn.positive[row].sum()
        index = drawn.index[row][drawn.valid[row]].tolist()
        assert set(index[:count]) == positives and set(index[count:]) == background


def model_with(sampler, num):
    config = tiny_config()
    config['train_cfg']['rcnn']['sampler'].update(type=sampler, num=num)
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    return model.train()


def test_where_all_are_drawn_the_losses_are_those_of_random_sampling():
    terms = []
    for sampler in ('OHEMSampler', 'RandomSampler'):
        torch.manual_seed(0)
        terms.append(model_with(sampler, 400).loss(tiny_batch((2, 0, 3))).terms)
    for name, value in terms[0].items():
        torch.testing.assert_close(value, terms[1][name])


def test_the_loss_of_the_hardest_is_above_that_of_any():
    """As many of each kind are drawn by chance: whichever they are, their loss is not larger."""

    def loss(sampler, seed):
        model = model_with(sampler, 8)
        with torch.no_grad():
            model.roi_head.bbox_head.fc_cls.weight.mul_(50)
        torch.manual_seed(seed)
        return model.loss(tiny_batch((2, 4))).terms['loss_cls'].item()

    hardest = loss('OHEMSampler', 0)
    drawn = [loss('RandomSampler', seed) for seed in range(8)]
    assert max(drawn) <= hardest * (1 + 1e-5)  # equal where the hardest themselves are drawn
    assert min(drawn) < max(drawn)


def test_it_waits_no_more_and_its_shapes_are_known():
    model, batch = model_with('OHEMSampler', 24), tiny_batch((2, 0, 3))
    model(batch)
    with count_syncs() as seen:
        model(batch).total.backward()
    assert len(seen.syncs) <= 2, seen.syncs
    meta = torch.device('meta')
    model, batch = model.to(meta), to_device(batch, meta)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.loss(batch, num_mask_slots=16).total.backward()


def test_padding_is_not_judged():
    """Proposals that are none hold whatever lies there."""
    head, batch = model_with('OHEMSampler', 24).roi_head, tiny_batch((2, 1))
    features = [torch.randn(2, 16, 16 >> level, 24 >> level) for level in range(4)]
    boxes = torch.rand(2, 30, 4) * 20
    boxes[..., 2:] += 22
    valid = torch.arange(30).expand(2, 30) < 20
    drawn = []
    for garbage in (0., float('nan')):
        boxes[~valid] = garbage
        rois = head.sample(features, Proposals(boxes, torch.rand(2, 30), valid), batch.gt)
        drawn.append(rois)
        assert rois.boxes.isfinite().all()
    assert torch.equal(drawn[0].boxes, drawn[1].boxes)


def test_refusals():
    with pytest.raises(ValueError, match="write 'loss_cls'"):
        OHEMSampler(8, .25, loss_key='loss_bbox')
    config = tiny_config()
    config['train_cfg']['rpn']['sampler'].update(type='OHEMSampler')
    model = MODELS.build(config).train()
    with pytest.raises(ValueError, match='write it in train_cfg.rcnn'):
        model.loss(tiny_batch())
