"""Weights under other keys and prefixes, whole modules, shards, and files of other kinds."""
import functools
import io
import json
import logging
import struct
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from mmdet_ft.checkpoints.choosing import common_prefix
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.checkpoints.fitting import fit, pretrained_loader
from mmdet_ft.checkpoints.input_format import InputFormat
from mmdet_ft.checkpoints.reading import read
from mmdet_ft.models.base_module import BaseModule
from tests.engine.fakes import same


class Stage(BaseModule):

    def __init__(self, init_cfg=None):
        super().__init__(init_cfg)
        self.conv1 = nn.Conv2d(3, 4, 1)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
        self.layer2 = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8))


class Model(BaseModule):
    """A backbone and a head."""

    def __init__(self, init_cfg=None):
        super().__init__()
        self.backbone = Stage(init_cfg)
        self.head = nn.Linear(8, 3)

    def prediction_layers(self):
        return ('head.', )


def drawn(kind=Model, seed=1):
    torch.manual_seed(seed)
    model = kind()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(.5, 1.5)
    return model.state_dict()


def under(prefix, weights):
    return {prefix + name: value for name, value in weights.items()}


def changed(weights):
    return {
        name: value + 1 if value.is_floating_point() else value
        for name, value in weights.items()
    }


WRAPPED = {  # weights -> content of a file, and the words of the report
    'net': (lambda w: dict(net=w, acc=93., epoch=1), "weights taken from 'net'"),
    'weights': (lambda w: dict(weights=w), "weights taken from 'weights'"),
    'BasicSR': (lambda w: dict(params=changed(w), params_ema=w), "averaged weights taken from 'params_ema'"),
    'student and teacher': (lambda w: dict(student=under('module.', changed(w)), teacher=w),
                            "averaged weights taken from 'teacher'"),
    'student and teacher in one dict': (
        lambda w: dict(state_dict={**under('student.', changed(w)), **under('teacher.', w)}),
        "names without their 'teacher.'"),
    'DeepSpeed': (lambda w: dict(module=w, optimizer=dict(state={0: dict(exp_avg=torch.ones(9))})),
                  "weights taken from 'module'"),
    'a state_dict in a state_dict': (lambda w: dict(state_dict=dict(state_dict=w)),
                                     "taken from 'state_dict.state_dict'"),
    'a tensor beside them': (lambda w: dict(net=w, rng_state=torch.get_rng_state()), "weights taken from 'net'"),
    'AveragedModel': (lambda w: dict(n_averaged=torch.tensor(5), **under('module.', w)), 'AveragedModel of 5 updates'),
    'Lightning': (lambda w: dict(state_dict={**under('model.', w), 'criterion.weight': torch.ones(3)}),
                  "names without their 'model.'"),
    'FSDP': (lambda w: under('_fsdp_wrapped_module.', w), "'_fsdp_wrapped_module.' taken out of"),
    'a compiled part': (lambda w: {n.replace('layer1.', 'layer1._orig_mod.'): v for n, v in w.items()},
                        "'_orig_mod.' taken out of"),
    'DataParallel around a part': (lambda w: {n.replace('layer1.', 'layer1.module.'): v for n, v in w.items()},
                                   "'module.' taken out of names"),
    'recomputed blocks': (
        lambda w: {n.replace('layer1.', '_checkpoint_wrapped_module.layer1.'): v for n, v in w.items()},
        "'_checkpoint_wrapped_module.' taken out of"),
    'a scalar in ema': (lambda w: dict(state_dict=w, ema=dict(decay=torch.tensor(.99))), None),
    'gradients beside them': (lambda w: dict(gradients=changed(w), state_dict=w), None),
}  # yapf: disable


