"""Samplers whose order is a function of (seed, epoch) alone, the same on every rank and after a restart."""
import itertools
import math
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np
import torch.distributed as torch_dist
from torch.utils.data import Sampler

from mmdet_ft.registry import SAMPLERS


class SampleIndex(int):
    """A sample index with its epoch, so that a worker can seed itself from (seed, epoch, index)."""
    epoch: int = 0

    @classmethod
    def of(cls, index: int, epoch: int) -> 'SampleIndex':
        position = cls(index)
        position.epoch = epoch
        return position

    def __reduce__(self) -> Tuple[Any, Tuple[int, int]]:
        return SampleIndex.of, (int(self), self.epoch)


def rank_and_world(rank: Optional[int] = None, world_size: Optional[int] = None) -> Tuple[int, int]:
    """Return this process's rank and the world size; given values take precedence."""
    ready = torch_dist.is_available() and torch_dist.is_initialized()
    rank = (torch_dist.get_rank() if ready else 0) if rank is None else rank
    world_size = (torch_dist.get_world_size() if ready else 1) if world_size is None else world_size
    return rank, world_size


def generator(seed: Optional[int], epoch: int) -> np.random.Generator:
    """Return the random generator of one epoch."""
    return np.random.default_rng([seed or 0, epoch])


def _group_flags(dataset: Any) -> np.ndarray:
    if not hasattr(dataset, 'flag'):
        raise ValueError(
            f'{type(dataset).__name__} has no `flag` (one group number per image), which grouping by aspect '
            f'ratio needs; set self.flag = np.zeros(len(self), dtype=np.uint8) to have one group')
    return np.asarray(dataset.flag, dtype=np.int64)


