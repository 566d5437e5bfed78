"""The batches of an epoch: their order, their start and their image paths."""
from typing import Any, Iterator, List


def set_epoch(loader: Any, epoch: int) -> None:
    """Set the epoch of the loader's samplers, which determines the order and the random numbers of samples."""
    batch_sampler = getattr(loader, 'batch_sampler', None)
    for sampler in (getattr(loader, 'sampler',
                            None), batch_sampler, getattr(batch_sampler, 'sampler', None)):
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)


def is_endless(loader: Any) -> bool:
    """Return whether the loader never ends an epoch; such a loader has `set_start`."""
    return hasattr(getattr(loader, 'batch_sampler', None), 'set_start')


def from_batch(loader: Any, start: int) -> Iterator:
    """Yield an epoch's batches without its first `start`, which a resumed run has seen."""
    sampler = getattr(loader, 'sampler', None)
    if start and hasattr(sampler, 'set_start'):  # skipped batches are not read or decoded
        sampler.set_start(start * loader.batch_size)
        return iter(loader)
    batches = iter(loader)
    for _ in range(start):
        next(batches)
    return batches


def _views(batch: Any) -> Any:
    return batch if hasattr(batch, '_fields') or not isinstance(batch, tuple) else batch[0]


def files(batch: Any) -> List[str]:
    """Return the image paths of a batch, [] if it has none."""
    metas = getattr(_views(batch), 'metas', None) or ()
    return [str(meta.get('filename') or meta.get('ori_filename')) for meta in metas]


def num_samples(batch: Any) -> int:
    metas = getattr(_views(batch), 'metas', None)
    return len(metas) if metas else 1
