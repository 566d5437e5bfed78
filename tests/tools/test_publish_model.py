"""tools/model_converters/publish_model.py: smaller, named by its hash, the same weights."""
import datetime
import hashlib
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from mmdet_ft.checkpoints import writing
from mmdet_ft.checkpoints.download import hash_of
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.commands.main import run_tool
from tests.checkpoints.test_reading import Evil
from tests.engine.fakes import FakeModel, same

TOOL = Path(__file__).parents[2] / 'tools' / 'model_converters' / 'publish_model.py'


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(monkeypatch, capsys):
    """run(word, ...): the command in this process."""

    def running(*words):
        monkeypatch.setattr(sys, 'argv', ['publish_model.py', *map(str, words)])
        code = 0
        try:
            run_tool('publish_model')
        except SystemExit as stopped:
            code = stopped.code
        return Done(code, *capsys.readouterr())

    return running


def test_what_is_published_is_smaller_and_named_by_its_hash(tmp_path, run):
    state = FakeModel().state_dict()
    momentum = {0: dict(momentum_buffer=torch.rand(10_000))}
    writing.save(
        str(tmp_path / 'epoch_1.pth'),
        state,
        dict(epoch=1, CLASSES=('a', )),
        optimizer=dict(state=momentum))
    done = run(tmp_path / 'epoch_1.pth', tmp_path / 'my.pth')
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob('my*')
    assert done.stdout.startswith(str(path)) and path.stat().st_size < 5_000
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(hash_of(path.name))
    published = read(str(path))
    assert same(published.state_dict, state) and published.meta['CLASSES'] == ('a', )
    assert 'optimizer' not in published.content and torch.load(path, weights_only=True)
    # Again, from the published file: the same name, so the content decides alone.
    run(path, tmp_path / 'again')
    assert (tmp_path / path.name.replace('my', 'again')).exists()


def test_a_trusted_file_is_published_without_its_objects(tmp_path, run):
    content = dict(
        state_dict=FakeModel().state_dict(),
        when=datetime.datetime(2020, 1, 2),
        extra=Evil(tmp_path / 'built'))
    torch.save(content, tmp_path / 'a.pth')
    refused = run(tmp_path / 'a.pth', tmp_path / 'plain.pth')
    assert refused.returncode == 1 and '--trust' in refused.stderr and 'Traceback' not in refused.stderr
    assert run(tmp_path / 'a.pth', tmp_path / 'plain.pth', '--trust').returncode == 0
    [path] = tmp_path.glob('plain*')
    assert same(torch.load(path, weights_only=True)['state_dict'], content['state_dict'])


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_what_has_diverged_is_not_published(tmp_path, run, value):
    torch.save(dict(state_dict=dict(a=torch.tensor([value]))), tmp_path / 'a.pth')
    done = run(tmp_path / 'a.pth', tmp_path / 'b.pth')
    assert done.returncode == 1 and 'not worth publishing: 1 of 1 numbers of a are NaN' in done.stderr
    assert not list(tmp_path.glob('b*'))


def test_a_published_file_is_published_again_without_harm(tmp_path, run):
    writing.save(str(tmp_path / 'a.pth'), FakeModel().state_dict(), dict(epoch=1))
    assert run(tmp_path / 'a.pth', tmp_path / 'my.pth').returncode == 0
    [path] = tmp_path.glob('my*')
    content = path.read_bytes()
    assert run(path, tmp_path / 'my.pth').returncode == 0
    assert list(tmp_path.glob('my*')) == [path] and path.read_bytes() == content


@pytest.mark.parametrize('name', ['upgrade_model_version', 'npz_to_pth'])
def test_converters_do_not_write_over_what_they_read(tmp_path, monkeypatch, capsys, name):
    path = tmp_path / 'a.pth'
    torch.save(dict(state_dict={'a': torch.ones(1)}), path)
    content = path.read_bytes()
    (tmp_path / 'b.pth').symlink_to(path)
    monkeypatch.setattr(sys, 'argv', [name, str(path), str(tmp_path / 'b.pth')])
    try:
        code = run_tool(name)
    except SystemExit as stopped:
        code = stopped.code
    assert code == 1 and 'would overwrite' in capsys.readouterr().err
    assert path.read_bytes() == content
