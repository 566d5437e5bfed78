"""Reading: the same tensors as torch.load gives, from every container."""
import collections
import contextlib
import datetime
import json
import pathlib
import pickle
import struct
import sys
import tracemalloc
import types

import numpy as np
import pytest
import torch
from torch import nn

from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.files import read_file
from mmdet_ft.checkpoints.reading import read, read_state_dict
from mmdet_ft.pickle_values import Record

LAYOUTS = [dict(), dict(_use_new_zipfile_serialization=False)]
PROTOCOLS = (2, 3, 4, 5)


def tensors():
    """Every kind of tensor that a state_dict of a float model may hold."""
    whole = torch.arange(24.).view(4, 6)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
             torch.int8, torch.uint8, torch.bool)
    return {
        'whole': whole,
        'rows': whole[1:3, ::2],
        'transposed': whole.t(),
        'scalar': torch.tensor(3.),
        'empty': torch.empty(0, 4),
        'parameter': nn.Parameter(torch.ones(3)),
        **{
            str(kind): torch.arange(5).to(kind)
            for kind in kinds
        },
    }


def assert_same(given, expected):
    assert list(given) == list(expected)
    for name, value in expected.items():
        assert given[name].dtype == value.dtype and given[name].shape == value.shape, name
        assert torch.equal(given[name], value), name


@pytest.mark.parametrize('protocol', PROTOCOLS)
@pytest.mark.parametrize('layout', LAYOUTS, ids=['zip', 'before 1.6'])
def test_tensors_are_those_of_torch_load(tmp_path, layout, protocol):
    path = tmp_path / 'a.pth'
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    content = dict(
        state_dict=collections.OrderedDict(tensors()), optimizer=optimizer.state_dict(), model=None)
    content['state_dict']._metadata = {'': dict(version=2)}
    torch.save(content, path, pickle_protocol=protocol, **layout)
    given, expected = read_file(str(path)), torch.load(path, weights_only=False)
    assert_same(given['state_dict'], expected['state_dict'])
    assert given['optimizer']['param_groups'] == expected['optimizer']['param_groups']
    for number, state in expected['optimizer']['state'].items():
        assert_same(given['optimizer']['state'][number], state)


def test_newer_kinds_of_numbers_are_read(tmp_path):
    weights = {
        'eight': torch.rand(4).to(torch.float8_e4m3fn),
        'unsigned': torch.tensor([7]).to(torch.uint16)
    }
    torch.save(weights, tmp_path / 'a.pth')
    given = read(str(tmp_path / 'a.pth')).state_dict
    for name, value in weights.items():
        assert given[name].dtype == value.dtype and torch.equal(given[name].float(), value.float())


def test_tensors_that_share_memory_share_it_again(tmp_path):
    weight = torch.rand(4, 4)
    torch.save(dict(a=weight, b=weight.t(), c=weight.clone()), tmp_path / 'a.pth')
    given = read(str(tmp_path / 'a.pth')).state_dict
    assert given['a'].data_ptr() == given['b'].data_ptr() != given['c'].data_ptr()
    given['a'][0, 1] = 5
    assert given['b'][1, 0] == 5


def test_writing_to_what_was_read_leaves_the_file(tmp_path):
    torch.save(dict(a=torch.ones(3)), tmp_path / 'a.pth')
    read(str(tmp_path / 'a.pth')).state_dict['a'].zero_()
    assert read(str(tmp_path / 'a.pth')).state_dict['a'].sum() == 3


@pytest.fixture
def lend(monkeypatch):
    """lend('package.module.Class', base): a class that pickle finds under that name as long as the
    context lasts."""

    @contextlib.contextmanager
    def lending(path, base=object):
        module, _, name = path.rpartition('.')
        with monkeypatch.context() as patch:
            parts = module.split('.')
            for end in range(1, len(parts) + 1):
                dotted = '.'.join(parts[:end])
                patch.setitem(sys.modules, dotted, types.ModuleType(dotted))
            kind = type(name, (base, ), {'__module__': module})
            setattr(sys.modules[module], name, kind)
            yield kind

    return lending


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_what_openmmlab_pickles_is_read_without_openmmlab(tmp_path, lend, protocol):
    with lend('mmengine.logging.history_buffer.HistoryBuffer') as kind:
        history = kind()
        history.__dict__.update(_log_history=np.array([1., 2.]), _count_history=[1, 1])
        torch.save(
            dict(
                state_dict=dict(a=torch.ones(2)),
                message_hub=dict(log_scalars={'train/loss': history}),
                meta=dict(CLASSES=('a', 'b'), best=np.float64(.5))),
            tmp_path / 'a.pth',
            pickle_protocol=protocol)
    checkpoint = read(str(tmp_path / 'a.pth'))
    assert checkpoint.meta == dict(CLASSES=('a', 'b'), best=.5)
    held = checkpoint.content['message_hub']['log_scalars']['train/loss']
    assert isinstance(held, Record) and held.state['_log_history'].tolist() == [1., 2.]


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_configs_of_mmcv_1_are_dicts(tmp_path, lend, protocol):
    with lend('mmcv.utils.config.ConfigDict', dict) as kind:
        meta = dict(cfg=kind(a=kind(b=1)))
        torch.save(
            dict(state_dict=dict(a=torch.ones(2)), meta=meta),
            tmp_path / 'a.pth',
            pickle_protocol=protocol)
    assert read(str(tmp_path / 'a.pth')).meta == dict(cfg=dict(a=dict(b=1)))


