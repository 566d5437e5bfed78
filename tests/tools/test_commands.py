"""tests/commands.py: a command that is forked is what one from the beginning is."""
import os
import signal
import subprocess
import sys

import pytest

from tests import commands

SCRIPT = '''
import json, os, sys
print(json.dumps([__name__, __file__, sys.argv, sys.path, os.getcwd(), dict(os.environ), sys.stdin.read()]))
print('said', file=sys.stderr)
if sys.argv[1] == 'killed':
    os.kill(os.getpid(), 15)
if sys.argv[1] == 'stopped':
    os.kill(os.getpid(), 2)
sys.exit(int(sys.argv[1]))
'''


def _heed_ctrl_c():
    """Undo that a shell starts what runs in the background with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize('word, code', [('0', 0), ('3', 3), ('text', 1), ('killed', -15),
                                        ('stopped', -2)])
def test_a_forked_command_has_what_one_from_the_beginning_has(tmp_path, word, code):
    (tmp_path / 'script.py').write_text(SCRIPT)
    words = [str(tmp_path / 'script.py'), word, 'b c']
    forked = commands.complete(*words, cwd=tmp_path, MMDET_DATASETS='/big')
    begun = subprocess.run([sys.executable, *words],
                           cwd=tmp_path,
                           env=commands.environment_of(dict(MMDET_DATASETS='/big')),
                           stdin=subprocess.DEVNULL,
                           preexec_fn=_heed_ctrl_c,
                           capture_output=True,
                           text=True)
    assert (forked.returncode, forked.stdout) == (begun.returncode, begun.stdout)
    assert forked.returncode == code and forked.stderr.startswith('said\n')
    assert forked.stderr.splitlines()[-1] == begun.stderr.splitlines()[-1]


@pytest.mark.skipif(sys.platform != 'linux', reason='forks on Linux only')
def test_a_command_is_forked_unless_its_environment_is_read_at_the_start(tmp_path):
    (tmp_path / 'script.py').write_text("import sys\nprint('torch' in sys.modules)\n")
    assert commands.run(tmp_path / 'script.py') == ('True\n', '')
    assert commands.run(tmp_path / 'script.py', OMP_NUM_THREADS='2') == ('False\n', '')


def test_a_command_that_does_not_end_is_killed(tmp_path):
    path = tmp_path / 'script.py'
    path.write_text('import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(99)\n')
    with pytest.raises(subprocess.TimeoutExpired) as error:
        commands.run(path, timeout=.5)
    if error.value.output:  # where there is a process id, there is no such process any more
        with pytest.raises(ProcessLookupError):
            os.kill(int(error.value.output), 0)
    path.write_text('')
    assert commands.run(path) == ('', '')  # the next one is not disturbed
