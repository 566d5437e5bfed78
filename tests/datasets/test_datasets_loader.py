"""Batches, samplers, seeding, workers."""
import copy
import random

import numpy as np
import pycocotools.mask as coco_mask
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.datasets.annotations.masks import BitmapMasks, PolygonMasks
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.collate import collate, round_up
from mmdet_ft.datasets.loading.loader import build_dataloader
from mmdet_ft.datasets.loading.pinning import Pinnable
from mmdet_ft.datasets.loading.samplers import (DistributedGroupSampler, DistributedSampler,
                                                GroupSampler, InfiniteBatchSampler,
                                                InfiniteGroupBatchSampler, SampleIndex)
from mmdet_ft.datasets.loading.seeded import SeededDataset
from mmdet_ft.ops.masks import mask_targets
from .conftest import train_pipeline


# Collate
def train_sample(rng, boxes, ignored, masks=True, height=None, width=None):
    height, width = height or int(rng.integers(1, 20)), width or int(rng.integers(1, 20))
    bitmaps = (rng.random((boxes, height, width)) > rng.random((boxes, 1, 1))).astype(np.uint8)
    sample = dict(
        img=torch.from_numpy(rng.random((3, height, width), dtype=np.float32)),
        img_metas=dict(
            img_shape=(height, width, 3),
            pad_shape=(height, width, 3),
            scale_factor=np.float32([1, 2, 1, 2])),
        gt_bboxes=torch.from_numpy(rng.random((boxes, 4), dtype=np.float32)),
        gt_labels=torch.from_numpy(rng.integers(1, 9, boxes)),
        gt_bboxes_ignore=torch.from_numpy(rng.random((ignored, 4), dtype=np.float32)))
    if masks:
        sample['gt_masks'] = BitmapMasks(bitmaps, height, width)
    return sample


def pasted(masks, image, slot, height, width):
    """A crop of a batch put back into a bitmap of the image."""
    x0, y0, w, h = masks.rect[image, slot].tolist()
    start = int(masks.offset[image, slot])
    bitmap = np.zeros((height, width), dtype=np.uint8)
    bitmap[y0:y0 + h, x0:x0 + w] = masks.data[start:start + w * h].view(h, w).numpy()
    return bitmap


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10)), min_size=1, max_size=4),
    st.integers(0, 2**31))
def test_a_batch_holds_every_sample_and_benign_padding(counts, seed):
    rng = np.random.default_rng(seed)
    samples = [train_sample(rng, *count) for count in counts]
    batch = collate(copy.deepcopy(samples))
    gt = batch.gt
    slots, ignore_slots = gt.boxes.shape[1], gt.ignore.shape[1]
    assert slots == max(8, round_up(max(count[0] for count in counts))) and slots % 8 == 0
    assert ignore_slots == round_up(max(count[1] for count in counts)) and ignore_slots % 8 == 0
    assert batch.images.shape[2:] == (max(s['img'].shape[1] for s in samples),
                                      max(s['img'].shape[2] for s in samples))
    assert gt.labels.dtype == torch.int64 and gt.valid.dtype == torch.bool and batch.sizes.dtype == torch.float32
    end = 0
    for index, (sample, (number, ignored)) in enumerate(zip(samples, counts)):
        height, width = sample['img'].shape[1:]
        assert torch.equal(batch.images[index, :, :height, :width], sample['img'])
        assert float(batch.images[index].sum()) == pytest.approx(
            float(sample['img'].sum()), abs=1e-2)
        assert batch.sizes[index].tolist() == batch.pad_sizes[index].tolist() == [height, width]
        assert batch.scale_factors[index].tolist() == [1, 2, 1, 2]
        assert torch.equal(gt.boxes[index, :number], sample['gt_bboxes'])
        assert torch.equal(gt.labels[index, :number], sample['gt_labels'])
        assert gt.valid[index].tolist() == [True] * number + [False] * (slots - number)
        assert gt.ignore_valid[index].tolist() == [True] * ignored + [False] * (
            ignore_slots - ignored)
        assert torch.equal(gt.ignore[index, :ignored], sample['gt_bboxes_ignore'])
        assert (gt.boxes[index, number:] == torch.tensor(
            [0., 0, 1, 1])).all() and not gt.labels[index, number:].any()
        bitmaps = sample['gt_masks'].masks
        for slot in range(slots):
            x0, y0, w, h = gt.masks.rect[index, slot].tolist()
            if slot >= number:
                assert (w, h) == (0, 0)
                continue
            assert int(gt.masks.offset[index, slot]) == end
            end += w * h
            assert x0 >= 0 and y0 >= 0 and w > 0 and h > 0 and x0 + w <= width and y0 + h <= height
            assert h <= gt.masks.max_size[0] and w <= gt.masks.max_size[1]
            np.testing.assert_array_equal(
                pasted(gt.masks, index, slot, height, width), bitmaps[slot])
            rows, columns = np.nonzero(bitmaps[slot])
            if len(rows):  # one pixel of margin, where the image goes on
                assert (x0, y0) == (max(columns.min() - 1, 0), max(rows.min() - 1, 0))
                assert (x0 + w, y0 + h) == (min(columns.max() + 2,
                                                width), min(rows.max() + 2, height))
    assert gt.masks.data.numel() == end and gt.masks.data.dtype == torch.uint8


