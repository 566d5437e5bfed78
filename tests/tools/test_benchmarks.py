"""The benchmarks run: small, and with their tables read back."""
import argparse
import sys

import pytest

from tools.benchmarks import end_to_end, gpu, train_step
from tools.benchmarks.peers.work import Setting, read_setting


def rows_of(text):
    """{first cell: other cells} of the Markdown tables in a text."""
    cells = [[cell.strip() for cell in line.strip().strip('|').split('|')]
             for line in text.splitlines() if line.startswith('|')]
    return {row[0]: row[1:] for row in cells}


def run(tool, monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, 'argv', [tool.__name__, '--device', 'cpu', *map(str, arguments)])
    tool.main()
    return capsys.readouterr().out


def test_a_step_is_measured_beside_torchvision_and_the_missing_are_named(
        monkeypatch, capsys, tmp_path):
    report = tmp_path / 'report.md'
    monkeypatch.setitem(sys.modules, 'detectron2', None)  # as where it is not installed
    # The Triton kernels are for a GPU: a variant that cannot be had here costs no other its place.
    text = run(train_step, monkeypatch, capsys, '--size', 64, 64, '--batch', 1, '--positives', 12,
               '--warmup', 0, '--steps', 1, '--clock', 'cpu', '--gate', 2, '--peers', 'torchvision',
               'detectron2', '--variants', 'plain', 'triton', '--out', report)
    rows = rows_of(text)
    assert set(rows) >= {'torchvision', 'mmdet_ft', 'another seed'}
    # Both heads saw the boxes that were added, of which a few may be no match.
    assert 7 <= float(rows['torchvision'][4]) <= 40 and 7 <= float(rows['mmdet_ft'][4]) <= 40
    assert rows['torchvision'][2] == '1.000' and int(rows['mmdet_ft'][5]) <= 2
    assert 0 < float(rows['another seed'][-1].split()[0]) < 1
    assert 'left out: detectron2: ' in text
    assert 'left out: mmdet_ft+triton: RuntimeError: triton is left off: the model is on cpu' in text
    assert rows_of(report.read_text()) == rows


def test_training_and_detection_from_files_are_measured(monkeypatch, capsys):
    text = run(end_to_end, monkeypatch, capsys, '--images', 2, '--rounds', 1, '--steps', 1,
               '--warmup', 0, '--workers', 0, '--scale', 64, 48, '--batch', 1)
    rows = rows_of(text)
    assert float(rows['mmdet_ft, training'][0]) > 0
    assert rows['mmdet_ft, detection'][3] == rows['torchvision, detection'][3] == '100'


def test_settings_are_words_and_unknown_ones_are_refused():
    assert read_setting('plain', 'float32') == Setting()
    assert read_setting('graphs+float16', 'bfloat16') == Setting('float16', cuda_graphs=True)
    assert read_setting('reduce_overhead', 'bfloat16') == Setting(
        'bfloat16', compile=dict(mode='reduce-overhead'))
    with pytest.raises(argparse.ArgumentTypeError, match="'fast': known are plain, channels_last"):
        read_setting('compile+fast', 'float32')


def test_floating_point_operations_are_those_of_the_layers():
    """One image of 800 x 1152 with 64 mask regions: 1.21 TFLOP (counted layer by layer)."""
    assert train_step.flop_of_step(800, 1152, 64) == pytest.approx(1.21e12, rel=.01)


def test_the_suite_for_a_gpu_survives_parts_that_fail_and_hang(tmp_path):
    report = str(tmp_path / 'report.md')
    gpu.run('broken', gpu.Part('-c print(1);raise(ValueError)', 60), report, sys.executable)
    gpu.run('slow', gpu.Part('-c __import__("time").sleep(9)', 1), report, sys.executable)
    gpu.run('sound', gpu.Part('-c print(2)', 60), report, sys.executable)
    with open(report) as file:
        text = file.read()
    assert '**failed with status 1: ValueError**' in text
    assert '**not finished after 1 s**' in text
    assert text.endswith('s)\n\n2\n')


@pytest.mark.parametrize('name', [name for name in gpu.PARTS if 'train_step' in gpu.PARTS[name][0]])
def test_every_part_of_the_suite_for_a_gpu_is_understood(name):
    args = train_step.parse(gpu.PARTS[name].command.split()[1:])
    assert train_step.starts(args)
