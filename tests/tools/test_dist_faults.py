"""What becomes of a launch of several processes when one of them fails: one small instance of what
tests/acceptance/test_distributed.py shows at length."""
import json
import sys

import pytest

from mmdet_ft.checkpoints.reading import read
from tests.tools.faults import start, wait, write_faulty_world

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='looks at /proc')


def epochs_of(work_dir):
    """The epochs in the json logs of all attempts, in order."""
    rows = [
        json.loads(line) for path in sorted(work_dir.glob('*.log.json'))
        for line in path.read_text().splitlines()
    ]
    return [row['epoch'] for row in rows if row.get('mode') == 'train']


def test_a_run_survives_a_kill_and_a_hanging_loader(tmp_path):
    """Eight images, two ranks: an epoch has two iterations. Each fault strikes once; a machine that
    itself stands still for a while may cost a start more."""
    killed, hung = tmp_path / 'killed', tmp_path / 'hung'
    config = write_faulty_world(
        tmp_path / 'world',
        hooks=[dict(type='FaultAt', kind='kill', at=3, mark=str(killed))],
        transform=dict(type='FaultOn', kind='hang', mark=str(hung), restarts=1),
        extra='dist_params = dict(backend="nccl", timeout=120, stall_timeout=15)\n')
    launch = start(config, tmp_path / 'run', 2, MAX_RESTARTS='4')
    ending = wait(launch, tmp_path, timeout=500)
    assert ending.code == 0, ending.last_lines
    assert not ending.orphans
    assert read(str(tmp_path / 'run/latest.pth')).meta['epoch'] == 4
    assert set(epochs_of(tmp_path / 'run')) == {1, 2, 3, 4}, ending.last_lines
    assert 'error: nothing has moved for' in ending.output
    assert 'rank 1 has been in its loader for' in ending.output
    assert ending.output.count('in strike') == 1  # the stack of the process that hangs
    assert ' failed:\n' not in ending.output, ending.last_lines  # no traceback of the rank that waited
    assert ending.output.count('resuming the last checkpoint') >= 2
