"""Broken and hostile files: each is refused or explained in a sentence, and none runs anything."""
import gzip
import io
import json
import os
import pathlib
import pickle
import random
import struct
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.fitting import fit, load_trained, pretrained_loader
from mmdet_ft.checkpoints.input_format import InputFormat
from mmdet_ft.checkpoints.reading import Checkpoint, read

INTEGER = struct.Struct('<I')


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def saved(content, **settings):
    stream = io.BytesIO()
    torch.save(content, stream, **settings)
    return stream.getvalue()


def weights():
    return dict(state_dict=dict(a=torch.arange(64.), b=torch.ones(2, 3)))


def repacked(data, edit, compression=zipfile.ZIP_STORED):
    """A torch file whose data.pkl is edited: bytes -> bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, 'w', compression) as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename,
                         edit(content) if info.filename.endswith('data.pkl') else content)
    return stream.getvalue()


def in_zip(pickled):
    return repacked(saved(weights()), lambda _: pickled)


def swap(old, new):

    def edit(pickled):
        assert old in pickled
        return pickled.replace(old, new)

    return edit


def tar():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode='w') as archive:
        archive.addfile(tarfile.TarInfo('storages'))
    return stream.getvalue()


def safetensors(index, numbers=b'', length=None):
    header = index if isinstance(index, bytes) else json.dumps(index).encode()
    return struct.pack('<Q', len(header) if length is None else length) + header + numbers


def hooked():
    """A module with an attribute that is a call."""
    model = nn.Linear(2, 2)
    model.extra = Call(os.system, 'touch RAN')
    return model


def deep():
    """A list in a list, 100 000 times."""
    return b'\x80\x02' + b']' * 100_000 + b'a' * 99_999 + b'.'


def billion_laughs():
    """Thirty lists, each holding the one before ten times: 10^30 leaves."""
    value = []
    for _ in range(30):
        value = [value] * 10
    return value


def tuple_key():
    """A dict whose key is a tuple of tuples, sixty deep: hashing it takes 2^60 steps."""
    return b'\x80\x02})' + b'2\x86' * 60 + b'K\x01s.'


def end_record(data, **changes):
    """The end of a zip's directory with other numbers."""
    index = data.rindex(b'PK\x05\x06')
    fields = list(struct.unpack('<4s4H2LH', data[index:index + 22]))
    names = ('signature', 'disk', 'start_disk', 'here', 'total', 'size', 'offset', 'comment')
    for name, value in changes.items():
        fields[names.index(name)] = value
    return data[:index] + struct.pack('<4s4H2LH', *fields)


