"""Two thousand iterations with evaluations and checkpoints: memory and open files do not grow."""
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.tiny_world import write_world

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(sys.platform != 'linux', reason='looks at /proc')
]
ROOT = Path(__file__).resolve().parents[2]
HOOK = '''
import os

from mmdet_ft.engine.hooks import HOOKS, Hook


def measure(process):
    """(resident kB, open files) of a process; memory that it shares counts where it was touched."""
    with open(f'/proc/{process}/status') as file:
        resident = next(int(line.split()[1]) for line in file if line.startswith('VmRSS'))
    return resident, len(os.listdir(f'/proc/{process}/fd'))


@HOOKS.register_module()
class Measure(Hook):

    def after_train_iter(self, runner):
        if (runner.iter + 1) % 100 == 0:
            with open('/proc/self/task/%d/children' % os.getpid()) as file:
                children = file.read().split()
            found = [measure(process) for process in ('self', *children)]
            os.write(1, f'{runner.iter + 1} {found}\\n'.encode())
'''


@pytest.mark.parametrize('workers', [0, 2])
def test_memory_and_open_files_stay_as_they_are(tmp_path, workers):
    write_world(tmp_path / 'world', num_train=20)
    (tmp_path / 'my_hook.py').write_text(HOOK)
    config = tmp_path / 'mine.py'
    config.write_text(f"""
_base_ = '{tmp_path}/world/tiny.py'
custom_imports = dict(imports=['my_hook'])
custom_hooks = [dict(type='Measure'), dict(type='EMAHook', momentum=.001, priority=49)]
data = dict(workers_per_gpu={workers})
runner = dict(max_epochs=200)
evaluation = dict(interval=20)
checkpoint_config = dict(interval=5, max_keep_ckpts=2)
log_config = dict(interval=5)
""")
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/train.py', config, '--work-dir', tmp_path / 'run'],
        cwd=tmp_path,
        env={
            **os.environ, 'OMP_NUM_THREADS': '1',
            'CUDA_VISIBLE_DEVICES': ''
        },
        capture_output=True,
        text=True,
        timeout=1800)
    assert done.returncode == 0, done.stderr
    table = {
        int(line.split()[0]):
        [tuple(map(int, pair)) for pair in re.findall(r'\((\d+), (\d+)\)', line)]
        for line in done.stdout.splitlines() if re.match(r'\d+ \[', line)
    }
    assert max(table) == 2000
    print('\n'.join(f'{iteration} {found}' for iteration, found in table.items()))
    for early, late in zip(table[500], table[2000]):
        assert late[0] < 1.03 * early[0] + 2000  # kB
        assert late[1] <= early[1] + 1
