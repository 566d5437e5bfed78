"""`mmdet-ft` and `python -m mmdet_ft`: every tool under one roof."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmdet_ft import __version__, command_names
from mmdet_ft.command_names import COMMANDS
from mmdet_ft.commands import main, parsing

ROOT = Path(__file__).resolve().parents[2]
OF_THE_MAKERS = ('benchmarks', 'sample')
NAMES = [command.name for command in COMMANDS]


def typed(monkeypatch, capsys, *words, program='/usr/bin/mmdet-ft'):
    """The exit code, and what was printed on both streams."""
    monkeypatch.setattr(sys, 'argv', [program, *words])
    code = 0
    try:
        main.main()
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return code, out + err


def test_every_script_is_a_command_and_every_command_has_its_files():
    scripts = {
        str(path.relative_to(ROOT / 'tools'))
        for path in (ROOT / 'tools').rglob('*.py')
        if not any(part in OF_THE_MAKERS for part in path.parts)
    }
    assert {command.tool for command in COMMANDS if command.tool} == scripts
    for command in COMMANDS:
        for module in (f'arguments.{command.module}', command.body or command.module):
            assert (ROOT / 'mmdet_ft/commands' / f'{module.replace(".", "/")}.py').is_file()
        if command.tool:  # the script runs that command
            assert f"run_tool('{command.name}')" in (ROOT / 'tools' / command.tool).read_text()


@pytest.mark.parametrize('name', [*NAMES, ''])
def test_help_fits_a_screen(name, monkeypatch, capsys):
    monkeypatch.setenv('COLUMNS', '120')
    code, text = typed(monkeypatch, capsys, *name.split(), '--help')
    lines = text.rstrip().splitlines()
    assert code == 0 and lines[0].startswith('usage: mmdet-ft')
    assert len(lines) <= 45 and max(map(len, lines)) <= 120, (len(lines), max(lines, key=len))


def test_all_arguments_are_read_without_torch():
    code = ('import sys\nsys.modules["torch"] = sys.modules["mmcv"] = None\n'
            'from mmdet_ft import command_names\nfrom mmdet_ft.commands import main, parsing\n'
            'for command in command_names.COMMANDS: parsing.build_parser(command, "x")\n'
            'print(len(main.help_text("x")))')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and int(done.stdout) > 1000, done.stderr


def test_a_summary_is_one_short_line():
    for command in COMMANDS:
        assert 20 < len(parsing.summary_of(command)) <= 80, command.name


@pytest.mark.parametrize('words, message', [
    ([], 'which command? mmdet-ft --help lists them'),
    (['trian'], "there is no command 'trian'; did you mean 'train'?"),
    (['browse-datasets'], "did you mean 'browse_dataset'?"),
    (['xyz'], 'mmdet-ft --help lists them'),
    (['convert', 'vco'], "there is no convert 'vco'; did you mean 'voc'?"),
    (['convert', 'xyz'], 'there are cityscapes, '),
    (['train'], 'mmdet-ft train: error: name a config, or a folder with --data'),
    (['train', 'nowhere.py'], 'error: no config nowhere.py'),
])
def test_a_mistake_ends_with_exit_code_2_and_what_to_write(words, message, monkeypatch, capsys):
    code, text = typed(monkeypatch, capsys, *words)
    assert code == 2 and message in text, text


def test_names_of_v2_and_hyphens_are_understood():
    for words, name in ((['check_data', 'a.py'], 'check'), (['print-config'], 'config'),
                        (['get-flops'], 'get_flops'), (['convert', 'masks_to_coco'],
                                                       'convert masks'), (['test'], 'test')):
        command, number = command_names.find_command(words)
        assert (command.name, number) == (name, len(name.split()))
    assert command_names.find_command(['convert']) is None


def test_version_and_module_are_the_same_program(tmp_path):
    done = subprocess.run([sys.executable, '-m', 'mmdet_ft', '--version'],
                          cwd=tmp_path,
                          env=dict(os.environ, PYTHONPATH=str(ROOT)),
                          capture_output=True,
                          text=True)
    assert done.stdout == f'mmdet-ft {__version__}\n', done.stderr


@pytest.mark.parametrize('argv, check, masks', [
    (['tools/train.py', 'a.py'
      ], 'python tools/misc/check_data.py', 'python tools/dataset_converters/masks_to_coco.py'),
    (['/home/me/my tools/tools/misc/check_data.py', 'a.py'
      ], "python '/home/me/my tools/tools/misc/check_data.py'",
     "python '/home/me/my tools/tools/dataset_converters/masks_to_coco.py'"),
    (['mine.py'
      ], 'python tools/misc/check_data.py', 'python tools/dataset_converters/masks_to_coco.py'),
    (['/usr/bin/mmdet-ft', 'train', 'a.py'], 'mmdet-ft check', 'mmdet-ft convert masks'),
    (['/lib/mmdet_ft/__main__.py', 'train', 'a.py'
      ], 'python -m mmdet_ft check', 'python -m mmdet_ft convert masks'),
])
def test_advice_names_commands_as_the_user_types_them(argv, check, masks, monkeypatch):
    monkeypatch.setattr(sys, 'argv', argv)
    assert command_names.how_to_run('check') == check
    assert command_names.how_to_run('convert masks') == masks


def test_without_scripts_beside_the_package_advice_names_the_installed_command(monkeypatch):
    monkeypatch.setattr(command_names, 'TOOLS', '/nowhere')
    monkeypatch.setattr(sys, 'argv', ['notebook.py'])
    assert command_names.how_to_run('check') == 'mmdet-ft check'


# ------------------------------------------------------------------------------ list


def test_list_shows_each_kind_and_how_many_there_are(monkeypatch, capsys):
    code, text = typed(monkeypatch, capsys, 'list')
    counts = dict(line.split()[:2] for line in text.splitlines() if line.startswith('  '))
    assert code == 0 and {'configs', 'detectors', 'backbones', 'losses', 'datasets', 'hooks'
                          } < set(counts)
    assert int(counts['commands']) == len(COMMANDS) and int(counts['configs']) > 250
    assert len(text.splitlines()) <= 45


@pytest.mark.parametrize('words, there, absent', [
    (['backbones'], ['ResNet ', 'HRNet'], ['FPN']),
    (['heads'], ['dense_heads (', 'roi_heads (', 'LinearClsHead'], ['backbones (']),
    (['models', 'R?N'], ['RPN '], ['FCOS']),
    (['transforms', 'flip'], ['RandomFlip'], ['Resize ']),
    (['configs', 'RETINANET', '1x'], ['retinanet/retinanet_r50_fpn_1x_coco.py'], ['_2x_', 'fcos/']),
    (['*fpn'], ['necks (', 'PAFPN', 'HRFPN'], ['retinanet']),
    (['commands'], ['convert voc', 'train'], ['ResNet']),
    (['optimizers', 'adam'], ['AdamW'], ['SGD']),
    (['lr_policies'], ['step', 'cosine'], ['ResNet']),
])  # yapf: disable
def test_list_shows_names_with_a_line_each(words, there, absent, monkeypatch, capsys):
    code, text = typed(monkeypatch, capsys, 'list', *words)
    assert code == 0
    assert all(word in text for word in there), text
    assert not any(word in text for word in absent), text


def test_every_listed_type_has_a_sentence():
    from mmdet_ft.commands.list_names import of_types
    without = [name.name for names in of_types().values() for name in names if not name.sentence]
    assert not without


def test_a_type_of_the_users_own_is_listed(monkeypatch, capsys):
    from mmdet_ft.registry import MODELS
    name = 'NeckOfATest'

    @MODELS.register_module(name)
    class Neck:
        """Nothing."""

    try:
        _, text = typed(monkeypatch, capsys, 'list', name.lower())
        assert text == f'your_own (1)\n  {name}  Nothing.\n'
    finally:
        del MODELS.module_dict[name]


def test_a_misspelt_name_in_list_is_answered_with_the_nearest(monkeypatch, capsys):
    code, text = typed(monkeypatch, capsys, 'list', 'bakbones')
    assert code == 2 and "did you mean 'backbones'" in text


def test_a_reader_that_stops_early_ends_the_command_quietly():
    command = f'{sys.executable} -m mmdet_ft list configs | head -n 1; echo ${{PIPESTATUS[0]}}'
    done = subprocess.run(['bash', '-c', command], cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and lines[1] in ('0', '141') and not done.stderr, done.stderr


# ------------------------------------------------------------------------------ config


def test_config_prints_every_value_with_its_origin(tmp_path, monkeypatch, capsys):
    (tmp_path / 'a.py').write_text("_base_ = 'mmdet_ft::retinanet/retinanet_r50_fpn_1x_coco'\n"
                                   "model = dict(backbone=dict(depth=18))\nempty = []\n")
    monkeypatch.chdir(tmp_path)
    code, text = typed(monkeypatch, capsys, 'config', 'a.py', '--origins', '--cfg-options',
                       'optimizer.lr=.5')
    rows = dict(line.split(' = ', 1) for line in text.splitlines())
    assert code == 0
    assert rows['model.backbone.depth'].split() == ['18', 'a.py:2']
    assert rows['optimizer.lr'].endswith('--cfg-options optimizer.lr')
    assert rows['empty'].split() == ['[]', 'a.py:3']
    value, where = rows['data.train.pipeline.2.img_scale'].rsplit(None, 1)
    assert value.rstrip() == '(1333, 800)' and where.endswith('coco_detection.py:8')


def test_config_needs_no_torch(tmp_path):
    code = ('import sys\nsys.modules["torch"] = None\nsys.argv = ["mmdet-ft", "config", '
            '"mmdet_ft::retinanet/retinanet_r50_fpn_1x_coco"]\n'
            'from mmdet_ft.commands.main import main\nmain()')
    done = subprocess.run([sys.executable, '-c', code],
                          cwd=tmp_path,
                          env=dict(os.environ, PYTHONPATH=str(ROOT)),
                          capture_output=True,
                          text=True)
    assert done.returncode == 0 and "type='RetinaNet'" in done.stdout, done.stderr