def test_polygons_stay_polygons_and_give_the_targets_of_pycocotools():
    rng = np.random.default_rng(0)
    samples = [train_sample(rng, count, 0, height=40, width=30) for count in (2, 0, 1)]
    polygons = [[[rng.uniform(0, 30, 12), rng.uniform(0, 30, 8)], [rng.uniform(0, 30, 6)]], [],
                [[rng.uniform(0, 30, 10)]]]
    for sample, masks in zip(samples, polygons):
        sample['gt_masks'] = PolygonMasks(masks, 40, 30).flip().resize((80, 60))
    outlines = collate(samples).gt.masks
    image, slot = torch.tensor([0, 0, 2]), torch.tensor([0, 1, 0])
    boxes = torch.tensor([[5, 6, 40, 70.5], [10, 10, 11.25, 12], [-4, 2, 50, 81]])
    targets = mask_targets(outlines, image, slot, boxes, 28)
    assert outlines.count[1].sum() == 0 and 0 < targets.mean() < 1
    for target, i, j, box in zip(targets, image, slot, boxes.double().numpy()):
        size = np.maximum(box[2:] - box[:2], 1)
        moved = [((part.reshape(-1, 2) - box[:2]) * (28 / size)).flatten()
                 for part in samples[i]['gt_masks'].masks[j]]
        drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(moved, 28, 28)))
        np.testing.assert_array_equal(target, drawn)


def test_batches_without_masks_or_objects():
    rng = np.random.default_rng(0)
    batch = collate([train_sample(rng, 0, 0, masks=False)])
    assert batch.gt.masks is None and not batch.gt.valid.any() and batch.gt.boxes.shape == (1, 8, 4)
    batch = collate([train_sample(rng, 0, 0)])
    assert batch.gt.masks.data.numel() == 0 and batch.gt.masks.max_size == (0, 0)


def test_keys_without_a_place_in_a_batch_are_refused():
    with pytest.raises(ValueError, match='gt_keypoints'):
        collate([dict(train_sample(np.random.default_rng(0), 1, 0), gt_keypoints=1)])


def test_other_pad_values_fill_the_batch():
    rng = np.random.default_rng(0)
    samples = [
        train_sample(rng, 1, 0, height=4, width=9),
        train_sample(rng, 1, 0, height=8, width=5)
    ]
    for sample in samples:
        sample['img_metas']['img_pad_val'] = 114
    images = collate(samples).images
    assert (images[0, :, 4:] == 114).all() and (images[1, :, :, 5:] == 114).all()


def test_pinning_keeps_tuples(monkeypatch):
    monkeypatch.setattr(torch.Tensor, 'pin_memory',
                        lambda self: self.clone())  # there may be no CUDA
    samples = [train_sample(np.random.default_rng(0), 2, 0)]
    pinned = Pinnable(collate(samples)).pin_memory()
    assert type(pinned).__name__ == 'Batch' and isinstance(pinned.gt.masks.max_size, tuple)
    assert isinstance(pinned.metas[0]['img_shape'], tuple)
    test_sample = dict(img=[samples[0]['img']], img_metas=[samples[0]['img_metas']])
    assert isinstance(Pinnable(collate([test_sample])).pin_memory(), tuple)


# Samplers
class Flagged:

    def __init__(self, flags):
        self.flag = np.array(flags, dtype=np.uint8)

    def __len__(self):
        return len(self.flag)


flags_strategy = st.lists(st.integers(0, 1), min_size=1, max_size=40)


