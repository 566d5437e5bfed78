"""A training step of no detector waits more than twice, or has a loop over images."""
import pytest

from tools.benchmarks.detectors import Counts, count_step, find_detectors


@pytest.mark.acceptance
def test_operations_of_every_detector_do_not_grow_with_the_batch():
    counted = {name: count_step(config.model) for name, config in find_detectors()}
    assert len(counted) >= 20
    assert not {name: counts for name, counts in counted.items() if not counts.is_right()}


@pytest.mark.parametrize(
    'waits, operations, is_right',
    [
        (2, [90, 100, 102], True),
        (0, [90, 100, 103], False),  # more than one an image
        (3, [90, 100, 100], False),
    ])
def test_a_step_that_waits_or_grows_is_wrong(waits, operations, is_right):
    assert Counts(['aten::item'] * waits, operations).is_right() == is_right