class _EpochSampler(Sampler):
    """Base of the samplers of one rank's share of each epoch; the order is a function of (seed, epoch)."""
    num_samples: int
    epoch = start = 0

    def _order(self) -> np.ndarray:
        """Return the indices [num_samples] of this rank in the epoch."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[SampleIndex]:
        return iter(
            [SampleIndex.of(index, self.epoch) for index in self._order()[self.start:].tolist()])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch, self.start = epoch, 0

    def set_start(self, start: int) -> None:
        """Skip the first `start` samples of this rank, which a resumed run has used, until the next epoch."""
        self.start = start


class _GroupedSampler(_EpochSampler):
    """Batches of one aspect group each, distributed to the ranks in turn.

    Every group is shuffled and padded with its own first images to full batches for all ranks. Then
    the batches of all groups are shuffled. Rank r takes the batches r, r + R, r + 2R ...: the
    batches of one step are adjacent in the order of the epoch. With `same_group` those are of one
    group.
    """

    def __init__(self,
                 dataset: Any,
                 samples_per_gpu: int,
                 num_replicas: int,
                 rank: int,
                 seed: Optional[int],
                 same_group: bool = False):
        self.dataset = dataset
        self.samples_per_gpu = samples_per_gpu
        self.num_replicas = num_replicas
        self.rank = rank
        self.seed = seed
        self.same_group = same_group
        self.flag = _group_flags(dataset)
        self.group_sizes = np.bincount(self.flag)
        step = samples_per_gpu * num_replicas
        self.num_samples = sum(math.ceil(size / step)
                               for size in self.group_sizes.tolist()) * samples_per_gpu
        self.total_size = self.num_samples * num_replicas

    def _order(self) -> np.ndarray:
        rng = generator(self.seed, self.epoch)
        step = self.samples_per_gpu * self.num_replicas
        groups = []
        for group, size in enumerate(self.group_sizes.tolist()):
            if size:
                indices = rng.permutation(np.flatnonzero(self.flag == group))
                groups.append(np.resize(indices,
                                        math.ceil(size / step) * step))  # repeats from the front
        together = self.num_replicas if self.same_group else 1
        batches = np.concatenate(groups).reshape(-1, together, self.samples_per_gpu)
        batches = rng.permutation(batches).reshape(-1, self.samples_per_gpu)
        return batches[self.rank::self.num_replicas].reshape(-1)


@SAMPLERS.register_module()
class GroupSampler(_GroupedSampler):
    """The epochs of a single process: every image, in batches of `samples_per_gpu` from one aspect group."""

    def __init__(self, dataset: Any, samples_per_gpu: int = 1, seed: Optional[int] = 0):
        super().__init__(dataset, samples_per_gpu, num_replicas=1, rank=0, seed=seed)


@SAMPLERS.register_module()
class DistributedGroupSampler(_GroupedSampler):
    """The share of one rank in epochs whose batches each come from one aspect group."""

    def __init__(self,
                 dataset: Any,
                 samples_per_gpu: int = 1,
                 num_replicas: Optional[int] = None,
                 rank: Optional[int] = None,
                 seed: Optional[int] = 0,
                 same_group: bool = False):
        rank, num_replicas = rank_and_world(rank, num_replicas)
        super().__init__(dataset, samples_per_gpu, num_replicas, rank, seed, same_group)


@SAMPLERS.register_module()
class DistributedSampler(_EpochSampler):
    """Every R-th sample from the rank on; the order is padded from the front so that all ranks have as many."""

    def __init__(self,
                 dataset: Any,
                 num_replicas: Optional[int] = None,
                 rank: Optional[int] = None,
                 shuffle: bool = True,
                 seed: Optional[int] = 0):
        self.dataset = dataset
        self.rank, self.num_replicas = rank_and_world(rank, num_replicas)
        self.shuffle = shuffle
        self.seed = seed
        self.num_samples = math.ceil(len(dataset) / self.num_replicas)
        self.total_size = self.num_samples * self.num_replicas

    def _order(self) -> np.ndarray:
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = generator(self.seed, self.epoch).permutation(order)
        return np.resize(order, self.total_size)[self.rank::self.num_replicas]


class _InfiniteBatches(Sampler):
    """Batches without end for runners that count iterations; `set_start` skips those before a restart."""

    def __init__(self, dataset: Any, batch_size: int, world_size: Optional[int],
                 rank: Optional[int], seed: Optional[int], shuffle: bool):
        self.dataset = dataset
        self.batch_size = batch_size
        self.rank, self.world_size = rank_and_world(rank, world_size)
        self.seed = seed
        self.shuffle = shuffle
        self.size = len(dataset)
        self.start = 0

    def set_start(self, iteration: int) -> None:
        """Start the next iteration at batch number `iteration`, with the same batches as an uninterrupted run."""
        self.start = iteration

    def _indices_of_rank(self) -> Iterator[SampleIndex]:
        """Yield the rank's share of endless epochs over the data."""
        return itertools.islice(self._sample_indices(), self.rank, None, self.world_size)

    def _sample_indices(self) -> Iterator[SampleIndex]:
        for epoch in itertools.count():
            order = np.arange(self.size)
            if self.shuffle:
                order = generator(self.seed, epoch).permutation(order)
            for index in order.tolist():
                yield SampleIndex.of(index, epoch)

    def _batches(self) -> Iterator[List[SampleIndex]]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[List[SampleIndex]]:
        return itertools.islice(self._batches(), self.start, None)

    def __len__(self) -> int:
        return self.size  # V2's: images, not batches


@SAMPLERS.register_module()
class InfiniteGroupBatchSampler(_InfiniteBatches):
    """Batches of one aspect group each; a batch is complete as soon as its group has enough images."""

    def __init__(self,
                 dataset: Any,
                 batch_size: int = 1,
                 world_size: Optional[int] = None,
                 rank: Optional[int] = None,
                 seed: Optional[int] = 0,
                 shuffle: bool = True):
        super().__init__(dataset, batch_size, world_size, rank, seed, shuffle)
        self.flag = _group_flags(dataset)

    def _batches(self) -> Iterator[List[SampleIndex]]:
        waiting: dict = {}
        for index in self._indices_of_rank():
            batch = waiting.setdefault(int(self.flag[index]), [])
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch[:]
                batch.clear()


@SAMPLERS.register_module()
class InfiniteBatchSampler(_InfiniteBatches):
    """Batches in dataset order or shuffled, whatever the aspect ratio."""

    def __init__(self,
                 dataset: Any,
                 batch_size: int = 1,
                 world_size: Optional[int] = None,
                 rank: Optional[int] = None,
                 seed: Optional[int] = 0,
                 shuffle: bool = True):
        super().__init__(dataset, batch_size, world_size, rank, seed, shuffle)

    def _batches(self) -> Iterator[List[SampleIndex]]:
        indices = self._indices_of_rank()
        while True:
            yield list(itertools.islice(indices, self.batch_size))
