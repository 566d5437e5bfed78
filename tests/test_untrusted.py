import collections
import io
import os
import pickle
import stat
import tarfile
import zipfile

import numpy as np
import pytest

from mmdet_ft.untrusted import (UntrustedFileError, extract, inside, load_pickle,
                                require_plain_config)


class Runs:
    """What an attacker puts into a pickle."""

    def __reduce__(self):
        return os.mkdir, ('ran', )


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_results_come_back_from_a_pickle(tmp_path, protocol):
    results = [
        ([np.ones((2, 5), np.float32)], [[dict(size=[4, 6], counts=b'abc')]]),
        collections.OrderedDict(score=np.float64(.5), names={'a'}, flags=np.array([True, False])),
        np.array([None, 'x'], dtype=object),
    ]
    path = tmp_path / 'results.pkl'
    path.write_bytes(pickle.dumps(results, protocol))
    (((boxes, ), masks), second, third) = load_pickle(str(path))
    assert boxes.dtype == np.float32 and boxes.tolist() == [[1] * 5] * 2
    assert masks == [[dict(size=[4, 6], counts=b'abc')]]
    assert second['score'] == .5 and second['names'] == {'a'}
    assert second['flags'].tolist() == [True, False] and third.tolist() == [None, 'x']


@pytest.mark.parametrize('ours, theirs', [(b'numpy._core', b'numpy.core'),
                                          (b'numpy.core', b'numpy._core')])
def test_numpy_1_and_2_read_each_others_pickles(tmp_path, ours, theirs):
    path = tmp_path / 'results.pkl'
    path.write_bytes(pickle.dumps(np.arange(3), protocol=0).replace(ours, theirs))
    assert load_pickle(str(path)).tolist() == [0, 1, 2]


def test_a_pickle_that_would_run_something_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'results.pkl'
    path.write_bytes(pickle.dumps([np.ones(2), Runs()]))
    with pytest.raises(UntrustedFileError, match=r'results\.pkl asks for (posix|nt)\.mkdir'):
        load_pickle(str(path))
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('content', [b'', b'no pickle', pickle.dumps([1, 2])[:-3]])
def test_a_broken_pickle_is_named(tmp_path, content):
    path = tmp_path / 'results.pkl'
    path.write_bytes(content)
    with pytest.raises(UntrustedFileError, match=r'results\.pkl is not a whole pickle'):
        load_pickle(str(path))


GOOD_CONFIG = '''
model = dict(type='MaskRCNN', anchors={'a b': [1.0, -2, (3, )], 4: None}, weight=float('inf'))
globals()['odd-name'] = {1, 2}
data_root = 'data/'
'''


def test_values_of_a_config_may_be_read():
    require_plain_config(GOOD_CONFIG, 'a.pth')


@pytest.mark.parametrize('code', [
    'import os',
    'x = __import__("os").mkdir("ran")',
    'x = dict(a=[open("ran", "w")])',
    'x = dict(**globals())',
    'x = f"{open(1)}"',
    'x = [y for y in ()]',
    'x = (lambda: 0)()',
    'x = "a" * 10**9',
    'x.y = 1',
    'globals()["_base_"] = "other.py"',
    '_base_ = "other.py"',
    'x = "{{$HOME:\' + open(\'ran\') + \'}}"',
    'x: open("ran", "w") = 1',
    'def f(): pass',
    'if True:\n  x = 1',
    'x =',
    '\0',
])
def test_a_config_that_would_run_something_is_refused(code):
    with pytest.raises(UntrustedFileError, match=r'the config in a\.pth'):
        require_plain_config(f'{GOOD_CONFIG}{code}\n', 'a.pth')


OUTSIDE = ['../out.txt', 'a/../../out.txt', '/out.txt', '..', 'C:/out.txt/../../..', r'..\out.txt']


@pytest.mark.parametrize('name', OUTSIDE)
def test_no_name_leads_outside_its_folder(tmp_path, name):
    with pytest.raises(UntrustedFileError, match='outside'):
        inside(str(tmp_path / 'data'), name)


def write(path, names, kind=None):
    """An archive of small files; `kind` makes the last one something else."""
    if path.suffix == '.zip':
        with zipfile.ZipFile(path, 'w') as archive:
            for name in names:
                member = zipfile.ZipInfo(name)
                if kind and name == names[-1]:
                    member.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(member, 'content')
        return str(path)
    with tarfile.open(path, 'w:gz' if path.suffix == '.gz' else 'w') as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mode = 7, 0o4777
            if kind and name == names[-1]:
                member.type, member.linkname, member.size = kind, '/etc/passwd', 0
            archive.addfile(member, io.BytesIO(b'content'))
    return str(path)


@pytest.mark.parametrize('name', ['a.zip', 'a.tar', 'a.tar.gz'])
def test_archives_are_unpacked(tmp_path, name):
    archive = write(tmp_path / name, ['one.txt', 'sub/./two.txt', 'sub/../three.txt'])
    extract(archive, str(tmp_path / 'data'))
    found = sorted(
        str(path.relative_to(tmp_path / 'data')) for path in (tmp_path / 'data').rglob('*.txt'))
    assert found == ['one.txt', 'sub/two.txt', 'three.txt']
    assert (tmp_path / 'data/one.txt').read_text() == 'content'
    assert not (tmp_path / 'data/one.txt').stat().st_mode & stat.S_ISUID


@pytest.mark.parametrize('name', ['a.zip', 'a.tar', 'a.tar.gz'])
@pytest.mark.parametrize('member', ['../out.txt', '/out.txt'])
def test_an_archive_that_leads_outside_writes_nothing(tmp_path, name, member):
    archive = write(tmp_path / name, ['one.txt', member])
    with pytest.raises(UntrustedFileError, match=r'a\.\w+.*out\.txt.* outside'):
        extract(archive, str(tmp_path / 'data'))
    assert sorted(os.listdir(tmp_path)) == [name]


@pytest.mark.parametrize('name, kind', [('a.zip', 'link'), ('a.tar', tarfile.SYMTYPE),
                                        ('a.tar', tarfile.LNKTYPE), ('a.tar', tarfile.CHRTYPE),
                                        ('a.tar', tarfile.FIFOTYPE)])
def test_links_and_devices_of_an_archive_are_refused(tmp_path, name, kind):
    archive = write(tmp_path / name, ['one.txt', 'trap'], kind)
    with pytest.raises(UntrustedFileError, match="'trap' is a link or a device"):
        extract(archive, str(tmp_path / 'data'))
    assert sorted(os.listdir(tmp_path)) == [name]


@pytest.mark.parametrize('name', ['a.zip', 'a.tar.gz'])
def test_a_truncated_archive_is_named(tmp_path, name):
    path = tmp_path / name
    write(path, [f'{index}.txt' for index in range(50)])
    path.write_bytes(path.read_bytes()[:len(path.read_bytes()) // 2])
    with pytest.raises(UntrustedFileError, match='not a whole zip or tar'):
        extract(str(path), str(tmp_path / 'data'))