@settings(max_examples=80, deadline=None)
@given(flags_strategy, st.integers(1, 5), st.integers(1, 4), st.integers(0, 5), st.integers(0, 3))
def test_grouped_epochs_show_every_image_in_pure_batches(flags, batch_size, world, seed, epoch):
    dataset = Flagged(flags)
    shares = []
    for rank in range(world):
        sampler = DistributedGroupSampler(dataset, batch_size, world, rank, seed)
        sampler.set_epoch(epoch)
        shares.append(list(sampler))
        assert len(shares[-1]) == len(sampler)
        assert all(isinstance(index, SampleIndex) and index.epoch == epoch for index in shares[-1])
    assert len({len(share) for share in shares}) == 1 and len(shares[0]) % batch_size == 0
    for share in shares:
        for begin in range(0, len(share), batch_size):
            assert len({flags[index] for index in share[begin:begin + batch_size]}) == 1
    drawn = sum(shares, [])
    assert set(drawn) == set(range(len(flags)))
    step = batch_size * world
    for group in (0, 1):
        size = flags.count(group)
        assert sum(flags[index] == group for index in drawn) == round_up(size, step)
        counts = [drawn.count(index) for index in range(len(flags)) if flags[index] == group]
        assert not counts or max(counts) - min(counts) <= 1  # disjoint up to the padding
    if world == 1:
        single = GroupSampler(dataset, batch_size, seed)
        single.set_epoch(epoch)
        assert list(single) == shares[0]


def test_order_is_a_function_of_seed_and_epoch():
    dataset = Flagged([0, 1] * 30)

    def order(seed, epoch):
        sampler = GroupSampler(dataset, 2, seed)
        sampler.set_epoch(epoch)
        np.random.rand(3)  # the global state has no say
        return list(sampler)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3) and order(1, 2) != order(2, 2) and order(0, 1) != order(1, 0)


def test_the_batches_of_a_step_lie_side_by_side_in_the_epoch():
    dataset = Flagged([0] * 24)
    whole = list(DistributedGroupSampler(dataset, 2, 1, 0, 5))
    shares = [list(DistributedGroupSampler(dataset, 2, 3, rank, 5)) for rank in range(3)]
    dealt = [
        index for step in range(4) for share in shares for index in share[2 * step:2 * step + 2]
    ]
    assert dealt == whole


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.booleans())
def test_plain_shares_cover_the_data(size, world, shuffle):
    shares = [
        list(DistributedSampler(Flagged([0] * size), world, rank, shuffle, 3))
        for rank in range(world)
    ]
    interleaved = [index for step in zip(*shares) for index in step]
    assert len(interleaved) == round_up(size, world) and set(interleaved) == set(range(size))
    if not shuffle:
        assert interleaved[:size] == list(range(size))


@settings(max_examples=40, deadline=None)
@given(flags_strategy, st.integers(1, 4), st.integers(1, 3), st.integers(0, 7))
def test_endless_batches_are_pure_and_can_be_skipped(flags, batch_size, world, start):
    for kind in (InfiniteGroupBatchSampler, InfiniteBatchSampler):
        for rank in range(world):
            sampler = kind(Flagged(flags), batch_size, world, rank, seed=2)
            first = [batch for _, batch in zip(range(start + 4), sampler)]
            assert all(len(batch) == batch_size for batch in first)
            if kind is InfiniteGroupBatchSampler:
                assert all(len({flags[index] for index in batch}) == 1 for batch in first)
            sampler.set_start(start)
            skipped = [batch for _, batch in zip(range(4), sampler)]
            assert skipped == first[start:]
            assert [p.epoch for b in skipped
                    for p in b] == [p.epoch for b in first[start:] for p in b]


def test_endless_passes_show_every_image_once_and_differ():
    sampler = InfiniteBatchSampler(Flagged([0] * 12), 3, 1, 0, seed=0)
    drawn = [index for _, batch in zip(range(8), sampler) for index in batch]
    assert sorted(drawn[:12]) == sorted(drawn[12:]) == list(range(12)) and drawn[:12] != drawn[12:]
    assert {index.epoch
            for index in drawn[:12]} == {0} and {index.epoch
                                                 for index in drawn[12:]} == {1}


def test_samplers_explain_a_missing_flag():
    with pytest.raises(ValueError, match='self.flag'):
        GroupSampler([1, 2, 3])


# Seeding
class Dice(Flagged):
    CLASSES = ('die', )

    def __getitem__(self, index):
        values = random.random(), np.random.rand(), torch.rand(1).item()
        return dict(
            img=torch.zeros(1, 2, 2),
            img_metas=dict(img_shape=(2, 2, 1), values=(index, ) + values),
            gt_bboxes=torch.zeros(0, 4),
            gt_labels=torch.zeros(0, dtype=torch.int64))


