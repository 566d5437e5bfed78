"""The data.yaml of a YOLO dataset: names of the classes, and where the images of each split are."""
import os.path as osp
import re
from typing import Dict, List, NamedTuple, Optional, Tuple

import yaml

from mmdet_ft.datasets.annotations.image_lists import composed
from mmdet_ft.datasets.annotations.text_files import lines_of
from mmdet_ft.datasets.annotations.values import format_value, read_name, read_whole
from mmdet_ft.datasets.errors import DataError

SPLITS = {'train': ('train', ), 'val': ('val', 'valid', 'validation'), 'test': ('test', )}
NULL = 'tag:yaml.org,2002:null'
MOST_CLASSES = 100000


class DataYaml(NamedTuple):
    """The content of a data.yaml."""
    path: str  # of the file
    names: List[str]  # the class of each number from 0
    splits: Dict[str, List[Tuple[str,
                                 int]]]  # split -> folders or lists as written, and their lines
    root: Optional[str] = None  # `path` of the file
    num_keypoints: int = 0  # numbers of keypoints after each box


def read_data_yaml(path: str) -> DataYaml:
    """Read a data.yaml; DataError names the path and the faulty line.

    Read are `names` (a list, or a dict of number: name), `nc`, `path`, `train`, `val` (or `valid`), `test` and
    `kpt_shape`. Other keys, such as a script to download the data, are never used.
    """
    try:
        with open(path, 'rb') as file:
            text = '\n'.join(lines_of(file.read(), path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f'cannot read {path}: {error.strerror or error}') from error
    return parse_data_yaml(text, path)


def parse_data_yaml(text: str, path: str) -> DataYaml:
    """Read the text of a data.yaml; see `read_data_yaml`."""
    nodes = _top(text, path)
    if 'names' not in nodes:
        raise DataError(f'{path} has no names: add the classes, such as names: [cat, dog]')
    names = _names(nodes['names'], path)
    _check_count(nodes.get('nc'), names, nodes['names'], path)
    splits = {}
    for split, keys in SPLITS.items():
        node = next((nodes[key] for key in keys if key in nodes and nodes[key].tag != NULL), None)
        if node is not None:
            splits[split] = _texts(node, path, split)
    root = nodes.get('path')
    return DataYaml(path, names, splits,
                    None if root is None or root.tag == NULL else _text(root, path, 'path')[0],
                    _keypoints(nodes.get('kpt_shape'), path))


def _top(text: str, path: str) -> Dict[str, yaml.Node]:
    """Return the nodes of the top-level keys; texts are never converted: `no` is a name, not false."""
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, 'problem_mark', None)
        where = f'{path}:{mark.line + 1}' if mark is not None else path
        what = getattr(error, 'problem', None) or str(error).split('\n')[0]
        raise DataError(f'{where}: not a complete yaml file: {what:.200}') from error
    except RecursionError:
        raise DataError(f'{path} cannot be read: its lists or dicts are nested too deep') from None
    if not isinstance(node, yaml.MappingNode):
        raise DataError(f'{path} is not the data.yaml of a YOLO dataset: it has no keys')
    return {str(key.value): value for key, value in node.value}


def _names(node: yaml.Node, path: str) -> List[str]:
    if isinstance(node, yaml.SequenceNode):
        return _distinct([_name(item, path) for item in node.value], node.value, path)
    if not isinstance(node, yaml.MappingNode) or len(node.value) > MOST_CLASSES:
        raise _refuse(node, path, 'names', 'a list of names, or a dict of number: name')
    by_number: Dict[int, Tuple[str, yaml.Node]] = {}
    for key, value in node.value:
        try:
            number = read_whole(key.value, 'the number of a class, from 0', 0, MOST_CLASSES)
        except ValueError as error:
            raise DataError(f'{path}:{_line(key)}: a key of names {error}') from None
        if number in by_number:
            raise DataError(f'{path}:{_line(key)}: names has the number {number} twice')
        by_number[number] = _name(value, path), value
    missing = sorted(set(range(len(by_number))) - set(by_number))
    if missing:
        raise DataError(f'{path}:{_line(node)}: names has {len(by_number)} classes and no number '
                        f'{missing[0]}; number them from 0 without gaps')
    ordered = [by_number[number] for number in range(len(by_number))]
    return _distinct([name for name, _ in ordered], [value for _, value in ordered], path)