# What is in the file -> what the message says.
FILES = {
    'runs a command': (lambda: saved(dict(weights(), x=Call(os.system, 'touch RAN'))), 'asks to build posix.system'),
    'runs a command, old format': (
        lambda: saved(Call(os.system, 'touch RAN'), _use_new_zipfile_serialization=False), 'posix.system'),
    'runs a command, pickle': (lambda: pickle.dumps(Call(os.system, 'touch RAN'), 2), 'posix.system'),
    'runs a command, protocol 0': (lambda: b"(dp0\ncos\nsystem\n(S'touch RAN'\ntR.", 'asks to build os.system'),
    'evaluates': (lambda: saved(dict(weights(), x=Call(eval, 'open("RAN","w")'))), 'builtins.eval'),
    'imports': (lambda: saved(dict(weights(), x=Call(__import__, 'antigravity'))), 'builtins.__import__'),
    'reaches through getattr': (lambda: b'\x80\x02cbuiltins\ngetattr\n]X\x06\x00\x00\x00append\x86R.',
                                'asks to build getattr'),
    'hides behind a harmless name': (lambda: b'\x80\x04\x8c\x08builtins\x8c\x0cset.__init__\x93.', 'set.__init__'),
    'sets state of a dict class': (
        lambda: b'\x80\x02cbuiltins\nset\n}X\x01\x00\x00\x00xK\x01sb.', 'sets the state of a Name'),
    'uses persistent ids': (lambda: b'\x80\x02X\x01\x00\x00\x00xQ.', 'refers to values outside of the file'),
    'uses the extension registry': (lambda: b'\x80\x02}\x82\x01.', 'pickle instruction EXT1'),
    'instantiates as Python 1 did': (lambda: b'\x80\x02}(S"touch RAN"\nios\nsystem\n.', 'pickle instruction INST'),
    'another codec': (
        lambda: b'\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00xX\x04\x00\x00\x00zlib\x86R.', "codec 'zlib'"),
    'an object that is no module': (lambda: saved(Call(complex, 1)), 'holds a complex, not a state_dict'),
    'a whole model that runs a command': (
        lambda: saved(dict(model=nn.Linear(2, 2), x=Call(os.system, 'touch RAN'))), 'asks to build posix.system'),
    'a whole model that holds a call in a part': (lambda: saved(hooked()), 'posix.system'),
    'an optimizer': (lambda: saved(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], 1.)),
                     'asks to build torch.optim.sgd.SGD'),
    'torchscript': (lambda: script(), 'is a TorchScript program'),
    'cut zip': (lambda: saved(weights())[:-30], 'is broken or cut short'),
    'half a zip': (lambda: saved(weights())[:900], 'is broken or cut short'),
    'half an old file': (lambda: saved(weights(), _use_new_zipfile_serialization=False)[:-9], 'is cut short'),
    'a zip of other things': (lambda: zipped({'readme.txt': b'hello'}), 'is a zip archive, but not of torch'),
    'an empty zip': (lambda: zipped({}), 'is an empty zip archive'),
    'a compressed zip': (lambda: repacked(saved(weights()), bytes, zipfile.ZIP_DEFLATED), 'is a compressed archive'),
    'a zip bomb': (lambda: zipped({'a/data.pkl': b'0' * 50_000_000}, zipfile.ZIP_DEFLATED), 'is a compressed archive'),
    'a directory of a zip that is said to be huge': (
        lambda: end_record(repacked(saved(weights()), bytes), size=2**32 - 2), 'is broken or cut short'),
    'a directory of a zip elsewhere': (
        lambda: end_record(repacked(saved(weights()), bytes), offset=2**31), 'is broken or cut short'),
    'a storage that is missing': (
        lambda: repacked(saved(weights()), swap(b'X\x01\x00\x00\x000', b'X\x01\x00\x00\x007')), "'archive/data/7'"),
    'a storage said to be larger': (
        lambda: repacked(saved(weights()), swap(b'K@', b'M\xff\xff')), 'declares 65535 numbers where 256 bytes are'),
    'a tensor beyond its storage': (
        lambda: repacked(saved(weights()), swap(b'K\x00K@\x85', b'K\x01K@\x85')), 'declares a tensor of size'),
    'a huge tensor': (
        lambda: repacked(saved(weights()), swap(b'K@\x85', b'J\xff\xff\xff\x7f\x85')), 'declares a tensor of size'),
    'a huge tensor of one number': (lambda: saved(dict(a=torch.ones(1).expand(10**12))), 'declares a tensor of size'),
    'negative strides': (
        lambda: repacked(saved(weights()), swap(b'K\x01\x85', b'J\xff\xff\xff\xff\x85')), 'stride'),
    'a sparse tensor': (lambda: saved(dict(a=torch.eye(3).to_sparse())), 'only dense real tensors'),
    'a quantised tensor': (lambda: saved(dict(a=quantised())), 'only dense real tensors'),
    'a tensor without values': (lambda: saved(dict(a=torch.ones(2, device='meta'))), 'only dense real tensors'),
    'an array of objects': (lambda: pickle.dumps(dict(a=np.array([{}, 1], object)), 2), 'holds no tensors by name'),
    'an array of records': (
        lambda: pickle.dumps(dict(a=np.zeros(2, 'f4,i4')), 2), "holds an array of 'V8', not of numbers"),
    'an array without its bytes': (
        lambda: pickle.dumps(dict(a=np.zeros(9)), 4).replace(b'K\x09\x85', b'K\x0b\x85'), 'has not the bytes'),
    'deep nesting': (deep, 'nested too deeply'),
    'deep nesting of json': (lambda: safetensors(b'{"a":' + b'[' * 100_000), 'is'),
    'lists within lists': (lambda: pickle.dumps(billion_laughs(), 2), 'holds a list, not a state_dict'),
    'a key of tuples': (tuple_key, 'has a tuple as a key'),
    'lists within lists as a reference': (
        lambda: in_zip(pickle.dumps((billion_laughs(), 1), 2)[:-1] + b'Q.'), 'holds a [[[...], '),
    'lists within lists as a size': (
        lambda: in_zip(b'\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NK\x00' +
                       pickle.dumps(billion_laughs(), 2)[2:-1] + b')tR.'), 'holds a tensor without a storage'),
    'a text said to be huge': (lambda: b'\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fx.', 'is broken or cut short'),
    'memo that is not there': (lambda: b'\x80\x02h\x05.', 'is broken or cut short'),
    'an empty stack': (lambda: b'\x80\x02R.', 'is broken or cut short'),
    'an empty file': (lambda: b'', 'is empty'),
    'a text': (lambda: b'epoch 3, loss 0.4\n', "is a text, not weights; it begins with 'epoch 3, loss 0.4"),
    'a page': (lambda: b'\n<!DOCTYPE html><html></html>', 'is a web page, not weights'),
    'a pointer of git lfs': (lambda: b'version https://git-lfs.github.com/spec/v1\noid', 'git lfs pull'),
    'noise': (lambda: bytes(range(129, 256)), 'not a weight file of a known format'),
    'a tar archive': (tar, 'is a tar archive: unpack it'),
    'gzip': (lambda: gzip.compress(saved(weights())), 'compressed by gzip'),
    'a list': (lambda: saved([1, 2]), 'holds a list, not a state_dict'),
    'a tensor by itself': (lambda: saved(torch.ones(2)), 'holds a Tensor, not a state_dict'),
    'no tensors': (lambda: saved(dict(epoch=3)), 'holds no tensors by name; its keys are epoch'),
    'safetensors beyond the file': (lambda: safetensors(dict(
        a=dict(dtype='F32', shape=[2], data_offsets=[0, 8])), b'1234'), 'is cut short: '),
    'safetensors of another length': (lambda: safetensors(dict(
        a=dict(dtype='F32', shape=[9], data_offsets=[0, 8])), b'12345678'), 'gives a 8 bytes for shape [9] of F32'),
    'safetensors before the file': (lambda: safetensors(dict(
        a=dict(dtype='U8', shape=[4], data_offsets=[-4, 0])), b''), 'data_offsets [-4, 0]'),
    'safetensors of an unknown kind': (lambda: safetensors(dict(
        a=dict(dtype='F4', shape=[2], data_offsets=[0, 1])), b'1'), "says of a: dtype 'F4'"),
    'safetensors whose index is none': (lambda: safetensors(b'{nonsense}'), 'is broken or cut short'),
    'safetensors whose index is huge': (lambda: safetensors({}, length=2**60), 'not a weight file of a known format'),
    'safetensors with an odd entry': (lambda: safetensors(dict(a=3)), 'is broken or cut short'),
}  # yapf: disable


