"""tools/slurm_train.sh and slurm_test.sh, with an srun that starts its tasks on this machine."""
import os
import subprocess
import sys

import pytest

from tests.tools.faults import ROOT, free_port
from tests.tools.test_dist_faults import epochs_of
from tests.tools.tiny_world import write_world

SRUN = '''#!/usr/bin/env bash
echo "$@" > "$RECORD"
while [ "$1" != "$PYTHON" ]; do shift; done
for task in 0 1; do
    SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=2 SLURM_NODELIST='node[1-2]' "$@" &
done
wait -n && wait -n
'''
SCONTROL = '#!/usr/bin/env bash\n[ "$*" = "show hostname node[1-2]" ] && printf "localhost\\nnode2\\n"\n'


@pytest.fixture(scope='module')
def cluster(tmp_path_factory):
    root = tmp_path_factory.mktemp('slurm')
    (root / 'bin').mkdir()
    for name, text in (('srun', SRUN), ('scontrol', SCONTROL)):
        (root / 'bin' / name).write_text(text)
        (root / 'bin' / name).chmod(0o755)
    config = write_world(root / 'world')

    def run(script, *words, **environment):
        env = {
            **os.environ, 'PATH': f'{root / "bin"}:{os.environ["PATH"]}',
            'PYTHON': sys.executable,
            'RECORD': str(root / 'srun'),
            'OMP_NUM_THREADS': '1',
            'CUDA_VISIBLE_DEVICES': '',
            'MASTER_PORT': free_port(),
            **environment
        }
        done = subprocess.run(
            ['bash', str(ROOT / 'tools' / script), 'gpu', 'name', config, *map(str, words)],
            env=env,
            cwd=root,
            capture_output=True,
            text=True,
            timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout, (root / 'srun').read_text()

    return root, run


def test_a_job_trains_and_tests(cluster):
    root, run = cluster
    _, srun = run(
        'slurm_train.sh',
        root / 'run',
        '--cfg-options',
        'runner.max_epochs=1',
        GPUS='2',
        GPUS_PER_NODE='2',
        SRUN_ARGS='--signal=USR1@120 --time=60')
    assert epochs_of(root / 'run') == [1]
    assert '-p gpu --job-name=name --gres=gpu:2 --ntasks=2 --ntasks-per-node=2' in srun
    assert '--signal=USR1@120 --time=60' in srun
    out, _ = run('slurm_test.sh', root / 'run/latest.pth', '--eval', 'bbox', GPUS='2')
    assert 'bbox_mAP' in out
