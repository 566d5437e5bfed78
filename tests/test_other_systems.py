"""What Windows and macOS do not have: everything can be imported without it, and numbers are in their units."""
import subprocess
import sys
from pathlib import Path

import pytest

from mmdet_ft import processes

ROOT = Path(__file__).resolve().parents[1]

# What others import themselves comes first, as Windows' forms of it would.
WITHOUT = '''
import importlib, multiprocessing.reduction, os, pkgutil, runpy, signal, sys, traceback
import cv2, mmcv, numpy, pycocotools.mask, rich.console, torch, torchvision, yapf.yapflib.yapf_api
import torch.distributed.run, torch.multiprocessing, torch.utils.data, torch.utils.tensorboard
for name in ('fcntl', 'resource', 'pwd', 'grp', 'termios', 'tty', 'pty', 'posix'):
    sys.modules[name] = None
del multiprocessing.reduction.DupFd
for name in ('SIGKILL', 'SIGUSR1', 'SIGUSR2', 'SIGHUP', 'SIGALRM', 'SIGQUIT', 'SIGCHLD', 'alarm', 'pthread_sigmask',
             'sigwaitinfo', 'sigwait', 'SIG_BLOCK'):
    if hasattr(signal, name):
        delattr(signal, name)
for name in ('fork', 'memfd_create', 'killpg', 'setsid', 'getuid', 'geteuid', 'sched_getaffinity', 'statvfs', 'uname',
             'sysconf', 'mkfifo', 'getpgid'):
    if hasattr(os, name):
        delattr(os, name)
import mmdet_ft
failed = []
names = [found.name for found in pkgutil.walk_packages(mmdet_ft.__path__, 'mmdet_ft.')]
for name in names:
    try:
        importlib.import_module(name)
    except Exception:
        failed.append(name + traceback.format_exc())
for path in sys.argv[1:]:
    sys.path.insert(0, os.path.dirname(path))  # as python does for a script
    try:
        runpy.run_path(path, run_name='imported')
    except Exception:
        failed.append(path + traceback.format_exc())
assert len(names) > 150, names
sys.exit('\\n'.join(failed) or None)
'''


def test_every_module_and_tool_is_imported_without_what_only_unix_has():
    tools = [str(path) for path in sorted((ROOT / 'tools').rglob('*.py'))]
    done = subprocess.run([sys.executable, '-c', WITHOUT, *tools],
                          cwd=ROOT,
                          capture_output=True,
                          text=True,
                          timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('platform,unit', [('linux', 1024), ('darwin', 1)])
def test_the_peak_of_memory_is_told_in_bytes(monkeypatch, platform, unit):
    resource = pytest.importorskip('resource')
    monkeypatch.setattr(sys, 'platform', platform)
    monkeypatch.setattr(resource, 'getrusage', lambda who: type('Usage', (), dict(ru_maxrss=5000)))
    assert processes.peak_memory() == 5000 * unit


def test_a_system_that_does_not_say_how_much_memory_was_used_is_not_asked(monkeypatch):
    monkeypatch.setattr(processes, 'resource', None)
    assert processes.peak_memory() is None