def _name(node: yaml.Node, path: str) -> str:
    try:
        return read_name(
            node.value if isinstance(node, yaml.ScalarNode) else None,
            'the name of a class').strip()
    except ValueError:
        raise _refuse(node, path, 'a name', 'the name of a class') from None


def _distinct(names: List[str], nodes: List[yaml.Node], path: str) -> List[str]:
    """Return the names; DataError if one occurs twice, or there is none."""
    if not names:
        raise DataError(f'{path} has no class in names')
    seen: Dict[str, int] = {}
    for index, (name, node) in enumerate(zip(names, nodes)):
        other = seen.setdefault(composed(name), index)
        if other != index:
            raise DataError(f'{path}:{_line(node)}: the classes {other} and {index} are both '
                            f'called {name!r}; give each class a name of its own')
    return names


def _check_count(node: Optional[yaml.Node], names: List[str], of_names: yaml.Node,
                 path: str) -> None:
    if node is None or node.tag == NULL:
        return
    try:
        count = read_whole(node.value, 'the number of classes', 0)
    except ValueError as error:
        raise DataError(f'{path}:{_line(node)}: nc {error}') from None
    if count != len(names):
        raise DataError(
            f'{path}:{_line(node)}: nc is {count}, and names (line {_line(of_names)}) has '
            f'{len(names)}; correct nc, or the names')


def _texts(node: yaml.Node, path: str, key: str) -> List[Tuple[str, int]]:
    if isinstance(node, yaml.SequenceNode):
        return [_text(item, path, key) for item in node.value]
    return [_text(node, path, key)]


def _text(node: yaml.Node, path: str, key: str) -> Tuple[str, int]:
    try:
        return read_name(node.value, 'a path').strip().replace('\\', '/'), _line(node)
    except ValueError:
        raise _refuse(node, path, key, 'a path, or a list of paths') from None


def _keypoints(node: Optional[yaml.Node], path: str) -> int:
    """Return the number of values that follow each box in a pose dataset: kpt_shape is [points, values]."""
    if node is None or node.tag == NULL:
        return 0
    try:
        points, values = (
            read_whole(item.value, 'a whole number', 1, MOST_CLASSES) for item in node.value)
    except (ValueError, TypeError, AttributeError):
        raise _refuse(node, path, 'kpt_shape', '[number of points, 2 or 3]') from None
    return points * values


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _refuse(node: yaml.Node, path: str, key: str, expected: str) -> DataError:
    found = format_value(node.value) if isinstance(node, yaml.ScalarNode) else 'a list or a dict'
    return DataError(f'{path}:{_line(node)}: {key} is {found}, expected {expected}')


def folders_of(data: DataYaml, split: str, root: Optional[str] = None) -> List[str]:
    """Return the folders of images, and lists of images, of a split; DataError names the line of a missing one.

    root: folder that the paths are relative to; by default `path` of the file, or the folder of the file. A path
    that is not there is looked for beside the file: Roboflow writes '../train/images' for 'train/images'.
    """
    if split not in data.splits:
        raise DataError(
            f'{data.path} has no {split}: it has '
            f'{", ".join(data.splits) or "no split"}; name the images of this split in it')
    return [
        _existing(_candidates(data, written, root), f'{data.path}:{line}: {split}: ', written)
        for written, line in data.splits[split]
    ]


def _candidates(data: DataYaml, written: str, root: Optional[str]) -> List[str]:
    folder = osp.dirname(data.path)
    own = data.root or ''
    roots = [root] if root else [osp.join(folder, own), own, folder]
    inside = re.sub(r'^(?:\.\./)+', '', written)
    last = '/'.join(written.rstrip('/').split('/')[-2:])
    return [
        osp.join(base, name) for name in dict.fromkeys((written, inside, last)) for base in roots
    ]


def _existing(paths: List[str], where: str, written: str) -> str:
    for path in paths:
        if osp.exists(path):
            return osp.normpath(path)
    raise DataError(f'{where}there is no {written!r} (looked for {osp.normpath(paths[0])!r}); '
                    f'write the folder of the images, relative to the file or to path')
