"""Slim models with the config that a file needs, and exports of modules alone."""
import io

import numpy as np
import onnxruntime
import torch

from mmdet_ft.config.config import Config
from mmdet_ft.deploy.export.writing import ExportSettings, export, read_input_format
from mmdet_ft.registry import MODELS
from tests.models.tiny import tiny_config

NORM = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
DETECTOR_PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(
        type='MultiScaleFlipAug',
        img_scale=(128, 96),
        flip=False,
        transforms=[
            dict(type='Resize', keep_ratio=True),
            dict(type='RandomFlip'),
            dict(type='Normalize', **NORM),
            dict(type='Pad', size_divisor=32),
            dict(type='ImageToTensor', keys=['img']),
            dict(type='Collect', keys=['img']),
        ])
]
CLASSIFIER_PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', size=(40, -1)),
    dict(type='CenterCrop', crop_size=32),
    dict(type='Normalize', **NORM),
    dict(type='ImageToTensor', keys=['img']),
    dict(type='Collect', keys=['img']),
]


def run_module(module, inputs, dynamic=(), opset=17):
    """Export a module of tensors and return what ONNX Runtime gives for the same inputs."""
    return session_of(module, inputs, dynamic, opset)(*inputs)


def session_of(module, inputs, dynamic=(), opset=17):
    """Export a module; return a function of tensors that runs it. `dynamic`: the dimensions of any size, by input."""
    content = io.BytesIO()
    names = [f'input{i}' for i in range(len(inputs))]
    axes = {
        name: {
            axis: f'{name}_{axis}'
            for axis in of_one
        }
        for name, of_one in zip(names, dynamic)
    }
    torch.onnx.export(
        module.eval(),
        tuple(inputs),
        content,
        input_names=names,
        dynamic_axes=axes,
        opset_version=opset,
        dynamo=False)
    session = onnxruntime.InferenceSession(content.getvalue(), providers=['CPUExecutionProvider'])

    def run(*values):
        feed = dict(zip(names, [value.numpy() for value in values]))
        outputs = session.run(None, {one.name: feed[one.name] for one in session.get_inputs()})
        return [torch.from_numpy(output) for output in outputs]

    return run


class Calls(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def with_config(model, pipeline, classes):
    model.CLASSES, model.PALETTE = classes, None
    kind = 'CocoDataset' if pipeline is DETECTOR_PIPELINE else 'CustomDataset'
    model.cfg = Config(dict(data=dict(test=dict(type=kind, pipeline=pipeline))))
    return model.eval()


def detector(with_mask=True, **changes):
    """Build a slim detector whose scores are far apart; `changes` are of its config's sections."""
    torch.manual_seed(0)
    config = tiny_config(with_mask)
    for section, values in changes.items():
        config[section].update(values)
    model = MODELS.build(config)
    model.init_weights()
    with torch.no_grad():
        model.roi_head.bbox_head.fc_cls.weight.mul_(30)
        model.rpn_head.rpn_cls.weight.mul_(10)
    return with_config(model, DETECTOR_PIPELINE, ('a', 'b', 'c'))


def classifier(backbone, channels):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=backbone,
            neck=dict(type='GlobalAveragePooling'),
            head=dict(type='LinearClsHead', num_classes=5, in_channels=channels)))
    return with_config(model, CLASSIFIER_PIPELINE, tuple('abcde'))


def images(*sizes, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def write(model, path, **settings):
    settings = ExportSettings(**{'shape': (70, 90), **settings})
    path = str(path)
    export(model, path, read_input_format(model, model.cfg.data.test.pipeline, settings), settings)
    return path