def test_mmengines_own_history_is_held_and_not_built(tmp_path):
    history_buffer = pytest.importorskip('mmengine.logging.history_buffer')
    history = history_buffer.HistoryBuffer([1., 2.], [1, 1])
    torch.save(
        dict(
            state_dict=dict(a=torch.ones(2)),
            message_hub=dict(log_scalars={'train/loss': history})), tmp_path / 'a.pth')
    held = read(str(tmp_path / 'a.pth')).content['message_hub']['log_scalars']['train/loss']
    assert isinstance(held, Record) and held.kind.endswith('HistoryBuffer')
    assert held.state['_log_history'].tolist() == [1., 2.]


def test_configs_that_are_dicts_with_attributes_are_dicts(tmp_path):
    addict = pytest.importorskip('addict')
    config = pytest.importorskip('mmengine.config')
    meta = dict(a=addict.Dict(b=dict(c=1)), d=config.ConfigDict(e=[config.ConfigDict(f=2)]))
    torch.save(dict(state_dict=dict(a=torch.ones(2)), meta=meta), tmp_path / 'a.pth')
    assert read(str(tmp_path / 'a.pth')).meta == dict(a=dict(b=dict(c=1)), d=dict(e=[dict(f=2)]))


def test_plain_values_of_python_and_numpy_are_read(tmp_path):
    meta = dict(
        best=np.float64(.5),
        number=np.int64(3),
        text=np.str_('é'),
        array=np.arange(6, dtype='>i4').reshape(2, 3),
        fortran=np.asfortranarray(np.arange(6.).reshape(2, 3)),
        names=np.array(['a', 'bc']),
        counts=collections.Counter(a=2),
        path=pathlib.PurePosixPath('/a/b'),
        raw=b'\xff\x00',
        members={1, 2},
        version=torch.torch_version.TorchVersion('1.9'),
        size=torch.Size([1, 2]),
        device=torch.device('cuda:1'),
        dtype=torch.float16,
        big=2**70,
        default=collections.defaultdict(list, a=[1]))
    for protocol in PROTOCOLS:
        torch.save(
            dict(state_dict=dict(a=torch.ones(2)), meta=meta, when=datetime.datetime(2020, 1, 2)),
            tmp_path / 'a.pth',
            pickle_protocol=protocol)
        checkpoint = read(str(tmp_path / 'a.pth'))
        given = checkpoint.meta
        assert (given['best'], given['number'], given['text']) == (.5, 3, 'é')
        assert given['array'].tolist() == [[0, 1, 2], [3, 4, 5]
                                           ] and given['names'].tolist() == ['a', 'bc']
        assert given['fortran'].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert (given['counts'], given['path'], given['raw']) == (dict(a=2), '/a/b', b'\xff\x00')
        assert (given['members'], given['version'], given['size']) == ({1, 2}, '1.9', (1, 2))
        assert (given['device'], given['dtype']) == ('cuda:1', 'torch.float16')
        assert (given['big'], given['default']) == (2**70, dict(a=[1]))
        assert isinstance(checkpoint.content['when'], Record)


@pytest.mark.parametrize('protocol', (0, *PROTOCOLS))
def test_detectron2s_pickles_of_arrays_are_read(tmp_path, protocol):
    weights = {'stem.conv1.weight': np.random.rand(2, 3).astype('float32'), 'n': np.array(3)}
    (tmp_path / 'a.pkl').write_bytes(
        pickle.dumps(dict(model=weights, __author__='x', matching_heuristics=True), protocol))
    given = read(str(tmp_path / 'a.pkl')).state_dict
    for name, value in weights.items():
        assert given[name].numpy().tolist() == value.tolist()


@pytest.mark.parametrize('protocol', (3, 4, 5))
@pytest.mark.parametrize('shift', range(4))
def test_a_pickle_of_arrays_is_in_memory_once(tmp_path, protocol, shift):
    """Large arrays are views of the mapped file where they happen to be aligned, else copied once."""
    weights = {name: np.random.rand(1000, 500).astype('float32') for name in 'ab'}
    size = sum(value.nbytes for value in weights.values())
    path = tmp_path / 'a.pkl'
    path.write_bytes(pickle.dumps(dict(shift='x' * shift, model=weights), protocol))
    read(str(path))  # what is imported meanwhile does not count
    tracemalloc.start()
    try:
        given = read(str(path)).state_dict
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.02 * size
    for name, value in weights.items():
        assert given[name].data_ptr() % 4 == 0 and np.array_equal(given[name].numpy(), value)
        given[name].zero_()
    assert read(str(path)).state_dict['a'].sum() != 0  # the file stays as it was


