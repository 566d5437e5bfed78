"""Checks of top-level names: each is a section, a value that is read, or a variable of an expression."""
import difflib
import re
from typing import Any, Iterator, List, Mapping

from mmdet_ft.config.config import Config
from mmdet_ft.config.config_dict import DELETE_KEY
from mmdet_ft.config.errors import ConfigError
from mmdet_ft.config.layers import DATA_ROOT_VARIABLE, OPTIONS_LABEL, Layer
from mmdet_ft.config.lines import read_source
from mmdet_ft.config.load import value_at
from mmdet_ft.config.reading import BASE_KEY
from mmdet_ft.engine.config_check.mistakes import (Findings, listed, locate_num_classes, nearest,
                                                   short)
from mmdet_ft.engine.config_check.sections import SECTIONS
from mmdet_ft.engine.legacy import old_configs

# Plain values that the engine or a command reads.
VALUES = ('work_dir', 'workflow', 'load_from', 'resume_from', 'auto_resume', 'log_level', 'seed',
          'find_unused_parameters', 'cudnn_benchmark', 'channels_last', 'compile', 'cuda_graphs',
          'triton', 'opencv_num_threads', 'mp_start_method', 'custom_imports')
OWN_KEYS = (BASE_KEY, DELETE_KEY)  # any other name that begins with _ is a helper of its file
# V2's commands write or read these; nothing here needs them.
INERT = ('gpu_ids', 'device', 'omp_num_threads', 'mkl_num_threads', 'cfg_name')
ENGINE_NAMES = (*SECTIONS, *VALUES, *INERT)
# Variables of V2's own configs, which a dump of V2 holds beside the sections.
V2_VARIABLES = ('data_root', 'dataset_type', 'img_norm_cfg', 'train_pipeline', 'test_pipeline',
                'val_pipeline', 'load_pipeline', 'train_dataset', 'norm_cfg', 'conv_cfg',
                'head_norm_cfg', 'pad_cfg', 'image_size', 'img_size', 'img_scale', 'input_size',
                'classes', 'CLASSES', 'num_classes', 'file_client_args', 'checkpoint',
                'checkpoint_file', 'albu_train_transforms', 'custom_keys', 'max_epochs',
                'max_iters', 'interval', 'dynamic_intervals')


def check_names(found: Findings) -> None:
    """Check every top-level name, in the order of the config."""
    for name in found.config:
        if name in ENGINE_NAMES or _is_private(name):
            continue
        said = [
            layer for layer in found.config.layers
            if name in layer.values and layer.label != DATA_ROOT_VARIABLE
        ]
        files = [layer for layer in said if layer.path is not None]
        if said and said[-1].label == OPTIONS_LABEL and files:
            _variable_on_the_command_line(found, name, files)
        elif not files or not _is_read(found.config, files[-1], name):
            if any(_is_read(found.config, base, name) for base in files[:-1]):
                _warn_of_override(found, name, files)
            elif not (files and _is_left_in_a_dump(found.config, name)):
                _unknown_name(found, name)


def _is_private(name: str) -> bool:
    """Return whether a name is a helper of its file, and no misspelt key of configs."""
    return name.startswith('_') and all(
        difflib.SequenceMatcher(None, name.lower(), key).ratio() < .8 for key in OWN_KEYS)


def _unknown_name(found: Findings, name: str) -> None:
    known = [*SECTIONS, *VALUES, *old_configs.OLDER_NAMES,
             BASE_KEY]  # never suggested, as nothing reads it
    variables = {key for layer in found.config.layers for key in layer.values} - set(known) - {name}
    near = nearest(name, known, taken=found.config)
    if near is None or _measure_likeness(
            name, near) < .7 and not (len(name) > 2 and near.startswith(name)):
        near = nearest(name, variables)
        near = near if near is not None and _measure_likeness(name, near) > .7 else None
    hint = f'did you mean {near!r}?' if near else 'remove it, or correct its spelling'
    if name == DELETE_KEY:
        hint = f'remove it; {DELETE_KEY}=True belongs inside the dict that inherits nothing'
    locations = locate_num_classes(found.config) if name == 'num_classes' else []
    if locations:
        hint = f'the number of classes is {" and ".join(locations)}'
    found.report(name, f'nothing reads this name (= {short(found.config[name])}); {hint}')


