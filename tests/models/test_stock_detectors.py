"""The detectors of MMDetection 2.28.2's stock configs have its weights, by name and shape.

stock_detector_states.json was recorded from MMDetection itself, for half of its configs: those of
types that we have, with the number of entries and 16 hex digits of the sha256 of
json.dumps(sorted((name, shape))) over the state_dict. The configs come from the package index, as
in tests/config/test_stock_configs.py; without one the test skips.
"""
import hashlib
import json
from pathlib import Path

import pytest

from tests.config.test_stock_configs import package  # noqa: F401
from tests.models.test_stock_classifiers import build

STATES = json.loads((Path(__file__).parent / 'stock_detector_states.json').read_text())


@pytest.mark.parametrize('package', ['mmdet'], indirect=True)
def test_stock_detectors_have_the_recorded_weights(package):  # noqa: F811
    _, configs = package
    different = {}
    for name, expected in STATES.items():
        table = sorted(
            (key, list(value.shape)) for key, value in build(configs / name).state_dict().items())
        digest = hashlib.sha256(json.dumps(table).encode()).hexdigest()[:16]
        if f'{len(table)} {digest}' != expected:
            different[name] = f'{len(table)} {digest}'
    assert not different and len(STATES) == 196
