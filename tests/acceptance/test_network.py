"""Two machines, made of network namespaces, that train together; then the cable between them is cut.

Needs root and `ip` of iproute2; nothing outside of the two namespaces is touched.
"""
import shutil
import subprocess
import sys
import time

import pytest

from mmdet_ft.checkpoints.reading import read
from tests.tools.faults import processes_of, start, wait, write_faulty_world
from tests.tools.test_dist_faults import epochs_of

ADDRESSES = ('10.231.7.1', '10.231.7.2')
HOSTS = ('mmdet_ft_a', 'mmdet_ft_b')
CABLE = ('mmft_a', 'mmft_b')  # 15 letters at most


def ip(*words, check=True):
    return subprocess.run(['ip', *words], check=check, capture_output=True, text=True)


def can_make_hosts():
    if sys.platform != 'linux' or shutil.which('ip') is None:
        return False
    made = ip('netns', 'add', 'mmdet_ft_probe', check=False).returncode == 0
    return made and ip('netns', 'del', 'mmdet_ft_probe', check=False).returncode == 0


pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(not can_make_hosts(), reason='cannot make network namespaces')
]


def cut(is_cut=True):
    """Silence: each host sends to an address at which nobody listens; their own interfaces stay up."""
    for host, end, other in zip(HOSTS, CABLE, ADDRESSES[::-1]):
        if is_cut:
            ip('-n', host, 'neigh', 'replace', other, 'lladdr', '02:00:00:00:00:99', 'dev', end,
               'nud', 'permanent')
        else:
            ip('-n', host, 'neigh', 'del', other, 'dev', end)


@pytest.fixture
def hosts():
    """The two hosts, with a cable."""
    for host in HOSTS:
        ip('netns', 'del', host, check=False)
        ip('netns', 'add', host)
    ip('link', 'add', CABLE[0], 'netns', HOSTS[0], 'type', 'veth', 'peer', 'name', CABLE[1],
       'netns', HOSTS[1])
    for host, end, address in zip(HOSTS, CABLE, ADDRESSES):
        ip('-n', host, 'addr', 'add', f'{address}/24', 'dev', end)
        ip('-n', host, 'link', 'set', end, 'up')
        ip('-n', host, 'link', 'set', 'lo', 'up')
    yield
    for host in HOSTS:
        ip('netns', 'del', host)


def launch(config, root, *options, **environment):
    """dist_train.sh on both hosts, one process each."""
    return [
        start(
            config,
            root / 'run',
            1,
            *options,
            prefix=('ip', 'netns', 'exec', host),
            NNODES='2',
            NODE_RANK=str(node),
            MASTER_ADDR=ADDRESSES[0],
            PORT='29571',
            GLOO_SOCKET_IFNAME=CABLE[node],
            **environment) for node, host in enumerate(HOSTS)
    ]


def wait_for(condition, seconds=240):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds
        time.sleep(.2)


def make_config(root, epochs, stall_timeout):
    return write_faulty_world(
        root / 'world', [dict(type='Slow', seconds=.5)],
        epochs=epochs,
        extra=f'dist_params = dict(backend="nccl", timeout=200, stall_timeout={stall_timeout})\n')


def trained_epoch(root):
    latest = root / 'run/latest.pth'
    return read(str(latest)).meta['epoch'] if latest.exists() else 0


def test_a_short_silence_is_survived(hosts, tmp_path):
    config = make_config(tmp_path, epochs=16, stall_timeout=30)
    launches = launch(config, tmp_path)
    wait_for(lambda: trained_epoch(tmp_path) >= 2)
    cut()
    time.sleep(1)
    before = trained_epoch(tmp_path)
    time.sleep(4)
    assert trained_epoch(tmp_path) <= before + 1  # it was cut indeed
    cut(False)
    endings = [wait(one, tmp_path) for one in launches]
    assert [ending.code for ending in endings] == [0, 0], endings
    assert epochs_of(tmp_path / 'run') == list(range(1, 17))
    assert not endings[1].orphans


def test_a_long_silence_ends_both_and_the_run_resumes(hosts, tmp_path):
    config = make_config(tmp_path, epochs=16, stall_timeout=10)
    launches = launch(config, tmp_path)
    wait_for(lambda: trained_epoch(tmp_path) >= 3)
    cut()
    began = time.monotonic()
    endings = [wait(one, tmp_path, timeout=120) for one in launches]
    seconds = time.monotonic() - began
    assert all(ending.code == 1 for ending in endings), endings
    assert seconds < 60 and not processes_of(tmp_path)
    for rank, ending in enumerate(endings):
        assert f'rank {1 - rank} has not been heard of for' in ending.output
        assert 'the network to 10.231.7.1:29571 or the other machines are down' in ending.output
        assert 'Traceback' not in ending.output
    cut(False)
    done = trained_epoch(tmp_path)
    assert 3 <= done < 16
    endings = [wait(one, tmp_path) for one in launch(config, tmp_path, '--auto-resume')]
    assert [ending.code for ending in endings] == [0, 0], endings
    assert f'resumed epoch {done},' in endings[0].output
    assert epochs_of(tmp_path / 'run') == list(range(1, 17))


def test_a_silence_that_ends_is_recovered_from_by_itself(hosts, tmp_path):
    """With restarts the processes of both machines look for each other again."""
    config = make_config(tmp_path, epochs=16, stall_timeout=10)
    launches = launch(config, tmp_path, MAX_RESTARTS='1')
    wait_for(lambda: trained_epoch(tmp_path) >= 3)
    cut()
    time.sleep(25)
    cut(False)
    endings = [wait(one, tmp_path) for one in launches]
    assert [ending.code for ending in endings] == [0, 0], endings
    assert 'resuming the last checkpoint' in endings[0].output
    assert epochs_of(tmp_path / 'run') == list(range(1, 17))
    assert not endings[1].orphans