def test_long_runs_of_bytes_are_what_they_were_where_they_are_no_arrays(tmp_path):
    content = dict(
        model=dict(a=np.ones(2000)),
        text='é' * 5000,
        raw=b'\xff' * 5000,
        more=bytearray(b'\xfe' * 5000),
        names=np.array(['a' * 3000]))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / 'a.pkl').write_bytes(pickle.dumps(content, protocol))
        given = read(str(tmp_path / 'a.pkl')).content
        assert {name: given[name] for name in ('text', 'raw', 'names')} \
            == {name: content[name] for name in ('text', 'raw', 'names')}
        assert given['more'] == content['more']
    (tmp_path /
     'a.pkl').write_bytes(b'\x80\x02}(U\x01aT\x88\x13\x00\x00' + b'\xe9' * 5000 +
                          pickle.dumps(content['model'])[2:-1].join([b'U\x05model', b'u.']))
    assert read(str(tmp_path / 'a.pkl')).content['a'] == 'é' * 5000


def test_an_array_as_python_2_pickled_it_is_read(tmp_path):
    # {'w': numpy.array([1., 2.], 'float32')}, as Python 2 wrote it with protocol 2: bytes are texts.
    written = (
        b'\x80\x02}q\x00U\x01wq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85'
        b'U\x01b\x87Rq\x04(K\x01K\x02\x85cnumpy\ndtype\nq\x05U\x02f4K\x00K\x01\x87Rq\x06(K\x03U\x01<NNNJ\xff\xff'
        b'\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08\x00\x00\x80?\x00\x00\x00@tbs.')
    assert pickle.loads(written, encoding='latin1')['w'].tolist() == [1, 2]
    (tmp_path / 'a.pkl').write_bytes(written)
    assert read(str(tmp_path / 'a.pkl')).state_dict['w'].tolist() == [1, 2]


def safetensors(tensors, metadata=None):
    """A file as the format's text says: length of the index, index, numbers."""
    index, numbers = {} if metadata is None else {'__metadata__': metadata}, b''
    for name, (kind, array) in tensors.items():
        raw = array.tobytes()
        index[name] = dict(
            dtype=kind,
            shape=list(array.shape),
            data_offsets=[len(numbers), len(numbers) + len(raw)])
        numbers += raw
    header = json.dumps(index).encode()
    return struct.pack('<Q', len(header)) + header + numbers


def test_safetensors_are_read(tmp_path):
    tensors = {
        'a': ('F32', np.arange(6, dtype='float32').reshape(2, 3)),
        'odd': ('U8', np.arange(3, dtype='uint8')),
        'b': ('F16', np.arange(4, dtype='float16')),
        'scalar': ('I64', np.array(7)),
        'empty': ('F64', np.empty((0, 2)))
    }
    (tmp_path / 'a.bin').write_bytes(safetensors(tensors,
                                                 dict(format='pt')))  # by content, not name
    checkpoint = read(str(tmp_path / 'a.bin'))
    for name, (_, array) in tensors.items():
        assert checkpoint.state_dict[name].numpy().tolist() == array.tolist()
        assert checkpoint.state_dict[name].numpy().dtype == array.dtype
    assert checkpoint.content['metadata'] == dict(format='pt')


class Evil:
    """Touches a file when it is unpickled as pickle does it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path(self.path), )


def test_a_trusted_file_may_build_what_it_likes(tmp_path):
    content = dict(state_dict=dict(a=torch.ones(2)), extra=Evil(tmp_path / 'built'))
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(
            CheckpointError, match=r'publish_model.py .*a.pth plain.pth --trust.*trust=True'):
        read(str(tmp_path / 'a.pth'))
    assert not (tmp_path / 'built').exists()
    assert read(str(tmp_path / 'a.pth'), trust=True).state_dict['a'].sum() == 2
    assert (tmp_path / 'built').exists()
    (tmp_path / 'a.pkl').write_bytes(
        pickle.dumps(dict(model=dict(a=np.ones(2)), e=Evil(tmp_path / 'b'))))
    assert read(str(tmp_path / 'a.pkl'), trust=True).state_dict['a'].sum() == 2


def test_a_backbone_that_is_not_a_number_is_refused(tmp_path):
    torch.save(dict(a=torch.tensor([1., float('nan')])), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='1 of 2 numbers of a are NaN.*earlier checkpoint'):
        read_state_dict(str(tmp_path / 'a.pth'))
