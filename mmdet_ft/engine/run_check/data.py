"""Checks of a config's data: all of them (tools/misc/check_data.py), and the cheap ones before a training."""
import copy
import inspect
import io
import json
import logging
import os
import shlex
import tempfile
from collections import defaultdict
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from rich.console import Console

from mmdet_ft.command_names import how_to_run
from mmdet_ft.config.config import Config
from mmdet_ft.datasets.annotations.coco_file import read_json_file
from mmdet_ft.datasets.build import leaves_of
from mmdet_ft.datasets.checks.anchors import AnchorCoverage, Anchors, check_anchors
from mmdet_ft.datasets.checks.coco_json import CocoJson
from mmdet_ft.datasets.checks.images import (CUT, ImageCheck, Loading, check_copies, check_depth,
                                             check_images, check_listed, check_overlap,
                                             inspect_images, read_loading, scan, size_of,
                                             with_true_sizes)
from mmdet_ft.datasets.checks.objects import (check_boxes, check_classes, check_masks, check_same,
                                              class_table)
from mmdet_ft.datasets.checks.problem import Problem
from mmdet_ft.datasets.checks.report import Report, render
from mmdet_ft.datasets.checks.split import Split, innermost, split_of
from mmdet_ft.datasets.classification.base import ClassificationDataset
from mmdet_ft.datasets.detection.coco import CocoDataset
from mmdet_ft.datasets.detection.lvis import LVISDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.collate import check_equal_sizes
from mmdet_ft.datasets.loading.seeded import SeededDataset
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.engine.config_check.mistakes import as_dict, parts_of
from mmdet_ft.engine.errors import UserError, is_user_mistake, message_of
from mmdet_ft.engine.models.labels import label_problems
from mmdet_ft.engine.reporting.progress import track
from mmdet_ft.engine.settings.read import read_test_settings
from mmdet_ft.engine.settings.records import DataSettings, PartSettings, TestSettings
from mmdet_ft.registry import DATASETS, MODELS

Reading = Tuple[Optional[Split], List[Problem]]

REFUSED = ('image missing', 'image broken', 'image size differs', 'width and height exchanged',
           'image turned by EXIF')
# Readers of a COCO json; LabelmeDataset and custom types may read other files
COCO_READERS = (CocoDataset.load_annotations, LVISDataset.load_annotations)
MOST_FILES = 5000  # annotation files to read where every image has one


def check_data(config: Config,
               names: Sequence[str] = ('train', 'val', 'test'),
               images: bool = True,
               workers: int = 2) -> Report:
    """Check everything about the data of a config that is possible without training.

    Args:
        config: in the current spelling (see `prepare`).
        names: which of data.train, data.val and data.test.
        images: open every image; otherwise only annotations are read.
        workers: processes that open images.

    Bad data raises nothing: it is in the report.
    """
    settings = read_test_settings(config)
    problems: List[Problem] = []
    splits: List[Split] = []
    parts: Dict[str, Dict[str, Any]] = {}
    seen: List[Tuple[Any, ...]] = []
    assumed: Sequence[str] = ()
    for name, part in _parts(settings.data, names, problems):
        key = tuple(
            str(part.get(item)) for item in ('type', 'data_root', 'ann_file', 'img_prefix',
                                             'data_prefix', 'classes', 'test_mode'))
        if key in seen:
            continue  # data.test is data.val in most configs
        if not name.startswith('train'):  # a validation set equal to the training set is a finding
            seen.append(key)
        split, found = _read(name, part, assumed)
        problems += found
        if split is not None:
            assumed = assumed or split.classes
            splits.append(split)
            parts[name] = part
    digests: Dict[str, Dict[str, List[int]]] = {}
    num_looked: Dict[str, int] = {}
    for split in splits:
        looks: List[Tuple[int, ImageCheck]] = []
        if images:
            loading = read_loading(parts[split.name].get('pipeline') or ())
            looks = _inspect_split(split, workers, loading)
            problems += check_images(split, looks) + check_depth(split, looks, loading)
            num_looked[split.name] = len(looks)
            digests[split.name] = _digests(looks)
            problems += check_copies(split, digests[split.name])
        problems += check_listed(split)
        problems += _annotation_problems(settings, with_true_sizes(split, looks), parts[split.name])
        problems += label_problems(settings, split)
    return _report(settings, splits, problems, digests, num_looked)


