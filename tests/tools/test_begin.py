"""What a command can refuse without torch is refused before torch is imported."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmdet_ft.engine.begin import read_arguments

ROOT = Path(__file__).resolve().parents[2]
OTHERS = ('benchmarks', 'sample')  # tools of the project's makers

WITHOUT_TORCH = '''
import contextlib, io, runpy, sys
sys.modules['torch'] = sys.modules['mmcv'] = None
for tool in sys.argv[1:]:
    sys.argv = [tool, '--help']
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            runpy.run_path(tool, run_name='__main__')
    except SystemExit as ending:
        print(tool, ending.code, 'usage:' in said.getvalue())
    except ImportError as error:
        print(tool, error)
'''


def test_help_of_every_tool_needs_no_torch():
    tools = sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / 'tools').rglob('*.py')
        if not any(part in OTHERS for part in path.parts) and path.name != '__init__.py')
    done = subprocess.run([sys.executable, '-c', WITHOUT_TORCH, *tools],
                          cwd=ROOT,
                          capture_output=True,
                          text=True)
    assert done.stdout.splitlines() == [f'{tool} 0 True' for tool in tools], done.stderr


@pytest.mark.parametrize(('arguments', 'message'), [
    (['nosuch.py', 'x.pth'], 'no config nosuch.py'),
    (['sound.py', 'x.pth'], 'checkpoint x.pth does not exist'),
    (['broken.py', 'x.pth'], 'broken.py:1'),
])
def test_missing_file_is_refused_without_torch(tmp_path, arguments, message):
    (tmp_path / 'sound.py').write_text('model = dict()\n')
    (tmp_path / 'broken.py').write_text('model = dict(\n')
    done = subprocess.run([
        sys.executable, '-c',
        WITHOUT_TORCH.replace("[tool, '--help']", repr(['test.py', *arguments, '--eval', 'bbox'])),
        str(ROOT / 'tools' / 'test.py')
    ],
                          cwd=tmp_path,
                          env={
                              **os.environ, 'PYTHONPATH': str(ROOT)
                          },
                          capture_output=True,
                          text=True)
    assert message in done.stderr, done.stdout + done.stderr
    assert 'False' in done.stdout and 'torch' not in done.stdout


def test_url_of_a_checkpoint_is_not_looked_for():
    import argparse
    args = argparse.Namespace(config=None, checkpoint='https://example.org/x.pth')
    assert read_arguments(lambda: args) is args