def _measure_likeness(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio()


def _is_read(config: Config, layer: Layer, name: str) -> bool:
    """Return whether an expression reads a variable: in its own file, by {{ _base_.name }} in a
    child, or by ${name}."""
    if name in _source(layer).names_read:
        return True
    braces = re.compile(rf'\$_base_\.{re.escape(name)}\b|\$\{{{re.escape(name)}\b')
    return any(braces.search(other.source) for other in config.layers)


def _source(layer: Layer) -> Any:
    return read_source(layer.source, layer.path.endswith('.py'))


def _copies(config: Config, name: str, layer: Layer) -> List[str]:
    """Return the paths whose value a file took from a variable and that still hold it."""
    roots = [root for root in config if root in ENGINE_NAMES]
    paths = _source(layer).readers(name, roots)
    for heir in config.layers:
        if heir.path is not None and f'$_base_.{name}' in heir.source:
            paths += _source(heir).readers(f'$_base_.{name}', roots)
    return [path for path in paths if _has(config, path)]


def _variable_on_the_command_line(found: Findings, name: str, files: List[Layer]) -> None:
    copies = _copies(found.config, name, files[-1])
    set_in = files[-1].where((name, ))
    if not copies:
        return _unknown_name(found, name)
    value = found.config[name]
    found.report(
        name,
        f'{name} is a variable of {set_in}: expressions have read it before the command line is, so '
        f'{short(value)} would change nothing. Set what holds its value: {listed(copies)}',
        is_sentence=True)


def _warn_of_override(found: Findings, name: str, files: List[Layer]) -> None:
    base = files[-2].where((name, )).rpartition(':')[0]
    copied = _copies(found.config, name, files[-2])
    copies = [
        path for path in copied if (found.config.where(path) or '').rpartition(':')[0] == base
    ]
    if copied and not copies:
        return  # the child overrides every copy of the base
    held = f'; {listed(copies)} keep the value of the base' if copies else ''
    found.warnings.append(
        f'{name} ({files[-1].where((name, ))}) is a variable of the base '
        f'{files[-2].where((name, ))}: values already copied from it do not change{held}')


def _is_left_in_a_dump(config: Config, name: str) -> bool:
    """Return whether a variable belongs to a dumped config, a single file with variables beside their copies."""
    files = [layer for layer in config.layers if layer.path is not None]
    last = [layer for layer in files if name in layer.values][-1]
    # A base may be a dump too. A dump has all sections, while a short base has only its own.
    is_whole = len(files) == 1 or not last.bases and {'model', 'data'} <= set(last.values)
    if not is_whole or _source(last).names_read - {'dict', 'range', 'float', 'globals'}:
        return False
    return _looks_left(last.values, name)


def drop_variables(config: Config) -> None:
    """Remove variables such as `gpus` of `lr=0.02 * gpus / 8`; a dumped config would no longer show
    that they are not misspelt settings."""
    for name in list(config):
        if name not in ENGINE_NAMES and not _is_private(name) and not _looks_left(config, name):
            config.pop(name)


def _looks_left(config: Mapping[str, Any], name: str) -> bool:
    """Return whether a name is one of V2's variables, or a section holds its value."""
    if name in V2_VARIABLES or len(name) < 3:  # i, j, k: left over from a loop
        return True
    near = nearest(name, ENGINE_NAMES) or ''
    alike = difflib.SequenceMatcher(None, name, near).ratio()
    if alike > .9 or len(near) == len(name) + 1 and alike > .75:
        return False
    value = config[name]
    sections = [config[key] for key in config if key in SECTIONS]
    return any(_is_copy(value, item) for item in _all_values(sections))


def _has(config: Config, path: str) -> bool:
    try:
        value_at(config, path)
    except ConfigError:
        return False
    return True


def _all_values(value: object) -> Iterator[Any]:
    yield value
    for item in value.values() if isinstance(
            value, dict) else value if isinstance(value, (list, tuple)) else ():
        yield from _all_values(item)


def _is_copy(value: object, item: object) -> bool:
    """Return whether `item` may have been computed from a variable of this value."""
    if isinstance(value, str) and isinstance(item, str):
        return item == value or len(value) > 1 and item.startswith(value)
    if isinstance(value, dict) and isinstance(item, dict):
        return bool(value) and all(key in item and item[key] == value[key] for key in value)
    return type(value) is type(item) and value == item
