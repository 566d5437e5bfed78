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


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_kind_come_back_from_a_pickle(tmp_path, protocol):
    arrays = [
        np.zeros((0, 5), np.float32),
        np.array(3),
        np.array([], 'U3'),
        np.array(['a', 'bcd']),
        np.arange(6, dtype='>i2').reshape(2, 3),
        np.asfortranarray(np.arange(6.).reshape(2, 3)),
        np.arange(6, dtype=np.uint8)[::2],
        np.array([1j]),
    ]
    inner = np.ones((2, 4))
    objects = np.empty((1, 2), object)
    objects[0, 0], objects[0, 1] = inner, [inner]
    path = tmp_path / 'results.pkl'
    path.write_bytes(pickle.dumps((arrays, objects, np.array([], object)), protocol))
    given, held, nothing = load_pickle(str(path))
    for array, expected in zip(given, arrays):
        assert array.dtype == expected.dtype.newbyteorder('=') and array.shape == expected.shape
        assert array.tolist() == expected.tolist() and array.flags.writeable
    assert held.shape == (1, 2) and held.dtype == object and held[0, 0].tolist() == inner.tolist()
    assert held[0, 1][0] is held[0, 0] and nothing.shape == (0, )


def test_what_holds_itself_or_stands_in_many_places_comes_back_as_it_was(tmp_path):
    shared, value = [np.ones(2)], []
    value += [shared, (shared, ), {'a': shared}, value]
    for _ in range(60):  # looked at anew in each place, this would never end
        value = [(value, value), {0: value, 1: value}]
    path = tmp_path / 'results.pkl'
    path.write_bytes(pickle.dumps(value))
    given = load_pickle(str(path))
    for _ in range(60):
        assert given[0][0] is given[0][1] is given[1][0]
        given = given[0][0]
    assert given[0] is given[1][0] is given[2]['a'] and given[3] is given
    assert given[0][0].tolist() == [1, 1]


class Pickled:
    """Pickles as a call of `function`, and a state."""

    def __init__(self, function, arguments, state=None):
        self.reduced = function, arguments, state

    def __reduce__(self):
        return self.reduced


def array(state):
    return Pickled(np.zeros(0).__reduce__()[0], (np.ndarray, (0, ), b'b'), (1, *state))


NATIVE = (3, '<', None, None, None, -1, -1)
HOLDS_REFERENCES = Pickled(np.dtype, ('f8', False, True), (*NATIVE, 63))
FIELD_BEYOND = Pickled(np.dtype, ('V8', False, True), (3, '|', None, ('a', ), {
    'a': (np.dtype('O'), 1000)
}, 8, 1, 0))


@pytest.mark.parametrize('value, words', [
    (array(((100_000, ), np.dtype('O'), False, [None])), 'has not the bytes'),
    (array(((2, ), FIELD_BEYOND, False, b'x' * 16)), "an array of 'V8', not of numbers"),
    (array(((1000, ), np.dtype('f8'), False, b'x' * 16)), 'has not the bytes'),
    (array(((-1, -2), np.dtype('f8'), False, b'x' * 16)), 'negative'),
    (array(((2**62, 4), np.dtype('f8'), False, b'')), 'has not the bytes'),
    (array(((2, ), np.dtype('M8'), False, b'x' * 16)), "an array of 'M8', not of numbers"),
    (array(((2**40, ), Pickled(np.dtype, ('U0', False, True), (*NATIVE, 0)), False, b'')), 'not of numbers or text'),
    (Pickled(np.ndarray, (10**12, )), 'not callable'),
    (Pickled(getattr, ([], 'append')), 'asks for getattr'),
], ids=lambda value: value if isinstance(value, str) else None)  # yapf: disable
def test_an_array_that_claims_more_than_it_has_is_refused(tmp_path, value, words):
    """NumPy's own unpickling reads memory beyond a list or follows bytes as pointers here."""
    path = tmp_path / 'results.pkl'
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(UntrustedFileError, match=words):
        load_pickle(str(path))


def test_a_kind_of_number_is_what_its_name_says_whatever_its_state(tmp_path):
    path = tmp_path / 'results.pkl'
    path.write_bytes(pickle.dumps(array(((2, ), HOLDS_REFERENCES, False, b'x' * 16))))
    given = load_pickle(str(path))
    assert given.dtype == np.dtype('f8') and not given.dtype.hasobject and given.shape == (2, )


def test_functions_that_build_values_cannot_be_changed_by_a_pickle(tmp_path):
    path = tmp_path / 'results.pkl'
    for name in (b'builtins\nset', b'numpy\ndtype', b'numpy.core.multiarray\n_reconstruct',
                 b'numpy\nndarray', b'builtins\nint'):
        path.write_bytes(b'\x80\x02c' + name + b'\n}X\x01\x00\x00\x00xK\x01sb.')
        with pytest.raises(UntrustedFileError):
            load_pickle(str(path))


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
