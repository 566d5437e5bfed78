"""The data loader of a process: which sampler, collate and workers it has."""
import dataclasses
import functools
from typing import Any, Callable, ClassVar, Dict, Optional, Tuple

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
from mmdet_ft.ranges import Count, NotNegative, Whole


def _as_it_is(batch: Any) -> Any:
    return batch


@dataclasses.dataclass(frozen=True)
class LoaderSettings:
    """Settings of a data loader: `data.train_dataloader` and the like of a config.

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

    Raises DataError for `class_aware_sampler`.
    """
    # Set by the run, not by a config.
    of_run: ClassVar[Tuple[str, ...]] = ('dist', 'num_gpus', 'runner_type')
    # For training alone: an evaluation pairs results with images by their order.
    of_training: ClassVar[Tuple[str, ...]] = ('shuffle', 'drop_last', 'skip_bad_images')
    samples_per_gpu: int
    workers_per_gpu: int
    num_gpus: Count = 1
    dist: bool = True
    shuffle: bool = True
    seed: Optional[Whole] = None
    runner_type: str = 'EpochBasedRunner'
    persistent_workers: bool = True
    class_aware_sampler: Optional[Dict[str, Any]] = None
    pin_memory: Optional[bool] = None
    prefetch_factor: Optional[int] = None
    drop_last: bool = False
    timeout: NotNegative = 0
    multiprocessing_context: Optional[str] = None
    skip_bad_images: bool = False
    bucket: Optional[int] = None

    def __post_init__(self):
        if self.class_aware_sampler is not None:
            raise DataError(
                'class_aware_sampler is not supported; leave it out, and wrap the dataset in '
                "dict(type='ClassBalancedDataset', oversample_thr=0.1, dataset=...) instead")

    @property
    def batch_size(self) -> int:
        return self.samples_per_gpu * (1 if self.dist else self.num_gpus)

    @property
    def num_workers(self) -> int:
        return self.workers_per_gpu * (1 if self.dist else self.num_gpus)


def build_dataloader(dataset: Any,
                     samples_per_gpu: int,
                     workers_per_gpu: int,
                     num_gpus: int = 1,
                     dist: bool = True,
                     shuffle: bool = True,
                     seed: Optional[int] = None,
                     **settings: Any) -> DataLoader:
    """Build a data loader by V2's arguments; `settings` are further ones of LoaderSettings."""
    return build_loader(
        dataset,
        LoaderSettings(samples_per_gpu, workers_per_gpu, num_gpus, dist, shuffle, seed, **settings))


def build_loader(dataset: Any, settings: LoaderSettings) -> DataLoader:
    """Build the data loader of this process; its batches are made by `collate`.

    Call `loader.sampler.set_epoch(epoch)` before each iteration. `loader.dataset` has every
    attribute of the dataset; the object itself is `loader.dataset.dataset`.

    Raises DataError for a dataset without images.
    """
    if not len(dataset):
        raise DataError(
            f'the dataset has no image; add images to its file, or name another one: {dataset!r}')
    seed = settings.seed
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0]) if rank_and_world()[1] == 1 else 0
    pin_memory = settings.pin_memory is not False and torch.cuda.is_available()
    options = _sampler_options(dataset, settings, seed)
    if settings.num_workers:
        raise_open_file_limit()
        pids = torch.zeros(settings.num_workers, dtype=torch.int64).share_memory_()
        options.update(
            persistent_workers=settings.persistent_workers,
            prefetch_factor=settings.prefetch_factor or 2,
            pids=pids,
            worker_init_fn=functools.partial(init_worker, pids=pids),
            timeout=settings.timeout,
            multiprocessing_context=settings.multiprocessing_context)
    return RingLoader(
        SeededDataset(dataset, seed, settings.skip_bad_images),
        num_workers=settings.num_workers,
        collate_fn=RingCollate(
            functools.partial(_collate_for(dataset), bucket=settings.bucket or 1),
            Pinnable if pin_memory else _as_it_is),
        pin_memory=pin_memory,
        # an epoch starts with a random number, which must not come from a global generator
        generator=torch.Generator(),
        **options)


def _sampler_options(dataset: Any, settings: LoaderSettings, seed: int) -> Dict[str, Any]:
    """Return the DataLoader's `batch_sampler`, or its `sampler` and the size of batches."""
    rank, world_size = rank_and_world() if settings.dist else (0, 1)
    shuffle, batch_size = settings.shuffle, settings.batch_size
    in_groups = shuffle and hasattr(dataset, 'flag')
    if settings.runner_type == 'IterBasedRunner' and (in_groups or not shuffle):
        kind = InfiniteGroupBatchSampler if in_groups else InfiniteBatchSampler
        return dict(
            batch_sampler=kind(dataset, batch_size, world_size, rank, seed=seed, shuffle=shuffle))
    if not in_groups:
        sampler = DistributedSampler(dataset, world_size, rank, shuffle=shuffle, seed=seed)
    elif world_size > 1:
        sampler = DistributedGroupSampler(
            dataset,
            batch_size,
            world_size,
            rank,
            seed=seed,
            same_group=settings.bucket is not None)
    else:
        sampler = GroupSampler(dataset, batch_size, seed=seed)
    return dict(sampler=sampler, batch_size=batch_size, drop_last=settings.drop_last)


def _collate_for(dataset: Any) -> Callable:
    is_classifiers = all(isinstance(part, ClassificationDataset) for part in innermost(dataset))
    return collate_of_classifier if is_classifiers else collate