def zipped(members, compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w', compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def script():
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), stream)
    return stream.getvalue()


def quantised():
    return torch.quantize_per_tensor(torch.ones(3), .1, 0, torch.qint8)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('name', FILES)
def test_a_bad_file_is_refused_in_a_sentence_and_runs_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    make, words = FILES[name]
    (tmp_path / 'bad.pth').write_bytes(make())
    with pytest.raises(CheckpointError) as error:
        read('bad.pth')
    message = str(error.value)
    assert message.startswith('bad.pth ') and words in message and len(message) < 1000
    assert os.listdir(tmp_path) == ['bad.pth']


def test_what_cannot_be_opened_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.symlink('b.pth', 'a.pth')
    os.symlink('a.pth', 'b.pth')
    for path, words in (('.', 'is a folder'), ('a.pth', 'is a link that leads nowhere'),
                        ('c', 'does not exist')):
        with pytest.raises(CheckpointError, match=words):
            read(path)
    if os.getuid() != 0:  # root reads everything
        (tmp_path / 'c').write_bytes(saved(weights()))
        os.chmod('c', 0)
        with pytest.raises(CheckpointError, match='cannot be read: Permission denied'):
            read('c')


@pytest.mark.parametrize('layout', [
    dict(), dict(_use_new_zipfile_serialization=False), 'pkl', 'safetensors'
], ids=['zip', 'before 1.6', 'pickle', 'safetensors'])  # yapf: disable
def test_any_byte_may_be_wrong(tmp_path, layout):
    """A thousand damaged files: read or refused, never another exception."""
    chance = random.Random(0)
    if layout == 'pkl':
        whole = pickle.dumps(
            dict(model={
                'a': np.arange(4.),
                'b': np.float32(2)
            }, c=[1, 'x', None]), 2)
    elif layout == 'safetensors':
        whole = safetensors(dict(a=dict(dtype='F32', shape=[2], data_offsets=[0, 8])), b'12345678')
    else:
        whole = saved(dict(weights(), meta=dict(best=np.float64(.5), CLASSES=('a', ))), **layout)
    path = tmp_path / 'a.pth'
    num_refused = 0
    for _ in range(250):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 8))):
            index = chance.randrange(len(data))
            data[index] = chance.randrange(256)
        path.write_bytes(data[:chance.choice((len(data), len(data), chance.randrange(len(data))))])
        try:
            for value in read(str(path)).state_dict.values():
                value.sum()
        except CheckpointError as error:
            num_refused += 1
            assert str(error).startswith(str(path))
    assert num_refused > 50


