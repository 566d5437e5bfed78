"""Checks of COCO's compressed run lengths, all at once, before pycocotools reads them.

pycocotools does not check them: two masks whose run lengths have different sums make its IoU loop
forever.
"""
from typing import NamedTuple, Optional, Sequence

import numpy as np

CHUNK = 1 << 21  # bytes that are checked together: some 200 MB of intermediate arrays
MOST_GROUPS = 7  # groups of 5 bits in a count: 34 bits and the sign exceed the pixels of any image


class RunSums(NamedTuple):
    """The sums of N strings of run lengths."""
    sound: np.ndarray  # bool [N]; False: invalid, or with a negative count
    pixels: np.ndarray  # int64 [N], inside and outside of the mask; 0 where not sound
    inside: np.ndarray  # int64 [N], pixels of the mask


def sum_runs(strings: Sequence[bytes]) -> RunSums:
    """Decode compressed run lengths only as far as needed for their sums."""
    lengths = np.array([len(text) for text in strings], dtype=np.int64)
    chunk = lengths.cumsum() // CHUNK
    bounds = np.flatnonzero(np.diff(chunk, prepend=-1)).tolist() + [len(strings)]
    parts = [_sum_together(strings[a:b], lengths[a:b]) for a, b in zip(bounds, bounds[1:])]
    if not parts:
        nothing = np.zeros(0, dtype=np.int64)
        return RunSums(nothing.astype(bool), nothing, nothing)
    return RunSums(*(np.concatenate(columns) for columns in zip(*parts)))


def _sum_together(strings: Sequence[bytes], lengths: np.ndarray) -> RunSums:
    number = len(strings)
    data = np.frombuffer(b''.join(strings), dtype=np.uint8) - 48  # below 48 wraps to above 63
    sound = lengths > 0
    odd = data > 63
    if odd.any():
        sound[np.arange(number).repeat(lengths)[odd]] = False
    last = lengths.cumsum()[sound] - 1
    sound[np.flatnonzero(sound)[data[last] > 31]] = False  # its last count is incomplete
    if not sound.all():
        data = data[sound.repeat(lengths)]
    # counts: groups of 5 bits, the lowest first; bit 6 says that more follow, bit 5 of the last one
    # is the sign
    ends = np.flatnonzero(data < 32)
    groups = np.diff(ends, prepend=-1)
    values = data[ends].astype(np.int64)
    values -= (values & 16) << 1
    more, position = np.flatnonzero(groups > 1), 1
    while len(more) and position < MOST_GROUPS:
        values[more] = (values[more] << 5) | (data[ends[more] - position] & 31)
        position += 1
        more = more[groups[more] > position]
    begins = np.searchsorted(ends,
                             np.where(sound, lengths, 0).cumsum() - np.where(sound, lengths, 0))
    numbers = np.diff(begins, append=len(ends))  # counts of each item
    filled = np.flatnonzero(numbers)
    pixels, inside = np.zeros(number, dtype=np.int64), np.zeros(number, dtype=np.int64)
    if not len(filled):
        return RunSums(sound, pixels, inside)
    item = filled.repeat(numbers[filled])
    sound[item[more]] = False
    # from the fourth on a count is the difference to the count two before
    index = np.arange(len(values)) - begins[item]
    are_ones = (index & 1).astype(bool)
    zeros = values.copy()
    zeros[are_ones | (index == 0)] = 0  # no count is a difference to the first one
    ones = values * are_ones
    np.cumsum(zeros, out=zeros)
    np.cumsum(ones, out=ones)
    first = begins[filled]
    zeros -= zeros[first].repeat(numbers[filled])
    ones -= ones[first].repeat(numbers[filled])
    zeros[first] = values[first]
    values = np.where(are_ones, ones, zeros)
    sound[item[values < 0]] = False
    pixels[filled] = np.add.reduceat(values, first)
    values[~are_ones] = 0
    inside[filled] = np.add.reduceat(values, first)
    return RunSums(sound, np.where(sound, pixels, 0), np.where(sound, inside, 0))


def fault_of_runs(size: Sequence[int], height: int, width: int, sound: bool,
                  pixels: int) -> Optional[str]:
    """Return why run lengths of `size` are no mask of an image of `height` x `width`; None if they are."""
    if list(size) != [height, width]:
        swapped = ' (height and width are exchanged)' if list(size) == [width, height] else ''
        return (f'has run lengths of size {list(size)} in an image of [height, width] '
                f'[{height}, {width}]{swapped}')
    if not sound:
        return 'has counts that are no compressed run lengths'
    if pixels != height * width:
        return (f'has run lengths of {pixels} pixels, the image has {height} x {width} = '
                f'{height * width}')
    return None