def log_data_report(settings: TestSettings, datasets: Dict[str, Any],
                    logger: logging.Logger) -> None:
    """Log the short report: the class table, and anomalies in the annotations and image headers.

    datasets: split -> the dataset as it was built; the dataset itself has logged the boxes that it leaves out.

    Raises UserError for images that are missing, broken or of another size than annotated: the run
    would fail at them, or learn from wrong data. With skip_bad_images they are left out instead.
    """
    splits, problems, num_looked, refused = [], [], {}, []
    for part, split, loading in _splits_of(datasets):
        looks = scan(split, loading)
        problems += check_images(split, looks) + check_depth(split, looks, loading)
        problems += check_boxes(with_true_sizes(split, looks)) + check_listed(split)
        refused += _refused(settings.data, split, looks)
        refused += _unequal(settings.data, part, split, looks)
        num_looked[split.name] = len(looks)
        splits.append(split)
    if not splits:
        return
    report = _report(settings, splits, problems, {}, num_looked)._replace(decoded=False)
    text = io.StringIO()
    render(report, Console(file=text, width=160, color_system=None, highlight=False))
    is_loud = report.defects or any(problem.kind == CUT for problem in problems)
    logger.log(logging.WARNING if is_loud else logging.INFO,
               'Data. To check every image and object: %s %s\n%s', how_to_run('check'),
               shlex.quote(str(settings.keys.filename or 'CONFIG')),
               text.getvalue().rstrip())
    if refused:
        raise UserError(refused[0])
    training = [split for split in splits if split.name.startswith('train')]
    if len(training) == len(innermost(datasets.get('train'))):  # none was too costly to read
        for problem in report.problems:
            if problem.stops:
                raise DataError(f'{problem.text}: {problem.fix}')


def check_image_files(data: DataSettings, datasets: Dict[str, Any], logger: logging.Logger) -> None:
    """Refuse before a test the images that a training refuses, with the same messages; warn of the others.

    datasets: as for `log_data_report`, which also checks the annotations. Raises UserError.
    """
    for part, split, loading in _splits_of(datasets):
        looks = scan(split, loading)
        for message in _refused(data, split, looks) + _unequal(data, part, split, looks):
            raise UserError(message)
        for problem in check_images(split, looks) + check_depth(split, looks, loading):
            logger.warning('data.%s: %s (%d): %s; to fix: %s', split.name, problem.kind,
                           problem.count, problem.text, problem.fix)


def _splits_of(datasets: Dict[str, Any]) -> Iterator[Tuple[Any, Split, Loading]]:
    """Yield each dataset inside wrappers whose annotations are cheap to read, with its split and image loading."""
    for name, dataset in datasets.items():
        inner = innermost(dataset)
        for index, part in enumerate(inner):
            if _is_cheap(part):
                split = split_of(part, name if len(inner) == 1 else f'{name}.{index}')
                yield part, split, read_loading(
                    getattr(getattr(part, 'pipeline', None), 'transforms', ()))


def _refused(data: DataSettings, split: Split, looks: Sequence[Tuple[int,
                                                                     ImageCheck]]) -> List[str]:
    """Return messages about unusable images, among those that are used or have objects."""
    is_training = split.name.startswith('train')
    if is_training and data.skips_bad_images:
        return []
    if split.used is not None:
        counts = split.used.copy()
        counts[split.image] = True  # objects may be left out only because the size is wrong
        looks = [(index, look) for index, look in looks if counts[index]]
    skip = '; data = dict(train_dataloader=dict(skip_bad_images=True)) trains without them'
    messages = []
    for problem in check_images(split, looks):
        if problem.kind not in REFUSED:
            continue
        example, shown = problem.examples[0], [example.text for example in problem.examples]
        more = f' (and {problem.count - 1} more of data.{split.name})' if problem.count > 1 else ''
        if problem.kind == 'image missing':
            text = f'there is no image {example.path!r}{more}'
        elif problem.kind == 'image broken':
            text = f'cannot decode the image {example.path!r}{more}: {example.text[len(example.path) + 2:]}'
        else:
            text = '\n  '.join([
                f'data.{split.name}: {problem.kind}, {problem.count} images: {problem.text}', *shown
            ])
        others_left = is_training and problem.count < len(looks)
        messages.append(f'{text}\nto fix: {problem.fix}{skip if others_left else ""}')
    return messages