class Model(nn.Module):

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.register_buffer('count', torch.tensor(3))

    def weights(self, **changed):
        return {**self.state_dict(), **changed}


@pytest.mark.parametrize('changed,words', [
    (dict(count=torch.tensor(3.)), 'count is of torch.float32, the model has torch.int64'),
    ({'fc.bias': torch.tensor([1, 2])}, 'fc.bias is of torch.int64, the model has torch.float32'),
    ({'fc.bias': torch.tensor([1j, 2])}, 'fc.bias is of torch.complex64'),
    ({'fc.bias': torch.tensor([1., float('nan')])}, '1 of 2 numbers of fc.bias are NaN or infinite'),
    ({'fc.bias': torch.tensor([1., float('inf')])}, '1 of 2 numbers of fc.bias are NaN or infinite'),
])  # yapf: disable
def test_values_that_cannot_be_right_are_refused(tmp_path, changed, words):
    model = Model()
    torch.save(model.weights(**changed), tmp_path / 'a.pth')
    checkpoint = read(str(tmp_path / 'a.pth'))
    with pytest.raises(CheckpointError, match='strict=False') as error:
        fit(model, checkpoint)
    assert words in str(error.value)
    if not checkpoint.state_dict['fc.bias'].is_complex():
        assert words in str(fit(model, checkpoint, strict=False))
    if 'NaN' in words:
        with pytest.raises(CheckpointError, match='cannot be used'):
            load_trained(model, str(tmp_path / 'a.pth'))


def test_a_backbone_of_init_cfg_must_be_right_too(tmp_path):
    torch.save(Model().weights(**{'fc.bias': torch.tensor([1., float('nan')])}), tmp_path / 'a.pth')
    with pytest.raises(CheckpointError, match='cannot be used: 1 of 2 numbers of fc.bias are NaN'):
        pretrained_loader(InputFormat())(str(tmp_path / 'a.pth'))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_taken(dtype):
    model = Model()
    given = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in Model().weights().items()
    }
    fit(model, Checkpoint('a.pth', given, {}, {}))
    assert torch.equal(model.fc.weight, given['fc.weight'].float())


def test_minus_infinity_stands_in_masks(tmp_path):
    model = Model()
    fit(
        model,
        Checkpoint('a.pth', model.weights(**{'fc.bias': torch.tensor([1., -float('inf')])}), {},
                   {}))


def test_weights_of_another_model_are_refused():
    with pytest.raises(CheckpointError, match='Less than half of the model was found'):
        fit(Model(), Checkpoint('a.pth', nn.Sequential(nn.Conv2d(3, 4, 3)).state_dict(), {}, {}))


def test_a_command_ends_in_the_sentence_without_a_traceback(tmp_path):
    (tmp_path / 'bad.pth').write_bytes(saved(dict(weights(), x=Call(os.system, 'touch RAN'))))
    root = pathlib.Path(__file__).parents[2]
    code = ('from mmdet_ft.engine.errors import command\n'
            'from mmdet_ft.checkpoints.reading import read\n'
            'command(lambda: read("bad.pth"))()')
    done = subprocess.run([sys.executable, '-c', code],
                          cwd=tmp_path,
                          env=dict(os.environ, PYTHONPATH=str(root)),
                          capture_output=True,
                          text=True)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert 'error: bad.pth asks to build posix.system' in done.stderr
    assert os.listdir(tmp_path) == ['bad.pth']
