"""Fixtures of the tests of commands."""
import sys

import pytest

from mmdet_ft.commands.main import main


@pytest.fixture
def convert(monkeypatch):
    """A function that runs a converter with arguments."""

    def run(name, *words):
        monkeypatch.setattr(sys, 'argv', ['mmdet-ft', 'convert', name, *map(str, words)])
        main()

    return run
