"""Fixtures of the tests of commands."""
import importlib.util
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / 'tools/dataset_converters'


@pytest.fixture
def convert(monkeypatch):
    """A function that runs a converter with arguments."""

    def run(name, *words):
        spec = importlib.util.spec_from_file_location(f'converter_{name}', FOLDER / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setattr(sys, 'path', list(sys.path))
        monkeypatch.setattr(sys, 'argv', [name, *map(str, words)])
        spec.loader.exec_module(module)
        module.main()

    return run
