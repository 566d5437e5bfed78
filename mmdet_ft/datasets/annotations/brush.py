"""Masks of Label Studio's brush: a stream of bits with the run lengths of all values of an RGBA picture.

The stream is 32 bits with the number of values, 5 bits with the bits of a value minus 1, and four times 4 bits with
the bits of a length minus 1. Then each run has a bit (1: one value repeated, 0: values one by one), 2 bits that
choose the bits of its length, the length minus 1, and the value or the values. Source: the format rle-pack of
the library that Label Studio packs masks with.
"""
from typing import List, Sequence

import numpy as np

CHANNELS = 4  # red, green, blue and alpha, which is the mask
BITS_OF_LENGTHS = (3, 4, 8, 16)  # of what is written


class _Bits:
    """A reader of numbers of any number of bits; raises ValueError at the end of the stream."""

    def __init__(self, content: Sequence[int]):
        if not isinstance(content, list) or not all(
                type(item) is int and 0 <= item <= 255 for item in content):
            raise ValueError('has an rle that is no list of bytes from 0 to 255')
        self.bits = np.unpackbits(np.array(content, dtype=np.uint8))
        self.position = 0

    def take(self, number: int) -> np.ndarray:
        """Return the next bits, uint8 [number]."""
        found = self.bits[self.position:self.position + number]
        if len(found) < number:
            raise ValueError('has an rle that is cut off')
        self.position += number
        return found

    def read(self, number: int) -> int:
        """Return the next bits as a number."""
        return int(''.join(map(str, self.take(number).tolist())), 2)


def decode_brush(content: Sequence[int], height: int, width: int) -> np.ndarray:
    """Return the mask of a brush, bool [height, width].

    Raises ValueError for a list of other values, or the mask of an image of another size.
    """
    stream = _Bits(content)
    number, expected = stream.read(32), height * width * CHANNELS
    if number != expected:
        raise ValueError(f'has an rle of {number} values, expected height x width x {CHANNELS}: '
                         f'{expected}')
    bits_of_value = stream.read(5) + 1
    bits_of_length = [stream.read(4) + 1 for _ in range(4)]
    weights = 2**np.arange(bits_of_value, dtype=np.int64)[::-1]
    values = np.zeros(number, dtype=bool)
    begin = 0
    while begin < number:
        is_repeated = stream.read(1)
        end = begin + stream.read(bits_of_length[stream.read(2)]) + 1
        if end > number:
            raise ValueError('has an rle whose runs are longer than the image')
        count = 1 if is_repeated else end - begin
        bits = stream.take(count * bits_of_value).reshape(count, bits_of_value)
        values[begin:end] = bits @ weights > 0
        begin = end
    return values.reshape(height, width, CHANNELS)[..., -1]


def encode_brush(mask: np.ndarray) -> List[int]:
    """Return the stream of a mask, bool [height, width], as a list of bytes."""
    values = mask.astype(bool).reshape(-1)
    bits = [_binary(len(values) * CHANNELS, 32), _binary(8 - 1, 5)]
    bits += [_binary(number - 1, 4) for number in BITS_OF_LENGTHS]
    breaks = np.flatnonzero(np.diff(values)) + 1
    begins = np.concatenate([[0], breaks]).tolist() if len(values) else []
    for begin, end in zip(begins, [*begins[1:], len(values)]):
        left = (end - begin) * CHANNELS
        while left:
            length = min(left, 2**BITS_OF_LENGTHS[-1])
            index = next(i for i, number in enumerate(BITS_OF_LENGTHS) if length <= 2**number)
            bits += [
                '1',
                _binary(index, 2),
                _binary(length - 1, BITS_OF_LENGTHS[index]),
                _binary(255 * int(values[begin]), 8)
            ]
            left -= length
    text = ''.join(bits)
    text += '0' * (-len(text) % 8)
    return [int(text[index:index + 8], 2) for index in range(0, len(text), 8)]


def _binary(number: int, length: int) -> str:
    return format(number, f'0{length}b')