def _unequal(data: DataSettings, dataset: Dataset, split: Split,
             looks: Sequence[Tuple[int, ImageCheck]]) -> List[str]:
    """Return messages if a classifier's pipeline gives images of unequal sizes; tries the most different files."""
    indices = {look.size: index for index, look in looks if not look.error and look.size[0]}
    if not isinstance(dataset, ClassificationDataset) or len(indices) < 2:
        return []
    name = split.name.split('.')[0]
    settings = data.train_loader() if name == 'train' else data.test_loader(name, True)
    if settings.samples_per_gpu == 1:
        return []
    seeded = SeededDataset(dataset, 0)
    chosen = {
        choose(indices, key=measure)
        for choose in (min, max)
        for measure in (lambda size: size[0] / size[1], max)
    }
    try:
        check_equal_sizes([seeded[indices[size]] for size in sorted(chosen)])
    except DataError as error:
        return [f'data.{split.name}.pipeline: {error}']
    except Exception:  # a failing pipeline raises its own error at its first image
        pass
    return []


def check_same_classes(training: Dataset, validation: Dataset) -> None:
    """Refuse datasets whose shifted labels would make the metric meaningless: one class folder
    missing on either side is enough."""
    own, other = (
        list(getattr(dataset, 'CLASSES', None) or ()) for dataset in (training, validation))
    if not own or not other or own == other:
        return
    everything = own + [name for name in other if name not in own]
    line = ', '.join(map(repr, everything)) if len(everything) <= 100 else '...'
    only = [
        f'only {split} has {", ".join(map(repr, names[:10]))}'
        for split, names in (('data.train', [name for name in own if name not in other]),
                             ('data.val', [name for name in other if name not in own])) if names
    ]
    text = '; '.join(only) or 'their order differs'
    raise UserError(
        f'data.train has {len(own)} classes and data.val {len(other)}, and a label would mean two things: {text}. '
        f'Write the same classes in both: classes=({line}{", " if len(everything) == 1 else ""})')


def _is_cheap(dataset: Dataset) -> bool:
    """Return whether the annotations of a dataset are in memory, or in few files."""
    if not hasattr(dataset, 'data_infos') or not len(dataset.data_infos):
        return False
    in_memory = hasattr(dataset, '_file') or not hasattr(dataset, 'get_ann_info')
    return in_memory or 'ann' in dataset.data_infos[0] or len(dataset) <= MOST_FILES


def _report(settings: TestSettings, splits: List[Split], problems: List[Problem],
            digests: Dict[str, Dict[str, List[int]]], num_looked: Dict[str, int]) -> Report:
    """Run the checks between splits and against the model, and return the whole report."""
    training = [split for split in splits if split.name.startswith('train')]
    for first in training:
        for second in splits:
            if second not in training:
                problems += check_overlap(first, second, digests)
    classes = []
    if splits:
        refused = {problem.split for problem in problems if problem.stops}
        first = 'correct its other reported defects first: their objects are left out'
        problems += [
            problem._replace(fix=first)
            if problem.kind in ('no images', 'no objects') and problem.split in refused else problem
            for problem in check_classes(
                splits, any('classes' in part for _, part in _parts(settings.data, ('train', ))))
        ]
        classes = class_table(splits)
    reaches: Dict[str, AnchorCoverage] = {}
    anchors = anchors_of(settings.model)
    scale = scale_of(settings.data)
    if anchors is not None and scale is not None:
        for split in splits:
            reach, found = check_anchors(split, anchors, *scale)
            problems += found if split in training else []
            if reach is not None:
                reaches[split.name] = reach
    return Report(splits, classes, problems, reaches, num_looked)


# ------------------------------------------------------------------------------------ reading a split


