"""Layers of a config: the values of each file, the environment and the command line, in order."""
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import yaml

from mmdet_ft.config.config_dict import DELETE_KEY
from mmdet_ft.config.errors import display_path
from mmdet_ft.config.lines import read_source

OPTIONS_LABEL = '--cfg-options'
DATA_ROOT_VARIABLE = 'MMDET_DATASETS'


class Layer(NamedTuple):
    """Values that one file, the command line or the environment sets over the previous layers."""
    values: Dict[str, Any]  # as written, `_delete_` included; never modified
    path: Optional[str] = None  # absolute path of a file; None otherwise
    source: str = ''
    label: str = ''  # shown instead of a file: '--cfg-options'
    moved: Optional[Tuple[str, str]] = None  # (old path, new path): a migration moved a value
    bases: Tuple[str, ...] = ()  # absolute paths of the file's bases

    def where(self, steps: Tuple[str, ...]) -> str:
        """Return the `path:line` of the key that sets a value, or the label."""
        if self.path is None:
            return f'{self.label} {".".join(steps)}' if self.label == OPTIONS_LABEL else self.label
        line = None
        try:
            line = read_source(self.source, self.path.endswith('.py')).line_of(steps)
        except (SyntaxError,
                yaml.YAMLError):  # loaded before, so this is syntax that the parser does not cover
            pass
        return f'{display_path(self.path)}:{line}' if line else display_path(self.path)

    def describe_change(self, steps: Tuple[str, ...]) -> Tuple[str, Any]:
        """Return what this layer does to a value.

        ('sets', value), ('drops', None) if it replaces a parent by one without it, or ('', None).
        """
        node, whole = self.values, False
        for step in steps:
            if isinstance(node, dict):
                whole = whole or bool(node.get(DELETE_KEY, False))
                if step not in node:
                    return ('drops', None) if whole else ('', None)
                node = node[step]
            elif isinstance(node, (list, tuple)) and step.isdigit() and int(step) < len(node):
                node, whole = node[int(step)], True
            else:
                return 'drops', None
        return 'sets', node


class Setting(NamedTuple):
    """One entry of a value's history."""
    where: str  # 'configs/a.py:12', '--cfg-options model.depth', 'MMDET_DATASETS'
    value: Any  # as written there; of a dict only the keys written there
    is_dropped: bool = False  # replaced together with an enclosing value
    file: Optional[str] = None  # absolute path


def trace(steps: Tuple[str, ...], layers: Sequence[Layer]) -> List[Setting]:
    settings: List[Setting] = []
    for index, layer in enumerate(layers):
        if layer.moved is not None:
            old, new = (tuple(path.split('.')) for path in layer.moved)
            if steps[:len(new)] == new:
                settings += trace(old + steps[len(new):], layers[:index])
            continue
        verb, value = layer.describe_change(steps)
        if verb == 'sets' and not (layer.label == DATA_ROOT_VARIABLE and settings
                                   and settings[-1].value == value):
            settings.append(Setting(layer.where(steps), value, file=layer.path))
        elif verb == 'drops' and settings and not settings[-1].is_dropped:
            known = steps
            while layer.describe_change(
                    known)[0] != 'sets':  # the replacement of an enclosing value
                known = known[:-1]
            settings.append(Setting(layer.where(known), None, is_dropped=True, file=layer.path))
    return settings
