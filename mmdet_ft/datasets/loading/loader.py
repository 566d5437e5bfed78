"""The data loader of a process: which sampler, collate and workers it has."""
import functools
from typing import Any, Callable, Dict, Optional

import numpy as np
import torch
from torch.utils.data import DataLoader

from mmdet_ft.datasets.checks.split import innermost
from mmdet_ft.datasets.classification.base import ClassificationDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.collate import collate, collate_of_classifier
from mmdet_ft.datasets.loading.pinning import Pinnable
from mmdet_ft.datasets.loading.samplers import (DistributedGroupSampler, DistributedSampler,
                                                GroupSampler, InfiniteBatchSampler,
                                                InfiniteGroupBatchSampler, rank_and_world)
from mmdet_ft.datasets.loading.seeded import SeededDataset
from mmdet_ft.datasets.loading.shared_batches import RingCollate, RingLoader
from mmdet_ft.datasets.loading.workers import init_worker, raise_open_file_limit


def _as_it_is(batch: Any) -> Any:
    return batch


def build_dataloader(dataset: Any,
                     samples_per_gpu: int,
                     workers_per_gpu: int,
                     num_gpus: int = 1,
                     dist: bool = True,
                     shuffle: bool = True,
                     seed: Optional[int] = None,
                     runner_type: str = 'EpochBasedRunner',
                     persistent_workers: bool = True,
                     class_aware_sampler: Optional[Dict[str, Any]] = None,
                     pin_memory: Optional[bool] = None,
                     prefetch_factor: Optional[int] = None,
                     drop_last: bool = False,
                     timeout: float = 0,
                     multiprocessing_context: Optional[str] = None,
                     skip_bad_images: bool = False,
                     bucket: Optional[int] = None) -> DataLoader:
    """Build the data loader of this process; its batches are made by `collate`.

    Args:
        samples_per_gpu, workers_per_gpu: batch size and worker processes; times `num_gpus` when
            `dist` is False.
        dist: this process loads its rank's share; without a process group that is everything.
        shuffle: full batches of one aspect group each, in random order. A dataset without `flag`,
            such as a classifier's, gives every image once, and the last batch may be smaller. False
            keeps the dataset's order.
        seed: order and random transforms are functions of (seed, epoch, index); None uses a random
            seed (0 with several processes, which have to agree).
        runner_type: 'IterBasedRunner' gives batches without end. Shuffled images without `flag`
            still come in epochs, as in MMClassification.
        persistent_workers: keep workers from epoch to epoch (False, V2's default, costs seconds per
            epoch).
        class_aware_sampler: not supported.
        pin_memory: by default where CUDA is available; without CUDA nothing is pinned.
        prefetch_factor, drop_last, timeout, multiprocessing_context: as in torch's DataLoader.
        skip_bad_images: for training: replace an image by the next one, and count it in the log,
            instead of ending the run. Bad images are missing, cannot be decoded, or differ in size
            from their annotation.
        bucket: pad batches to multiples of so many pixels, and give all processes images of one
            aspect group at a step. This keeps shapes few, for compiled models and CUDA graphs.

    Call `loader.sampler.set_epoch(epoch)` before each iteration. `loader.dataset` has every
    attribute of the dataset; the object itself is `loader.dataset.dataset`.
    """
    if class_aware_sampler is not None:
        raise DataError(
            'class_aware_sampler is not supported; leave it out, and wrap the data set in '
            "dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=...) instead")
    if not len(dataset):
        raise DataError(
            f'the dataset has no image; add images to its file, or name another one: {dataset!r}')
    rank, world_size = rank_and_world()
    if not dist:
        rank, world_size = 0, 1
    batch_size = samples_per_gpu * (1 if dist else num_gpus)
    num_workers = workers_per_gpu * (1 if dist else num_gpus)
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0]) if rank_and_world()[1] == 1 else 0
    pin_memory = pin_memory is not False and torch.cuda.is_available()
    options = _sampler_options(dataset, batch_size, rank, world_size, shuffle, seed, runner_type,
                               bucket is not None)
    if 'sampler' in options:
        options.update(batch_size=batch_size, drop_last=drop_last)
    if num_workers:
        raise_open_file_limit()
        options.update(
            persistent_workers=persistent_workers,
            prefetch_factor=prefetch_factor or 2,
            worker_init_fn=init_worker,
            multiprocessing_context=multiprocessing_context)
    return RingLoader(
        SeededDataset(dataset, seed, skip_bad_images),
        num_workers=num_workers,
        collate_fn=RingCollate(
            functools.partial(_collate_for(dataset), bucket=bucket or 1),
            Pinnable if pin_memory else _as_it_is),
        pin_memory=pin_memory,
        timeout=timeout if num_workers else 0,
        # an epoch starts with a random number, which must not come from a global generator
        generator=torch.Generator(),
        **options)


def _sampler_options(dataset: Any, batch_size: int, rank: int, world_size: int, shuffle: bool,
                     seed: int, runner_type: str, same_group: bool) -> Dict[str, Any]:
    """Return the DataLoader's `sampler` or `batch_sampler`; `same_group`: for all ranks at a step."""
    in_groups = shuffle and hasattr(dataset, 'flag')
    if runner_type == 'IterBasedRunner' and (in_groups or not shuffle):
        kind = InfiniteGroupBatchSampler if in_groups else InfiniteBatchSampler
        return dict(
            batch_sampler=kind(dataset, batch_size, world_size, rank, seed=seed, shuffle=shuffle))
    if not in_groups:
        return dict(
            sampler=DistributedSampler(dataset, world_size, rank, shuffle=shuffle, seed=seed))
    if world_size > 1:
        return dict(
            sampler=DistributedGroupSampler(
                dataset, batch_size, world_size, rank, seed=seed, same_group=same_group))
    return dict(sampler=GroupSampler(dataset, batch_size, seed=seed))


def _collate_for(dataset: Any) -> Callable:
    is_classifiers = all(isinstance(part, ClassificationDataset) for part in innermost(dataset))
    return collate_of_classifier if is_classifiers else collate
