"""List what can be named in a config and after a command, a line each."""
import fnmatch
import importlib
import inspect
import os
from argparse import Namespace
from typing import Any, Dict, List, NamedTuple

from mmdet_ft import registry, spelling
from mmdet_ft.command_names import COMMANDS
from mmdet_ft.commands import parsing
from mmdet_ft.config import shipped
from mmdet_ft.errors import UsageError
from mmdet_ft.outputs import print_text

# Registries of one kind each; the kinds of the parts of a model are the modules that define them.
REGISTRIES = {
    'datasets': registry.DATASETS,
    'pipelines': registry.PIPELINES,
    'hooks': registry.HOOKS,
    'runners': registry.RUNNERS,
    'optimizers': registry.OPTIMIZERS,
    'optimizer_constructors': registry.OPTIMIZER_BUILDERS,
    'loader_samplers': registry.SAMPLERS,
}
POLICIES = {'lr_policies': 'POLICIES', 'momentum_policies': 'MOMENTUM_POLICIES'}
SYNONYMS = {'transforms': 'pipelines', 'schedules': 'policies', 'loggers': 'hooks'}


class Name(NamedTuple):
    """A name and a sentence on it."""
    name: str
    sentence: str


Lists = Dict[str, List[Name]]  # kind -> its names, sorted


def main(args: Namespace) -> None:
    words = list(args.words)
    wanted = SYNONYMS.get(words[0], words[0]) if words else ''
    lists = lists_of(wanted)
    if lists:
        words = words[1:]
    elif words:
        lists = every_list()
    else:
        return print_text(overview(every_list()))
    lists = {kind: found for kind, names in lists.items() if (found := matching(names, words))}
    if not lists:
        raise UsageError(f'nothing is called {" ".join(words)!r}{_near(args.words, every_list())}')
    print_text('\n\n'.join(describe(kind, names) for kind, names in lists.items()))


def every_list() -> Lists:
    """Return all names by kind."""
    return {**of_configs(), **of_commands(), **of_types()}


def lists_of(kind: str) -> Lists:
    """Return the names of a kind, such as 'configs', 'backbones', or 'models' for all parts of models; {} for none.

    'heads' are those of dense_heads, roi_heads and heads.
    """
    quick = {'configs': of_configs, 'commands': of_commands}
    if kind in quick:
        return quick[kind]()
    if not kind.isidentifier():
        return {}
    lists = of_types()
    if kind == 'models':
        return {name: names for name, names in lists.items() if name in of_models()}
    return {
        name: names
        for name, names in lists.items() if name == kind or name.endswith(f'_{kind}')
    }


def of_configs() -> Lists:
    """Return the shipped configs that can be run, with the first comment of each."""
    return {'configs': [Name(name, _first_comment(name)) for name in shipped.names()]}


def _first_comment(name: str) -> str:
    with open(os.path.join(shipped.FOLDER, *name.split('/')), encoding='utf-8') as file:
        line = file.readline()
    return line.lstrip('# ').strip() if line.startswith('#') else ''


def of_commands() -> Lists:
    """Return the commands."""
    return {'commands': [Name(command.name, parsing.summary_of(command)) for command in COMMANDS]}


def of_types() -> Lists:
    """Return the registered types, and the policies of learning rates and momenta."""
    lists = of_models()
    for kind, table in REGISTRIES.items():
        lists[kind] = [Name(name, sentence_on(table.get(name))) for name in sorted(table)]
    schedules = importlib.import_module('mmdet_ft.engine.schedules')
    for kind, table in POLICIES.items():
        policies = getattr(schedules, table)
        lists[kind] = [Name(name, sentence_on(policies[name])) for name in sorted(policies)]
    return lists


def of_models() -> Lists:
    """Return the types of parts of models by the modules that define them: backbones, necks, losses ..."""
    lists: Lists = {}
    for name in sorted(registry.MODELS):
        cls = registry.MODELS.get(name)
        package, _, rest = str(getattr(cls, '__module__', '')).partition('.models.')
        kind = rest.partition('.')[0] if package == 'mmdet_ft' else 'your_own'
        lists.setdefault(kind, []).append(Name(name, sentence_on(cls)))
    return dict(sorted(lists.items()))


def sentence_on(item: Any) -> str:
    """Return the first line of a docstring."""
    lines = (inspect.getdoc(item) or '').strip().splitlines()
    return lines[0] if lines else ''


def matching(names: List[Name], words: List[str]) -> List[Name]:
    """Return the names that contain all words, or match those with * or ?."""
    return [name for name in names if all(_matches(name.name, word) for word in words)]


def _matches(name: str, word: str) -> bool:
    name, word = name.lower(), word.lower()
    return fnmatch.fnmatchcase(name, word) if set('*?[') & set(word) else word in name


def describe(kind: str, names: List[Name]) -> str:
    """Return a kind with its names, a line each."""
    title = f'{kind} ({len(names)})'
    if kind == 'configs':
        title += f': `train NAME`, or _base_ = \'mmdet_ft::NAME\'; files in {shipped.FOLDER}'
    return f'{title}\n{parsing.columns([(name.name, name.sentence) for name in names])}'


def overview(lists: Lists) -> str:
    """Return the kinds, how many names each has, and the first ones."""
    rows = [(f'{kind:<22} {len(names):>4}', ', '.join(name.name for name in names[:6]))
            for kind, names in lists.items()]
    return f'{parsing.columns(rows)}\n\nlist KIND shows all of a kind; list PATTERN what is called so'


def _near(words: List[str], lists: Lists) -> str:
    known = [*lists, *SYNONYMS, *(name.name for names in lists.values() for name in names)]
    hint = spelling.did_you_mean(words[0], known, 2)
    return f'; {hint}' if hint else '; `list` without words shows the kinds'