@pytest.mark.parametrize('name', WRAPPED)
@pytest.mark.parametrize('kind', [Model, Stage])
def test_wrapped_weights_are_found_by_load_from_and_by_init_cfg(tmp_path, caplog, kind, name):
    wrap, words = WRAPPED[name]
    weights = drawn(kind)
    torch.save(wrap(weights), tmp_path / 'a.pth')
    if kind is Model:
        model = Model()
        said = str(fit(model, read(str(tmp_path / 'a.pth'))))
    else:
        model = Stage(dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth')))
        with caplog.at_level(logging.INFO, logger='mmdet_ft'):
            model.init_weights(load=pretrained_loader(InputFormat()))
        said = caplog.text
    assert same(model.state_dict(), weights)
    assert words is None or words in said


def test_averages_go_before_the_weights_beside_them_only_where_they_fit_as_well(tmp_path):
    weights = drawn()
    ema = dict(
        initted=torch.tensor(True),
        **under('online_model.', weights),
        **under('ema_model.', changed(weights)))
    model = Model()
    torch.save(dict(state_dict=weights, ema=ema), tmp_path / 'a.pth')
    report = fit(model, read(str(tmp_path / 'a.pth')))
    assert same(model.state_dict(),
                changed(weights)) and "names without their 'ema_model.'" in str(report)
    ema = dict(list(changed(weights).items())[:12])
    torch.save(dict(state_dict=weights, ema=ema), tmp_path / 'a.pth')
    report = fit(model, read(str(tmp_path / 'a.pth')))
    assert same(model.state_dict(), weights) and not report.missing


@pytest.mark.parametrize('names', [('encoder_q', 'encoder_k'),
                                   ('base_encoder', 'momentum_encoder')])
@pytest.mark.parametrize('turned', [False, True])
def test_of_two_encoders_the_trained_one_begins_a_backbone(tmp_path, names, turned):
    weights = drawn(Stage)
    parts = [under(f'module.{names[0]}.', weights), under(f'module.{names[1]}.', changed(weights))]
    first, second = parts[::-1] if turned else parts
    torch.save(
        dict(state_dict={
            **first,
            **second, 'module.queue': torch.zeros(8, 8)
        }), tmp_path / 'a.pth')
    stage = Stage(dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth')))
    stage.init_weights(load=pretrained_loader(InputFormat()))
    assert same(stage.state_dict(), weights)


def test_the_prefix_is_that_of_most_names():
    own = drawn(Stage)
    given = {
        **under('a.', own),
        **under('b.c.', dict(list(own.items())[:3])), 'head.weight': torch.ones(3)
    }
    assert common_prefix(given, own) == 'a.' and common_prefix({'x.y': torch.ones(1)}, own) is None


@pytest.mark.parametrize('given, words', [
    (lambda own: {n: (v * 20).to(torch.int8) for n, v in own.items()},
     'conv1.weight is of torch.int8, the model has torch.float32'),
    (lambda own: {'fc.weight': torch.ones(2, 2)}, 'holds 0 of the 18 weights of this Stage: it belongs to another'),
])  # yapf: disable
def test_weights_of_another_kind_by_init_cfg_are_one_message(tmp_path, given, words):
    torch.save(given(drawn(Stage)), tmp_path / 'a.pth')
    stage = Stage(dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth')))
    with pytest.raises(CheckpointError) as error:
        stage.init_weights(load=pretrained_loader(InputFormat()))
    assert words in str(error.value)


def test_a_prefix_that_is_not_there_is_answered_with_the_one_that_is(tmp_path):
    torch.save(under('encoder.', drawn(Stage)), tmp_path / 'a.pth')
    stage = Stage(dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), prefix='backbone'))
    with pytest.raises(CheckpointError, match="under prefix='backbone.'.*write prefix='encoder.'"):
        stage.init_weights(load=pretrained_loader(InputFormat()))


# ------------------------------------------------------------------------------------- whole modules


class Odd(nn.Module):
    """A module with all that modules hold beside weights."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.act = functools.partial(nn.functional.relu, inplace=True)
        self.function = nn.functional.gelu
        self.list = nn.ModuleList([nn.Linear(2, 2), nn.ReLU()])
        self.dict = nn.ModuleDict(dict(x=nn.BatchNorm2d(3)))
        self.parameters_of_mine = nn.ParameterList([nn.Parameter(torch.ones(2))])
        self.register_buffer('passing', torch.ones(2), persistent=False)
        self.register_buffer('staying', torch.arange(2))
        self.dtype, self.names = torch.float16, {'a', 'b'}


@pytest.mark.parametrize('legacy', [False, True])
@pytest.mark.parametrize('wrap', [
    lambda m: m, lambda m: dict(model=m, epoch=1), lambda m: nn.DataParallel(m),
    lambda m: dict(model=m, optimizer=torch.optim.SGD(m.parameters(), 1.))
])
def test_a_whole_module_is_read_without_building_it(tmp_path, wrap, legacy):
    torch.manual_seed(0)
    module = Odd()
    torch.save(wrap(module), tmp_path / 'a.pth', _use_new_zipfile_serialization=not legacy)
    checkpoint = read(str(tmp_path / 'a.pth'))
    assert same(checkpoint.state_dict, module.state_dict())
    assert 'weights taken from a whole module' in ' '.join(checkpoint.origin.changes)
    if not legacy:
        assert same(read(str(tmp_path / 'a.pth'), trust=True).state_dict, module.state_dict())


# -------------------------------------------------------------------------------- shards, other files


def safetensors(weights):
    index, numbers = {}, b''
    for name, value in weights.items():
        raw = value.contiguous().numpy().tobytes()
        kind = {torch.float32: 'F32', torch.int64: 'I64'}[value.dtype]
        index[name] = dict(
            dtype=kind,
            shape=list(value.shape),
            data_offsets=[len(numbers), len(numbers) + len(raw)])
        numbers += raw
    header = json.dumps(index).encode()
    header += b' ' * (-len(header) % 8)
    return struct.pack('<Q', len(header)) + header + numbers


def write_shards(folder, weights):
    names = [f'model-0000{i + 1}-of-00003.safetensors' for i in range(3)]
    items = list(weights.items())
    for i, name in enumerate(names):
        (folder / name).write_bytes(safetensors(dict(items[i::3])))
    indices = {name: names[position % 3] for position, (name, _) in enumerate(items)}
    index = folder / 'model.safetensors.index.json'
    index.write_text(json.dumps(dict(metadata=dict(total_size=1), weight_map=indices)))
    return index, [folder / name for name in names]


def test_shards_are_read_as_one(tmp_path):
    weights = drawn()
    index, shards = write_shards(tmp_path, weights)
    for source in (str(index), str(shards[1]), [str(shard) for shard in shards]):
        assert same(read(source).state_dict, weights)
    shards[2].unlink()
    for source in (index, shards[0]):
        with pytest.raises(
                CheckpointError, match='not all of them lie beside it: put model-00003-of-00003'):
            read(str(source))


@pytest.mark.parametrize(
    'index', ['{"weight_map": {"a": "../a.pth"}}', '{"weight_map": []}', '{"weight_map"'])
def test_a_list_of_shards_stays_in_its_folder(tmp_path, index):
    (tmp_path / 'a.json').write_text(index)
    with pytest.raises(CheckpointError, match='names no files beside it|is broken'):
        read(str(tmp_path / 'a.json'))


def npz():
    stream = io.BytesIO()
    np.savez(stream, w=np.ones(3))
    return stream.getvalue()


def zipped(*names):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, 'w') as archive:
        for name in names:
            archive.writestr(name, 'x')
    return stream.getvalue()


@pytest.mark.parametrize('content, words', [
    (b'\x08\x09\x12\x07pytorch\x1a\x062.14.1:\xbe\x02', 'is a model of ONNX'),
    (b'\x20\x00\x00\x00TFL3\x14\x00\x20\x00', 'is a model of TFLite'),
    (npz(), 'npz_to_pth.py'),
    (zipped('m/archive_format', 'm/models/model.json'), r'torch.export.load\(path\).state_dict'),
    (zipped('best/epoch_3.pth', 'readme.txt'), 'holds best/epoch_3.pth: unpack it'),
    (b'<?xml version="1.0"?>\n<net name="Model0" version="11">', 'is a network of OpenVINO'),
    (b'GGUF\x03\x00\x00\x00', 'is a GGUF file'),
    (b'\xff\xd8\xff\xe0JFIF', 'is an image, expected a checkpoint'),
    (b'\x00\x90\x00\x00\x00\x00\x00\x00{"conv1.weight": {"dtype"', 'its index of safetensors takes 36864 bytes'),
])  # yapf: disable
def test_files_of_other_programs_are_named(tmp_path, content, words):
    (tmp_path / 'a.pth').write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read(str(tmp_path / 'a.pth'))


def test_a_folder_is_answered_with_a_file_in_it(tmp_path):
    (tmp_path / 'run').mkdir()
    for name in ('epoch_1.pth', 'latest.pth'):
        (tmp_path / 'run' / name).write_bytes(b'x')
    with pytest.raises(
            CheckpointError, match='is a folder; name a file in it, such as .*run/latest.pth'):
        read(str(tmp_path / 'run'))
    (tmp_path / 'run/.metadata').write_bytes(b'x')
    with pytest.raises(CheckpointError, match='dcp_to_torch .*run weights.pth'):
        read(str(tmp_path / 'run'))


@pytest.mark.parametrize('depth', [3, 4, 7])
def test_weights_are_found_however_deep_they_lie(tmp_path, depth):
    content = dict(state_dict=Model().state_dict())
    for name in 'abcdefg'[:depth]:
        content = {name: content, 'epoch': 1}
    torch.save(content, tmp_path / 'deep.pth')
    found = read(str(tmp_path / 'deep.pth'))
    assert set(found.state_dict) == set(Model().state_dict())
    assert found.origin.changes[0].endswith(".a.state_dict'")
