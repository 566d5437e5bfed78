import cv2
import numpy as np
import pytest
import torch

from mmdet_ft.ops.normalize import normalize_images
from mmdet_ft.structures import Batch


@pytest.mark.parametrize('mean, std', [
    ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]),
    ([125.307, 122.961, 113.8575], [51.5865, 50.847, 51.255]),
    ([33.46] * 3, [78.87] * 3),
    ([103.53, 116.28, 123.675], [1., 1., 1.]),
])
def test_bytes_become_the_very_numbers_of_opencv(mean, std):
    pixels = np.random.RandomState(0).randint(0, 256, (40, 50, 3)).astype(np.uint8)
    expected = pixels.astype(np.float32)
    cv2.subtract(expected, np.float64(np.float32(mean))[None], expected)
    cv2.multiply(expected, 1 / np.float64(np.float32(std))[None], expected)
    size = torch.tensor([[40., 50.]])
    batch = Batch(
        torch.from_numpy(pixels).permute(2, 0, 1)[None], size, size, torch.ones(1, 4), [{}],
        torch.tensor([mean]), torch.tensor([std]))
    assert np.array_equal(normalize_images(batch)[0].permute(1, 2, 0).numpy(), expected)


def test_padding_is_zero_and_what_was_normalised_before_is_left_alone():
    size = torch.tensor([[2., 3.], [4., 4.]])
    batch = Batch(
        torch.full((2, 1, 4, 4), 7, dtype=torch.uint8), size, size, torch.ones(2, 4), [{}] * 2,
        torch.full((2, 1), 5.), torch.full((2, 1), 2.))
    images = normalize_images(batch)
    assert torch.equal(images[1], torch.ones(1, 4, 4))
    assert images[0].sum() == 6 and torch.equal(images[0, 0, :2, :3], torch.ones(2, 3))
    done = torch.rand(2, 1, 4, 4)
    assert normalize_images(batch._replace(images=done, mean=None, std=None)) is done
