"""Modules that have moved import under their earlier paths too."""
import importlib
import subprocess
import sys

import pytest

from mmdet_ft.old_paths import EarlierPaths

PATHS = EarlierPaths().paths


@pytest.mark.parametrize('old', sorted(PATHS))
def test_an_earlier_path_is_the_module_of_today(old):
    with pytest.warns(DeprecationWarning, match='today'):
        sys.modules.pop(old, None)
        module = importlib.import_module(old)
    assert module is importlib.import_module(PATHS[old])
    assert module.__spec__.name == PATHS[old]


def test_a_fresh_process_imports_by_earlier_paths():
    code = ('from mmdet_ft.engine.checks.config.check import prepare\n'
            'from mmdet_ft.checkpoints.facts import InputFormat\n'
            'from mmdet_ft.engine import model\n'
            'import mmdet_ft.engine.model as same\n'
            'assert model is same and same.build_model and InputFormat and prepare')
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True)


def test_what_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module('mmdet_ft.engine.nosuch')


def test_an_earlier_path_does_not_replace_a_function_of_its_name():
    """`losses.accuracy` is V2's function, and was the name of its module too."""
    from mmdet_ft.models import losses
    for name in ('accuracy', 'cross_entropy'):
        sys.modules.pop(f'mmdet_ft.models.losses.{name}', None)
        with pytest.warns(DeprecationWarning):
            module = importlib.import_module(f'mmdet_ft.models.losses.{name}')
        assert getattr(losses, name) is getattr(module, name)