def test_a_sample_depends_on_seed_epoch_and_index_alone():
    dataset = SeededDataset(Dice([0] * 5), 3)

    def values(epoch, index, data=dataset):
        return data[SampleIndex.of(index, epoch)]['img_metas']['values'][1:]

    first = values(1, 2)
    random.seed(9), np.random.seed(9), torch.manual_seed(9)
    assert values(1, 2) == first
    assert len({first,
                values(1, 3),
                values(2, 2),
                values(1, 2, SeededDataset(Dice([0] * 5), 4))}) == 4
    assert len({value[0] for value in (first, values(1, 3))}) == 2
    assert dataset.CLASSES == ('die', ) and len(dataset) == 5


def test_loading_in_the_main_process_changes_no_other_draw():
    loader = build_dataloader(Dice([0] * 4), 2, 0, seed=0)
    states = []
    for load in (False, True):
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        if load:
            list(loader)
        states.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert states[0] == states[1]


@pytest.mark.parametrize('runner_type', ['EpochBasedRunner', 'IterBasedRunner'])
def test_workers_give_what_the_main_process_gives(runner_type):
    dataset = Dice([0, 1, 0, 1, 1, 0, 0])

    def epochs(workers):
        loader = build_dataloader(dataset, 2, workers, seed=5, runner_type=runner_type)
        seen = []
        for epoch in range(2):
            if runner_type == 'EpochBasedRunner':
                loader.sampler.set_epoch(epoch)
            seen += [meta['values'] for _, batch in zip(range(4), loader) for meta in batch.metas]
        return seen

    assert epochs(0) == epochs(2)


def test_test_loaders_keep_the_order():
    loader = build_dataloader(Dice([0] * 5), 2, 0, dist=False, shuffle=False)
    assert [meta['values'][0] for batch in loader for meta in batch.metas] == list(range(5))
    assert len(loader) == 3
    assert len(build_dataloader(Dice([0] * 8), 2, 0, num_gpus=2, dist=False)) == 2


def test_an_empty_dataset_is_refused():
    with pytest.raises(DataError, match='the dataset has no image'):
        build_dataloader(Dice([]), 2, 0)
    with pytest.raises(DataError, match='ClassBalancedDataset'):
        build_dataloader(Dice([0]), 2, 0, class_aware_sampler=dict(num_sample_class=1))


def test_real_samples_travel_through_workers(coco_dataset):
    dataset = coco_dataset(train_pipeline(flip=0.5))
    batches = [list(build_dataloader(dataset, 2, workers, seed=1)) for workers in (0, 1)]
    assert len(batches[0]) == len(batches[1]) == 2
    for here, there in zip(*batches):
        assert here.images.dtype == torch.uint8 and torch.equal(here.images, there.images)
        assert torch.equal(here.gt.boxes, there.gt.boxes) and torch.equal(
            here.gt.masks.data, there.gt.masks.data)
        assert here.metas[0]['filename'] == there.metas[0]['filename'] and here.gt.masks[
            3] == there.gt.masks[3]


def test_errors_of_workers_name_the_image(coco_dataset, coco_folder):
    dataset = coco_dataset()
    (coco_folder / '7.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'7\.png.*image id 7'):
        list(build_dataloader(dataset, 1, 1, seed=0))


def test_a_bucket_gives_few_shapes_and_every_rank_the_same_group():
    rng = np.random.default_rng(0)
    samples = [
        train_sample(rng, 1, 0, height=33, width=70),
        train_sample(rng, 1, 0, height=40, width=5)
    ]
    batch = collate(samples, bucket=32)
    assert batch.images.shape[2:] == (64, 96)
    assert batch.sizes.tolist() == [[33, 70], [40, 5]]
    dataset = [0] * 30
    flags = type('Flags', (list, ), dict(flag=np.array([0] * 19 + [1] * 11, dtype=np.uint8)))(
        dataset)
    ranks = [
        DistributedGroupSampler(flags, 2, num_replicas=3, rank=rank, seed=5, same_group=True)
        for rank in range(3)
    ]
    groups = [flags.flag[[int(index) for index in sampler]] for sampler in ranks]
    assert (groups[0] == groups[1]).all() and (groups[0] == groups[2]).all()
    assert len(set(groups[0].tolist())) == 2
