"""Check of the whole config against signatures, before anything is built or read.

Every mistake is reported with its line and the nearest valid name.

    prepare(config)           called by the commands: custom_imports, older spellings, then
      check(config)           raises CheckError, or returns warnings
        objects               values that cannot be written (in `prepare`)
        names                 top-level names
        sections              model, data, optimizer, ...: one function for each
          walk                dict(type=..., ...) and nested dicts against the constructor of the class
        kinds                 value types of a dict, by the annotations of its signature
        settings              settings with a range or without a signature: one table
        paths                 paths and names of classes that are not strings
        lengths               lists with one item per stage
        classes               heads against the classes of datasets
        levels                neck and heads against the channels and levels of their inputs
        building              the model built, and its losses, without values
        pipelines             the order of transforms
"""
import os
import traceback
from typing import Iterator, List, Optional, Tuple

from mmdet_ft.config.config import Config
from mmdet_ft.config.config_dict import DELETE_KEY
from mmdet_ft.config.custom_imports import import_custom_modules
from mmdet_ft.config.errors import display_path
from mmdet_ft.engine.config_check.building import check_building
from mmdet_ft.engine.config_check.classes import check_classes, check_counts
from mmdet_ft.engine.config_check.feature_levels import check_levels
from mmdet_ft.engine.config_check.lengths import check_lengths
from mmdet_ft.engine.config_check.literals import as_values
from mmdet_ft.engine.config_check.mistakes import Findings, Mistake, refusal
from mmdet_ft.engine.config_check.paths import check_paths
from mmdet_ft.engine.config_check.pipelines import check_pipelines
from mmdet_ft.engine.config_check.run_settings import check_numbers, check_settings
from mmdet_ft.engine.config_check.schema import names_of
from mmdet_ft.engine.config_check.sections import SECTIONS, check_metrics, check_training_settings
from mmdet_ft.engine.config_check.top_level import check_names, drop_variables
from mmdet_ft.engine.config_check.traverse import Walk
from mmdet_ft.engine.errors import PACKAGE
from mmdet_ft.engine.legacy import old_configs, user_code
from mmdet_ft.registry import RegistryError


def prepare(config: Config, for_training: bool = True) -> Tuple[Config, List[str]]:
    """Return the config as the engine reads it, and one-sentence notes for the log.

    Imports `custom_imports`, rewrites older spellings and checks everything; builds and reads nothing.

    Raises CheckError with all mistakes: path, value, file, line and the nearest valid name of each.
    """
    imports = Findings(config)
    imports.keys(
        names_of('imports', 'allow_failed_imports'), config.get('custom_imports'), 'custom_imports')
    if imports.mistakes:
        raise refusal(config, imports.mistakes)
    import_user_code(config)
    config, notes = old_configs.modernize(as_values(config))
    notes += check(config, for_training)
    drop_variables(config)
    return config, notes


def prepare_model(config: Config) -> Tuple[Config, List[str]]:
    """Run `prepare` for a caller that only builds the model, such as from a checkpoint of V2.

    The other sections are not checked: their types may not be registered here.

    Raises CheckError as `prepare` does, for mistakes in the model.
    """
    import_user_code(config)
    if not isinstance(config.get('model'), dict):
        raise refusal(config, [Mistake('model', 'the config has no model', config.filename)])
    config, notes = old_configs.modernize(config)
    walk = Walk(config)
    SECTIONS['model'](walk, config.model, 'model')
    if walk.mistakes:
        raise refusal(config, walk.mistakes)
    return config, notes


def import_user_code(config: Config) -> None:
    """Import `custom_imports`; raises CheckError that lists the failed imports of all files, or the
    replacements for names of V2."""
    custom = config.get('custom_imports')
    names = custom.get('imports') if isinstance(custom, dict) else None
    if isinstance(names, str) and not names.strip().startswith(('[', '(')):
        names = [names]
    mistakes: List[Mistake] = []
    modules = []
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        names = [names]  # not a list of names, which the import reports
    for name in names:
        alone = config if len(names) == 1 else {'custom_imports': dict(custom, imports=[name])}
        try:
            modules += import_custom_modules(alone)
        except Exception as error:  # an installed mmdet refuses today's mmcv by an assertion
            text = user_code.explain_failed_import(error)
            if text is not None:
                mistakes.append(_of_user_code(text))
            elif isinstance(error, RegistryError):
                mistakes.append(_of_user_code(f'{_innermost_line(error)}{error}'))
            elif isinstance(error, ImportError):
                mistakes.append(_of_user_code(str(error), config.where('custom_imports')))
            elif isinstance(error, SyntaxError):
                mistakes.append(
                    _of_user_code(
                        f'{display_path(str(error.filename))}:{error.lineno}: {error.msg}'))
            else:
                raise
    text = user_code.explain_modules(modules)
    if text is not None:
        mistakes.append(_of_user_code(text))
    if mistakes:
        raise refusal(config, mistakes)


def _innermost_line(error: BaseException) -> str:
    """Return 'file.py:3: ' for the user's line that led to an error of the registry."""
    own = [
        frame for frame in traceback.extract_tb(error.__traceback__)
        if os.path.isfile(frame.filename) and not frame.filename.startswith(PACKAGE)
    ]
    return f'{display_path(own[-1].filename)}:{own[-1].lineno}: ' if own else ''


def _of_user_code(text: str, where: Optional[str] = None) -> Mistake:
    return Mistake('custom_imports', text, where, is_sentence=True)


def check(config: Config, for_training: bool = True) -> List[str]:
    """Return warnings about a config in the current spelling; raises CheckError as `prepare` does."""
    walk = Walk(config)
    check_names(walk)
    for name, section in SECTIONS.items():
        if config.get(name) is not None:
            section(walk, config[name], name)
    _check_deletes(walk)
    if not walk.mistakes:
        needed = ('model', 'data', 'optimizer', 'runner') if for_training else ('model', 'data')
        for name in needed:
            if config.get(name) is None:
                walk.mistakes.append(Mistake(name, f'the config has no {name}', config.filename))
    check_settings(walk)
    check_numbers(walk)
    check_paths(walk)
    wrong = {mistake.path.partition('.')[0] for mistake in walk.mistakes}
    wrong |= {section for section in ('model', 'data') if section not in config}
    if not wrong and for_training:  # a test takes these from the checkpoint
        check_training_settings(walk)
        check_metrics(walk)
        check_classes(walk)
    if not wrong & {'model', 'custom_imports'}:
        check_counts(walk)
        check_lengths(walk)
        check_building(walk, check_levels(walk))
    if not wrong & {'model', 'custom_imports', 'data'}:
        check_pipelines(walk)
    if walk.mistakes:
        raise refusal(config, walk.mistakes)
    return walk.warnings


def _check_deletes(found: Findings) -> None:
    """Note each `_delete_` that remains because merging had nothing to replace."""
    text = {mistake.path for mistake in found.mistakes}
    for path in _paths_of(DELETE_KEY, found.config._cfg_dict):
        if path not in text:
            found.report_needless_delete(path)


def _paths_of(key: str, value: object, path: str = '') -> Iterator[str]:
    """Yield the dotted paths of dicts that hold a key."""
    if isinstance(value, dict):
        if key in value:
            yield f'{path}.{key}' if path else key
        for name, item in value.items():
            if isinstance(item, (dict, list, tuple)):
                yield from _paths_of(key, item, f'{path}.{name}' if path else str(name))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            if isinstance(item, (dict, list, tuple)):
                yield from _paths_of(key, item, f'{path}.{index}')
