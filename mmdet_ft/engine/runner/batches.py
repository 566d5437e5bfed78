"""The batches of an epoch: in which order, from which one on, and what is known of them."""
from typing import Any, Iterator, List


def set_epoch(loader: Any, epoch: int) -> None:
    """Tell the loader's samplers which epoch comes: the order and the random numbers of samples
    follow from it."""
    batch_sampler = getattr(loader, 'batch_sampler', None)
    for sampler in (getattr(loader, 'sampler',
                            None), batch_sampler, getattr(batch_sampler, 'sampler', None)):
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)


def is_endless(loader: Any) -> bool:
    """Whether it never comes to the end of an epoch; such a loader can be told where to begin."""
    return hasattr(getattr(loader, 'batch_sampler', None), 'set_start')


def from_batch(loader: Any, start: int) -> Iterator:
    """An epoch's batches without its first `start`, which a resumed run has seen."""
    sampler = getattr(loader, 'sampler', None)
    if start and hasattr(sampler, 'set_start'):  # nothing is read or decoded for them
        sampler.set_start(start * loader.batch_size)
        return iter(loader)
    batches = iter(loader)
    for _ in range(start):
        next(batches)
    return batches


def _views(batch: Any) -> Any:
    return batch if hasattr(batch, '_fields') or not isinstance(batch, tuple) else batch[0]


def files(batch: Any) -> List[str]:
    """The image paths of a batch, where it knows them."""
    metas = getattr(_views(batch), 'metas', None) or ()
    return [str(meta.get('filename') or meta.get('ori_filename')) for meta in metas]


def num_samples(batch: Any) -> int:
    metas = getattr(_views(batch), 'metas', None)
    return len(metas) if metas else 1
