"""Names of the commands: the words after `mmdet-ft`, the script in tools/, and how a user of this process types them.

This is the only list of commands. Modules are named as V2's scripts, in mmdet_ft/commands/arguments/ (what is typed)
and in mmdet_ft/commands/ (what is done).
"""
import os
import shlex
import sys
from typing import List, NamedTuple, Optional, Sequence, Tuple

PROGRAM = 'mmdet-ft'
TOOLS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'tools')


class CommandName(NamedTuple):
    """A command under its names."""
    name: str  # after `mmdet-ft`: 'check', 'convert voc'
    module: str  # of the arguments: 'check_data', 'converters.voc'
    tool: str = ''  # the script, in tools/; '' if there is none
    body: str = ''  # the module that works; '' for the name of that of the arguments

    @property
    def script_name(self) -> str:
        """Return the name of the script without its ending, V2's name of the command."""
        return os.path.splitext(os.path.basename(self.tool))[0]

    @property
    def spellings(self) -> List[List[str]]:
        """Return the words of its names: ['check'] and ['check_data'], ['convert', 'voc']."""
        own = self.name.split()
        return [own, [*own[:-1], self.script_name]] if self.tool else [own]


COMMANDS = (
    CommandName('train', 'train', 'train.py'),
    CommandName('test', 'test', 'test.py'),
    CommandName('predict', 'predict', 'predict.py'),
    CommandName('check', 'check_data', 'misc/check_data.py'),
    CommandName('browse', 'browse_dataset', 'misc/browse_dataset.py'),
    CommandName('export', 'export', body='pytorch2onnx'),
    CommandName('config', 'print_config', 'misc/print_config.py'),
    CommandName('list', 'list_names'),
    CommandName('convert cityscapes', 'converters.cityscapes', 'dataset_converters/cityscapes.py'),
    CommandName('convert coco2cvat', 'converters.coco2cvat', 'dataset_converters/coco2cvat.py'),
    CommandName('convert coco2label_studio', 'converters.coco2label_studio',
                'dataset_converters/coco2label_studio.py'),
    CommandName('convert coco2yolo', 'converters.coco2yolo', 'dataset_converters/coco2yolo.py'),
    CommandName('convert cvat', 'converters.cvat', 'dataset_converters/cvat.py'),
    CommandName('convert images2coco', 'converters.images2coco',
                'dataset_converters/images2coco.py'),
    CommandName('convert kitti', 'converters.kitti', 'dataset_converters/kitti.py'),
    CommandName('convert label_studio', 'converters.label_studio',
                'dataset_converters/label_studio.py'),
    CommandName('convert labelme', 'converters.labelme', 'dataset_converters/labelme.py'),
    CommandName('convert masks', 'converters.masks_to_coco', 'dataset_converters/masks_to_coco.py'),
    CommandName('convert via', 'converters.via', 'dataset_converters/via.py'),
    CommandName('convert voc', 'converters.voc', 'dataset_converters/voc.py'),
    CommandName('convert wider_face', 'converters.wider_face', 'dataset_converters/wider_face.py'),
    CommandName('convert yolo', 'converters.yolo', 'dataset_converters/yolo.py'),
    CommandName('split', 'split_dataset', 'misc/split_dataset.py'),
    CommandName('pytorch2onnx', 'pytorch2onnx', 'deployment/pytorch2onnx.py'),
    CommandName('test_onnx', 'test_onnx', 'deployment/test.py'),
    CommandName('eval_metric', 'eval_metric', 'analysis_tools/eval_metric.py'),
    CommandName('confusion_matrix', 'confusion_matrix', 'analysis_tools/confusion_matrix.py'),
    CommandName('analyze_logs', 'analyze_logs', 'analysis_tools/analyze_logs.py'),
    CommandName('get_flops', 'get_flops', 'analysis_tools/get_flops.py'),
    CommandName('inspect_checkpoint', 'inspect_checkpoint',
                'model_converters/inspect_checkpoint.py'),
    CommandName('publish_model', 'publish_model', 'model_converters/publish_model.py'),
    CommandName('upgrade_model_version', 'upgrade_model_version',
                'model_converters/upgrade_model_version.py'),
    CommandName('npz_to_pth', 'npz_to_pth', 'model_converters/npz_to_pth.py'),
    CommandName('check_configs', 'check_configs', 'misc/check_configs.py'),
    CommandName('check_script', 'check_script', 'misc/check_script.py'),
    CommandName('replay', 'replay', 'misc/replay.py'),
)


class Typed(NamedTuple):
    """A command as it was typed."""
    command: CommandName
    program: List[str]  # ['python', 'tools/train.py'] or ['mmdet-ft', 'train']
    words: List[str]  # its arguments


def named(name: str) -> CommandName:
    """Return the command of a name in COMMANDS."""
    return next(command for command in COMMANDS if command.name == name)


def find_command(words: Sequence[str]) -> Optional[Tuple[CommandName, int]]:
    """Return the command that the words after `mmdet-ft` begin with, and how many words name it.

    V2's names are found too, such as `check_data`, and - is _ in a name.
    """
    plain = [word.replace('-', '_') for word in words[:2]]
    for command in COMMANDS:
        for spelling in command.spellings:
            if plain[:len(spelling)] == spelling:
                return command, len(spelling)
    return None


def command_typed() -> Optional[Typed]:
    """Return the command that this process runs; None for a program of the user's own."""
    program, words = sys.argv[0] if sys.argv else '', sys.argv[1:]
    roof = _roof(program)
    if roof:
        found = find_command(words)
        return found and Typed(found[0], [*roof, *words[:found[1]]], words[found[1]:])
    path = program.replace(os.sep, '/')
    for command in COMMANDS:
        if command.tool and f'/{path}'.endswith(f'/{command.tool}'):
            folder = program[:len(program) - len(command.tool)]
            if os.path.basename(os.path.abspath(folder)) == 'tools':
                return Typed(command, ['python', program], words)
    return None


def _roof(program: str) -> List[str]:
    """Return how the program of all commands was typed; [] if it was another one."""
    name = os.path.basename(program)
    if name in (PROGRAM, f'{PROGRAM}.exe', f'{PROGRAM}-script.py'):
        return [PROGRAM]
    if name == '__main__.py' and os.path.basename(os.path.dirname(program)) == 'mmdet_ft':
        return ['python', '-m', 'mmdet_ft']
    return []


def how_to_run(name: str) -> str:
    """Return how a user of this process types a command: 'mmdet-ft check', 'python tools/misc/check_data.py'.

    In a clone it is the script, unless `mmdet-ft` itself is what runs.
    """
    command = named(name)
    roof = _roof(sys.argv[0] if sys.argv else '')
    if roof or not os.path.isdir(TOOLS):
        return ' '.join([*(roof or [PROGRAM]), command.name])
    if not command.tool:
        return f'python -m mmdet_ft {command.name}'
    typed = command_typed()
    tools = typed.program[1][:-len(typed.command.tool)] if typed else 'tools/'
    return f'python {shlex.quote(tools + command.tool)}'