def _parts(data: DataSettings,
           names: Sequence[str],
           problems: Optional[List[Problem]] = None) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Yield (name, settings) of each dataset inside wrappers and lists; 'train.1' if there are several.

    Appends to `problems` why a split cannot be built.
    """
    for name in names:
        try:
            found = list(leaves_of(data.split(name)))
        except DataError as error:
            if problems is not None:
                problems.append(_unreadable(name, error))
            continue
        for index, part in enumerate(found):
            yield (name if len(found) == 1 else f'{name}.{index}'), part


def _unreadable(name: str, error: Exception) -> Problem:
    fix = f'correct data.{name} of the config, or the file'
    return Problem(name, 'cannot be read', 1, message_of(error), fix, stops=True)


def _read(name: str, part: Dict[str, Any], assumed: Sequence[str] = ()) -> Reading:
    """Read as much of a split as possible, and report why the rest cannot be read.

    assumed: classes to read a COCO json by, if the config names none and those of the type differ.
    """
    problems: List[Problem] = []
    logger = logging.getLogger('mmdet_ft')
    level = logger.level
    try:
        cls = DATASETS.resolve(part.get('type'), part)
        settings = {
            key: copy.deepcopy(value)
            for key, value in part.items() if key != 'samples_per_gpu'
        }
        parameters = inspect.signature(cls).parameters
        settings['pipeline'] = []
        if hasattr(cls, 'get_ann_info') and 'test_mode' in parameters:
            settings[
                'test_mode'] = True  # nothing is filtered; a classifier may read other files then
        logger.setLevel(logging.ERROR)  # messages of the dataset are reported as problems
        with tempfile.TemporaryDirectory() as folder:
            path = None
            if getattr(cls, 'load_annotations', None) in COCO_READERS:
                path, found = _repair_annotations(cls, settings, name, folder, assumed)
                problems += found
            dataset = DATASETS.build(settings)
        if path is not None:
            dataset.ann_file = path
        problems += [
            Problem(name, 'not read', 1, text, 'nothing, if that is meant so', is_defect=False)
            for text in getattr(dataset, 'left_out', ())
        ]
        split, found = _read_unfiltered(dataset, name, part)
        return split, problems if any(problem.stops for problem in problems) else problems + found
    except Exception as error:
        if not is_user_mistake(error):
            raise
        # whatever stops the run was reported already, while this error names a deleted file
        if not any(problem.stops for problem in problems):
            problems.append(_unreadable(name, error))
        return None, problems
    finally:
        logger.setLevel(level)


def _repair_annotations(cls: Any, settings: Dict[str, Any], name: str, folder: str,
                        assumed: Sequence[str]) -> Tuple[Optional[str], List[Problem]]:
    """Point the settings of a CocoDataset at a copy without the defects that its reader refuses;
    returns the original path and the defects."""
    paths = [
        settings.get('ann_file'), *filter(None, map(settings.get, ('data_root', 'img_prefix')))
    ]
    if not all(isinstance(path, (str, os.PathLike)) for path in paths):
        return None, []  # the dataset reports it
    root = settings.get('data_root')
    under = (lambda path: path) if root is None else (lambda path: os.path.join(root, path))
    path = under(settings['ann_file'])
    if not os.path.isfile(path) or settings.get('file_client_args', {}).get('backend',
                                                                            'disk') != 'disk':
        return None, []
    are_named = settings.get('classes') is not None
    mended = CocoJson(
        read_json_file(path), name, under(settings.get('img_prefix') or ''),
        cls.get_classes(settings.get('classes')), are_named, size_of, path, assumed)
    if mended.is_mended:
        settings['ann_file'] = os.path.join(os.path.abspath(folder), os.path.basename(path))
        with open(settings['ann_file'], 'w', encoding='utf-8') as file:
            json.dump(mended.data, file)
        if not are_named and mended.classes:
            settings['classes'] = mended.classes
    return path, mended.problems


def _read_unfiltered(dataset: Any, name: str, part: Dict[str, Any]) -> Tuple[Split, List[Problem]]:
    """Return the split with all its images and its counts in training, and a problem if training
    would refuse it."""
    split = split_of(dataset, name)
    if not name.startswith('train') or part.get('test_mode') or not hasattr(
            dataset, '_apply_filter'):
        return split, []
    twin = copy.copy(dataset)  # filtering changes it
    problems = []
    try:
        twin.test_mode = False
        twin._apply_filter()
        if split.mask_faults is not None:
            split = split._replace(mask_faults=twin.mask_faults())
    except DataError as error:
        problems.append(
            Problem(
                name,
                'nothing to train on',
                1,
                str(error),
                f'correct data.{name} of the config, or the file',
                stops=True))
    return split._replace(
        num_used=0 if problems else len(twin.data_infos),
        left_out={
            reason: count
            for reason, count in twin.filter_counts.items() if count
        }), problems


def _annotation_problems(settings: TestSettings, split: Split, part: Dict[str,
                                                                          Any]) -> List[Problem]:
    wanted = any(
        transform.get('with_mask') for transform in part.get('pipeline') or ()
        if isinstance(transform, dict) and transform.get('type') == 'LoadAnnotations')
    if not split.name.startswith('train'):
        metric = settings.hooks.evaluation.get('metric') or ()
        wanted = 'segm' in ([metric] if isinstance(metric, str) else metric)
    return check_boxes(split) + check_same(split) + check_masks(split, wanted)


def _inspect_split(split: Split, workers: int, loading: Loading) -> List[Tuple[int, ImageCheck]]:
    indices = [index for index, path in enumerate(split.paths) if path is not None]
    looks = inspect_images(split, indices, workers, loading)
    return list(zip(indices, track(looks, f'images of {split.name}', len(indices))))


def _digests(looks: Sequence[Tuple[int, ImageCheck]]) -> Dict[str, List[int]]:
    indices: Dict[str, List[int]] = defaultdict(list)
    for index, look in looks:
        if look.digest:
            indices[look.digest].append(index)
    return indices


# ---------------------------------------------------------------------------------- from the model


def anchors_of(model: PartSettings) -> Optional[Anchors]:
    """Return the anchors of the first part of a model that has some, or None."""
    name, head = next(
        ((path.partition('.')[2], part)
         for path, part, _ in parts_of(model) if isinstance(part.get('anchor_generator'), dict)),
        (None, None))
    if head is None:
        return None
    assigner = as_dict(_settings_of(model, f'{name}.train_cfg').get('assigner'))
    if assigner.get('type') != 'MaxIoUAssigner':
        return None
    settings = copy.deepcopy(dict(head['anchor_generator']))
    generator = MODELS.build(dict(settings))

    def with_settings(changes: Dict[str, Any]) -> List[Any]:
        return [base.numpy() for base in MODELS.build({**settings, **changes}).base_anchors]

    positive = assigner.get('pos_iou_thr', .5)
    least = assigner.get('min_pos_iou', 0.) if assigner.get('match_low_quality', True) else positive
    # Others can be tried only where all levels share them.
    can_change = 'scales' in inspect.signature(type(generator)).parameters
    return Anchors([base.numpy() for base in generator.base_anchors], generator.strides, positive,
                   least, f'model.{name}.anchor_generator', settings,
                   with_settings if can_change else None)


def _settings_of(model: Dict[str, Any], argument: str) -> Dict[str, Any]:
    """Return the dict that is the argument of a part, such as 'rpn_head.train_cfg', from a detector's settings."""
    cls = MODELS.class_of(model)
    settings: Any = model
    for path, target in getattr(cls, 'settings_of', {}).items():
        if target == argument:
            for key in path.split('.'):
                settings = as_dict(settings).get(key)
            return as_dict(settings)
    return {}


def scale_of(data: DataSettings) -> Optional[Tuple[Tuple[float, float], bool]]:
    """Return (img_scale, keep_ratio) of the training pipeline: the middle one of several scales."""
    for settings in data.train, *(part for _, part in _parts(data, ('train', ))):
        for transform in (settings.get('pipeline') if isinstance(settings, dict) else None) or ():
            if isinstance(
                    transform,
                    dict) and transform.get('type') == 'Resize' and transform.get('img_scale'):
                scale = transform['img_scale']
                if isinstance(scale[0], (list, tuple)):
                    scale = sorted(scale, key=min)[len(scale) // 2]
                return tuple(scale), transform.get('keep_ratio', True)
    return None
