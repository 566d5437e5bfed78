"""Batches in memory that is used again: nothing is overwritten while anyone has it, and everything comes back."""
import gc
import os

import numpy as np
import pytest
import torch

from mmdet_ft.datasets.loading import shared_batches
from mmdet_ft.datasets.loading.loader import build_dataloader

pytestmark = pytest.mark.skipif(not hasattr(os, 'memfd_create'), reason='Linux has it')


class Numbers:
    """Image i is full of i; sizes differ."""
    CLASSES = ('number', )

    def __init__(self, count=24):
        self.count = count
        self.flag = np.zeros(count, dtype=np.uint8)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        height, width = 40 + index, 60 + 2 * index
        return dict(
            img=torch.full((3, height, width), index, dtype=torch.uint8),
            img_metas=dict(img_shape=(height, width, 3), index=index),
            gt_bboxes=torch.full((index % 3, 4), float(index)),
            gt_labels=torch.full((index % 3, ), index))


def loader_of(count=24, batch=2, **settings):
    settings = {'workers_per_gpu': 2, 'dist': False, 'shuffle': False, **settings}
    return build_dataloader(Numbers(count), batch, seed=0, **settings)


def check(batch):
    """Whether a training batch is what it was when it was made."""
    for image, meta, boxes, valid in zip(batch.images, batch.metas, batch.gt.boxes, batch.gt.valid):
        height, width = meta['img_shape'][:2]
        assert (image[:, :height, :width] == meta['index']).all()
        assert not image[:, height:].any() and not image[:, :, width:].any()
        assert valid.sum() == meta['index'] % 3 and (boxes[valid] == meta['index']).all()


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_batches_arrive_as_they_were_made(method):
    loader = loader_of(12, multiprocessing_context=method)
    for _ in range(2):
        batches = list(loader)
        assert [meta['index'] for batch in batches for meta in batch.metas] == list(range(12))
        for batch in batches:
            check(batch)


def test_memory_is_used_again():
    loader = loader_of(workers_per_gpu=1)
    addresses = {batch.images.data_ptr() for _ in range(4) for batch in loader}
    assert len(addresses) <= loader.ring.slots_each
    assert not loader.ring.busy.any()


def test_kept_batches_and_views_of_them_are_not_touched():
    loader = loader_of(workers_per_gpu=1)
    for number, batch in enumerate(loader):
        if number == 2:
            kept = batch
        elif number == 5:
            view, index = batch.images[0, 0, :3], batch.metas[0]['index']
    del batch
    shared = loader.ring
    assert shared.busy.sum() == 2
    for _ in range(3):
        for batch in loader:
            check(batch)
    check(kept)
    assert (view[:, :60] == index).all()
    del batch, kept, view
    assert not shared.busy.any()


def test_all_kept_batches_stay_right_though_there_are_more_than_slots():
    loader = loader_of(48)
    everything = [batch for _ in range(2) for batch in loader]
    for batch in everything:
        check(batch)


def test_two_iterations_at_once_do_not_share_memory():
    loader = loader_of(persistent_workers=False)
    for one, other in zip(iter(loader), iter(loader)):
        assert one.images.data_ptr() != other.images.data_ptr()
        check(one)
        check(other)


def test_an_iteration_that_is_broken_off_loses_no_slot():
    loader = loader_of()
    for _ in range(3):
        for number, batch in enumerate(loader):
            if number == 2:
                break
    for batch in loader:
        check(batch)
    del batch
    assert not loader.ring.busy.any()


def test_what_does_not_fit_goes_torchs_way(monkeypatch):
    monkeypatch.setattr(shared_batches, 'SLOT_BYTES', 1 << 14)
    for batch in loader_of(8):
        check(batch)


def test_a_process_forked_meanwhile_gives_nothing_back():
    loader = loader_of(8)
    batches = iter(loader)
    batch = next(batches)
    busy = loader.ring.busy.copy()
    child = os.fork()
    if child == 0:
        del batch
        gc.collect()
        os._exit(0)
    os.waitpid(child, 0)
    assert loader.ring.busy[busy.argmax()] == 1
    check(batch)


def test_an_error_in_a_worker_gives_its_slot_back():

    class Broken(Numbers):

        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return {**sample, 'unknown': 1} if index == 4 else sample

    loader = build_dataloader(Broken(8), 2, 1, dist=False, shuffle=False, seed=0)
    batches = iter(loader)
    shared = loader.ring
    with pytest.raises(ValueError, match='unknown'):
        list(batches)
    del batches
    gc.collect()
    assert shared.busy.sum() <= 1  # the batch before may be in the error's frames
