"""Samples that depend on the seed, the epoch and the index alone."""
import itertools
import random
from typing import Any, Iterator, List, Sequence

import numpy as np
import torch
from torch.utils.data import get_worker_info

from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.samplers import SampleIndex
from mmdet_ft.datasets.pipelines.shared.formatting import defer_to_collate

MOST_SKIPPED = 20  # bad images in a row that end the run


def seed_sample(seed: int, epoch: int, index: int) -> None:
    """Seed random, numpy and torch (CPU) from (seed, epoch, index) alone."""
    words = np.random.SeedSequence([seed, epoch, index]).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    # the CPU generator alone: torch.manual_seed would queue a call for CUDA at every sample
    torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))


class SeededDataset:
    """A dataset whose sample i of epoch e is made after seeding from (seed, e, i); otherwise it acts as the dataset.

    In the main process the random states are restored afterwards, so that loading there affects no
    other random numbers.
    """

    def __init__(self, dataset: Any, seed: int, skip_bad_images: bool = False):
        self.dataset = dataset
        self.seed = seed
        self.skip_bad_images = skip_bad_images

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> List[Any]:
        """Return the samples of a batch.

        The states are restored once per batch: for a small image that would take most of its time.
        """
        if get_worker_info() is not None:
            with defer_to_collate():
                return [self._sample(index) for index in indices]
        states = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
        try:
            return [self._sample(index) for index in indices]
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.default_generator.set_state(states[2])

    def _sample(self, index: int) -> Any:
        seed_sample(self.seed, index.epoch if isinstance(index, SampleIndex) else 0, int(index))
        return self._of_readable_files(
            int(index)) if self.skip_bad_images else self.dataset[int(index)]

    def _of_readable_files(self, index: int) -> Any:
        """Return sample `index`, or the next readable one of its aspect group, with the skipped files in its metas."""
        skipped: List[str] = []
        last: Exception
        for other in itertools.islice(self._group_from(index), MOST_SKIPPED):
            try:
                sample = self.dataset[other]
            except (DataError, FileNotFoundError) as error:
                skipped.append(str(error))
                last = error
            else:
                if skipped:
                    sample['img_metas'] = {**sample['img_metas'], 'skipped': skipped}
                return sample
        raise last

    def _group_from(self, index: int) -> Iterator[int]:
        """Yield `index`, then the other indices of its aspect group, from there on and from the front."""
        yield index
        flag = np.asarray(getattr(self.dataset, 'flag', np.zeros(len(self.dataset))))
        group = np.flatnonzero(flag == flag[index])
        yield from group[group > index].tolist()
        yield from group[group < index].tolist()

    def __getattr__(self, name: str) -> Any:
        if name == 'dataset':  # while unpickling
            raise AttributeError(name)
        return getattr(self.dataset, name)
