"""COCO annotation files, for any set of classes."""
import json
import logging
import math
import os
import os.path as osp
import tempfile
from collections import OrderedDict
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from mmdet_ft.datasets.annotations.coco_file import CocoFile, read_json_file
from mmdet_ft.datasets.annotations.coco_records import (double_names, find_shift, ignored_by,
                                                        only_ignored, unknown_ids)
from mmdet_ft.datasets.annotations.image_lists import (describe_missing_classes, guess_names,
                                                       missing_classes_fix, same_but_for_unicode)
from mmdet_ft.datasets.annotations.packed import EMPTY, MASK_FAULTS, NONE
from mmdet_ft.datasets.coco_api import COCO
from mmdet_ft.datasets.detection.custom import CustomDataset
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.layouts.found import PartFile
from mmdet_ft.datasets.splitting import json_parts
from mmdet_ft.evaluation.coco import (ALLOWED_METRICS, CocoGroundTruth, check_metric_items,
                                      evaluate_det_segm, results_to_records)
from mmdet_ft.evaluation.table_output import LoggerLike
from mmdet_ft.outputs import Inputs
from mmdet_ft.registry import DATASETS


@DATASETS.register_module()
class CocoDataset(CustomDataset):
    """Images and instances of a COCO json; arguments as CustomDataset.

    A label is the position of the class in `classes`, whatever the order and the ids of the file's
    categories. Train and val files may therefore list them differently. Boxes become x1 y1 x2 y2.
    As in V2, annotations with `ignore` or of another category are dropped. So are those of zero
    area, under one pixel wide or high, or wholly outside the image. `iscrowd` ones become
    `bboxes_ignore`.

    Raises DataError when the file lacks one of the classes, with a table of both and the line to
    write instead.
    """

    CLASSES = ('person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck',
               'boat', 'traffic light', 'fire hydrant', 'stop sign', 'parking meter', 'bench',
               'bird', 'cat', 'dog', 'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra',
               'giraffe', 'backpack', 'umbrella', 'handbag', 'tie', 'suitcase', 'frisbee', 'skis',
               'snowboard', 'sports ball', 'kite', 'baseball bat', 'baseball glove', 'skateboard',
               'surfboard', 'tennis racket', 'bottle', 'wine glass', 'cup', 'fork', 'knife',
               'spoon', 'bowl', 'banana', 'apple', 'sandwich', 'orange', 'broccoli', 'carrot',
               'hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch', 'potted plant', 'bed',
               'dining table', 'toilet', 'tv', 'laptop', 'mouse', 'remote', 'keyboard',
               'cell phone', 'microwave', 'oven', 'toaster', 'sink', 'refrigerator', 'book',
               'clock', 'vase', 'scissors', 'teddy bear', 'hair drier', 'toothbrush')
    PALETTE = [(220, 20, 60), (119, 11, 32), (0, 0, 142), (0, 0, 230), (106, 0, 228), (0, 60, 100),
               (0, 80, 100), (0, 0, 70), (0, 0, 192), (250, 170, 30), (100, 170, 30), (220, 220, 0),
               (175, 116, 175), (250, 0, 30), (165, 42, 42), (255, 77, 255), (0, 226, 252),
               (182, 182, 255), (0, 82, 0), (120, 166, 157), (110, 76, 0), (174, 57, 255),
               (199, 100, 0), (72, 0, 118), (255, 179, 240), (0, 125, 92), (209, 0, 151),
               (188, 208, 182), (0, 220, 176), (255, 99, 164), (92, 0, 73), (133, 129, 255),
               (78, 180, 255), (0, 228, 0), (174, 255, 243), (45, 89, 255), (134, 134, 103),
               (145, 148, 174), (255, 208, 186), (197, 226, 255), (171, 134, 1), (109, 63, 54),
               (207, 138, 255), (151, 0, 95), (9, 80, 61), (84, 105, 51), (74, 65, 105),
               (166, 196, 102), (208, 195, 210), (255, 109, 65), (0, 143, 149), (179, 0, 194),
               (209, 99, 106), (5, 121, 0), (227, 255, 205), (147, 186, 208), (153, 69, 1),
               (3, 95, 161), (163, 255, 0), (119, 0, 170), (0, 182, 199), (0, 165, 120),
               (183, 130, 88), (95, 32, 0), (130, 114, 135), (110, 129, 133), (166, 74, 118),
               (219, 142, 185), (79, 210, 114), (178, 90, 62), (65, 70, 15), (127, 167, 115),
               (59, 105, 106), (142, 108, 45), (196, 172, 0), (95, 54, 80), (128, 76, 255),
               (201, 57, 1), (246, 0, 122), (191, 162, 208)]
    METRICS = ALLOWED_METRICS

    def load_annotations(self, ann_file: str) -> Sequence[Dict[str, Any]]:
        """Read the file; set `cat_ids` (in the order of CLASSES), `cat2label` and `img_ids`."""
        self._read_file = CocoFile(ann_file)
        for note in self._read_file.notes:
            self._warn(note)
        return self._use_file()

    def _use_file(self) -> Sequence[Dict[str, Any]]:
        self._match_unicode()
        self.cat_ids = self._select_categories()
        self.cat2label = {category_id: label for label, category_id in enumerate(self.cat_ids)}
        self.img_ids = list(self._file.image_ids)
        return self._file.images

    _read_file: Optional[CocoFile] = None
    _coco: Optional[COCO] = None

    @property
    def _file(self) -> CocoFile:
        if self._read_file is None:  # a user's load_annotations has read it by COCO alone, as V2 did
            self._read_file = CocoFile(self._local(self.ann_file, 'ann_file'))
        return self._read_file

    @property
    def coco(self) -> COCO:
        """Return pycocotools' COCO of the annotation file, for users' own code; it is read on the first access."""
        if self._coco is None:
            self._coco = COCO(self._local(self.ann_file, 'ann_file'))
        return self._coco

    @coco.setter
    def coco(self, value: COCO) -> None:
        self._coco = value

    def __getstate__(self) -> Dict[str, Any]:
        return {**self.__dict__, '_coco': None}  # not pickled to every worker

    def _match_unicode(self) -> None:
        """Rename categories to the spelling of `classes`, where both differ only in the Unicode form of accents."""
        names = {category['name'] for category in self._file.categories}
        others = names.difference(self.CLASSES or ())
        missing = [name for name in self.CLASSES or () if name not in names]
        same = {own: name for name, own in same_but_for_unicode(missing, sorted(others)).items()}
        for category in self._file.categories:
            if category['name'] in same:
                category['name'] = same[category['name']]
        if same:
            self._warn(
                f'the categories {", ".join(map(repr, same.values()))} are written with other Unicode '
                'characters than in `classes` (NFC and NFD): matched')

    def _select_categories(self) -> List[int]:
        categories = sorted(self._file.categories, key=lambda item: item['id'])
        if not categories:  # a list of images to predict on
            if self.test_mode:
                self._warn(
                    'the file has no categories: results are written with the category ids 1 to '
                    f'{len(self.CLASSES)}, in the order of `classes`')
            return list(range(1, len(self.CLASSES) + 1))
        shift, _ = find_shift(self._file.category_ids, categories)
        if shift:
            raise DataError(f'{self.ann_file}: {shift}')
        double = double_names(categories, self._file.category_ids)
        for name in self.CLASSES:
            if name in double:
                raise DataError(
                    f'{self.ann_file}: class {name!r} has the category ids {double[name]}; '
                    f'join them in the file: one id for the name, also in category_id of its annotations'
                )
        used = set(self._file.category_ids.tolist())
        id_of_name: Dict[str, int] = {}
        for category in categories:  # an id with annotations takes precedence over one without
            if category['name'] not in id_of_name or (category['id'] in used
                                                      and id_of_name[category['name']] not in used):
                id_of_name[category['name']] = category['id']
        missing = [name for name in self.CLASSES if name not in id_of_name]
        if missing:
            raise DataError(self._missing_classes(missing, list(id_of_name)))
        return [id_of_name[name] for name in self.CLASSES]

    def _missing_classes(self, missing: List[str], names: List[str]) -> str:
        """Return the message for classes missing from the file, with the line to paste."""
        near = guess_names(missing, [name for name in names if name not in self.CLASSES])
        head = f'{self.ann_file} has {describe_missing_classes(missing)}'
        if near and self._classes_given:
            head += f'; did you mean {", ".join(repr(near[name]) for name in missing[:5] if name in near)}?'
        elif self._classes_given:
            head += f'. The file has: {", ".join(map(repr, names))}.'
        else:
            head += (
                f'. Without `classes` {type(self).__name__} expects its own {len(self.CLASSES)} classes, the '
                f'file has {len(names)}.')
        fix = missing_classes_fix(self.CLASSES, names, near, self._classes_given,
                                  [item['id'] for item in self._file.categories])
        return f'{head}\n{self._table_of_classes(near)}\n{fix[0].upper()}{fix[1:]}'

    def _table_of_classes(self, near: Dict[str, str], most: int = 20) -> str:
        """Return a table of `classes`, the file's categories and their annotations; matches are last."""
        counts = self._annotations_of_names()
        missing = [(name, f'- did you mean {near[name]!r}?' if name in near else '-', '')
                   for name in self.CLASSES if name not in counts]
        others = [('-', name, count) for name, count in counts.items() if name not in self.CLASSES]
        matching = [(name, name, counts[name]) for name in self.CLASSES if name in counts]
        rows = [('in classes', 'in the file', 'annotations')]
        for part in (missing, others, matching):
            rows += part[:most]
            if len(part) > most:
                rows.append((f'... {len(part) - most} more', '...', ''))
        widths = [max(len(str(row[column])) for row in rows) for column in (0, 1)]
        return '\n'.join(f'  {str(a):{widths[0]}}  {str(b):{widths[1]}}  {c}'.rstrip()
                         for a, b, c in rows)

    def part_file(self, indices: Sequence[int]) -> PartFile:
        """Return the json of some images, with everything else that the file has."""
        chosen = np.zeros(len(self.data_infos), dtype=bool)
        chosen[list(indices)] = True
        content = json_parts(read_json_file(self._local(self.ann_file, 'ann_file')), chosen)
        return PartFile('.json', json.dumps(content), {})

    def get_ann_info(self, idx: int) -> Dict[str, Any]:
        """Return bboxes float32 [n, 4], labels int64 [n], bboxes_ignore [k, 4], masks (n, raw), seg_map."""
        info = self.data_infos[idx]
        return self._parse_ann_info(info,
                                    self._file.annotations_of(self._file.index_of(info['id'])))

    def get_cat_ids(self, idx: int) -> List[int]:
        """Return the category ids (of the file) of the instances of sample `idx` that are of the dataset's classes."""
        index = self._file.index_of(self.data_infos[idx]['id'])
        ids = self._file.category_ids[self._file.starts[index]:self._file.starts[index +
                                                                                 1]].tolist()
        return [category_id for category_id in ids if category_id in self.cat2label]

    def _labels(self, idx: int) -> List[int]:
        return [self.cat2label[category_id] for category_id in self.get_cat_ids(idx)]

    def _images_with_classes(self) -> np.ndarray:
        """Check which images of the file, bool [I], have an annotation of the classes (crowds count, as in V2)."""
        image = np.repeat(np.arange(len(self._file.image_ids)), np.diff(self._file.starts))
        found = np.zeros(len(self._file.image_ids), dtype=bool)
        found[image[np.isin(self._file.category_ids, self.cat_ids)]] = True
        return found

    def _filter_imgs(self, min_size: int = 32) -> List[int]:
        """Return the indices of training images: at least `min_size` pixels on both sides, and with the classes."""
        # a user's load_annotations may return other images than the file's
        index = np.array([self._file.index_of(image_id) for image_id in self.img_ids],
                         dtype=np.int64)
        large = self._file.sizes[index].min(axis=1) >= min_size
        used = self._images_with_classes()[index] if self.filter_empty_gt else np.ones(
            len(large), dtype=bool)
        self.filter_counts = {
            f'smaller than {min_size} pixels': int((~large & used).sum()),
            'without an instance of the classes (filter_empty_gt)': int((~used).sum())
        }
        valid = np.flatnonzero(large & used).tolist()
        self.img_ids = [self.img_ids[position] for position in valid]
        return valid

    def _drop_useless_boxes(self) -> None:
        """Report the annotations that `_parse_ann_info` will drop, and the classes without any."""
        file = self._file
        image = np.repeat(np.arange(len(file.image_ids)), np.diff(file.starts))
        low, size = file.boxes[:, :2], file.boxes[:, 2:]
        beyond = low + size - file.sizes[
            image]  # pixels beyond the right and bottom border of the image
        of_classes = np.isin(file.category_ids, self.cat_ids) & ~file.ignore
        with np.errstate(invalid='ignore'):
            area = (size >= 1).all(1) & (file.areas > 0) & np.isfinite(file.boxes).all(1)
            inside = (low < file.sizes[image]).all(1) & (low + size > 0).all(1)
            reaching = ((low < -1) | (beyond > 1)).any(1)
        for found, what in (
            (~area, 'under one pixel wide, high or in area: left out'),
            (area & ~inside, 'wholly outside the image: left out'),
            (area & inside & reaching,
             'reaching more than a pixel out of the image: cut at its border by Resize'),
        ):
            found = np.flatnonzero(found & of_classes)
            if len(found):
                self._warn(
                    f'{len(found)} of {int(of_classes.sum())} boxes are {what} (annotation ids '
                    f'{self._ids_of(found)})')
        if of_classes.any() and not (area & inside)[of_classes].any():
            example = file.boxes[of_classes][0].tolist()
            hint = '; they look like shares of the image, and are pixels in COCO\'s form' if (
                file.boxes[of_classes] <= 1).all() else ''
            raise DataError(
                f'{self.ann_file}: not one of the {int(of_classes.sum())} boxes can be used, such as bbox={example} '
                f'(x, y, width, height), area={file.areas[of_classes][0]:g}{hint}')
        if np.mean(reaching[of_classes & area & inside] if of_classes.any() else [0]) > 0.25:
            self._warn(
                'so many boxes that reach out are mostly corners: bbox is (x, y, width, height) in COCO\'s '
                'form, not (x1, y1, x2, y2)')
        if file.num_orphans and not len(file.ids):
            raise DataError(
                f'{self.ann_file}: all {file.num_orphans} annotations are of images that the file does not list: '
                f'write the ids of "images" into image_id, or list their images')
        if file.num_orphans:
            self._warn(
                f'{file.num_orphans} annotations are of images that the file does not list: left out'
            )
        ids = unknown_ids(file.category_ids, [item['id'] for item in file.categories])
        if ids:
            self._warn(
                f'{int(np.isin(file.category_ids, ids).sum())} annotations are of category_id '
                f'{", ".join(map(str, ids[:5]))}{" ..." if len(ids) > 5 else ""}, which `categories` does not list: '
                f'left out')
        self._warn_of_crowds()
        self._report_classes(file.category_ids[of_classes & area & inside])

    def _ids_of(self, indices: np.ndarray, most: int = 5) -> str:
        """Return the ids of annotations, for a message."""
        ids = ', '.join(map(self._file.name_of, indices[:most].tolist()))
        return f'{ids}{" ..." if len(indices) > most else ""}'

    def _warn_of_crowds(self) -> None:
        """Report classes whose objects are all crowd or ignored; raise DataError if that holds for all objects."""
        file = self._file
        labels = self._labels_of_file()
        only = only_ignored(labels, file.crowd | file.ignore, len(self.CLASSES))
        if not only:
            return
        objects = [
            f'{count} objects of class {self.CLASSES[label]!r}' for label, count in only.items()
        ]
        chosen = np.isin(labels, list(only))
        what, fix = ignored_by(file.crowd[chosen], file.ignore[chosen])
        text = f'all {", all ".join(objects[:10])}{" ..." if len(objects) > 10 else ""} are {what}'
        if np.isin(labels[labels >= 0], list(only)).all():
            raise DataError(f'{self.ann_file}: {text}, and nothing is left to learn; {fix}')
        self._warn(f'{text}: not learned; {fix}')

    def _labels_of_file(self) -> np.ndarray:
        """Return the label of each annotation of the file, int64 [N]; -1 for other categories."""
        labels = np.full(len(self._file.category_ids), -1, dtype=np.int64)
        for label, category_id in enumerate(self.cat_ids):
            labels[self._file.category_ids == category_id] = label
        return labels

    def _check_loaded(self) -> None:
        """Raise DataError for objects without masks if the pipeline loads masks."""
        if any(getattr(transform, 'with_mask', False) for transform in self.pipeline.transforms):
            self._require_masks(
                'the pipeline loads masks (with_mask=True)',
                "or train without masks: with_mask=False, no 'gt_masks' in Collect, and a detector without a mask head"
            )

    def _require_masks(self, reason: str, other: str) -> None:
        """Raise DataError for objects whose mask is missing or has no pixel."""
        faults = self.mask_faults()
        for (found, what) in zip(faults, MASK_FAULTS):
            if len(found):
                raise DataError(
                    f'{self.ann_file}: {len(found)} of {len(self._file.ids)} objects {what}, and {reason}: '
                    f'annotation ids {self._ids_of(found)}. Complete them in the file, take them out, {other}'
                )

    def mask_faults(self) -> Tuple[np.ndarray, np.ndarray]:
        """Return indices in the file of the classes' objects without a mask, and of those with an empty mask.

        In training only objects that it would use count; crowds have no mask there. In evaluation
        crowds need one too.
        """
        file = self._file
        image = np.repeat(np.arange(len(file.image_ids)), np.diff(file.starts))
        used = np.isin(file.category_ids, self.cat_ids)
        used &= np.isin(image, [file.index_of(image_id) for image_id in self.img_ids])
        single = used & ~(file.crowd | file.ignore)
        if not self.test_mode:
            low, size = file.boxes[:, :2], file.boxes[:, 2:]
            with np.errstate(invalid='ignore'):
                single &= (size >= 1).all(1) & (file.areas > 0) & np.isfinite(file.boxes).all(1)
                single &= (low < file.sizes[image]).all(1) & (low + size > 0).all(1)
            used = single
        state = file.segmentations.state
        return np.flatnonzero(used & (state == NONE)), np.flatnonzero(single & (state == EMPTY))

    def check_metrics(self,
                      metric: Union[str, Sequence[str], None] = None,
                      metric_items: Union[str, Sequence[str], None] = None) -> None:
        """Raise DataError for a metric that cannot be computed: unknown, or of masks that are missing.

        Logs a warning if there is no object, so that AP is not defined.
        """
        super().check_metrics(metric)
        check_metric_items(metric_items)
        if 'segm' in ([metric] if isinstance(metric, str) else metric or ()):
            self._require_masks_for_segm()
        labels = self._labels_of_file()
        if not (~(self._file.crowd | self._file.ignore))[labels >= 0].any():
            crowds = f' (all {int((labels >= 0).sum())} are crowd or ignored)' if (
                labels >= 0).any() else ''
            self._warn(f'there are no objects{crowds}: AP is not defined, and reported as -1')

    def _require_masks_for_segm(self) -> None:
        self._require_masks("the metric 'segm' needs them",
                            "or evaluate with metric='bbox' alone (--eval bbox)")

    def _report_classes(self, category_ids: np.ndarray) -> None:
        """Report classes without a box among `category_ids`, and the file's other categories."""
        names = {category['id']: category['name'] for category in self._file.categories}
        found = {names.get(category_id) for category_id in set(category_ids.tolist())}
        without = [name for name in self.CLASSES if name not in found]
        if without and len(without) < len(self.CLASSES):
            self._warn(
                f'no box of {", ".join(map(repr, without[:10]))}{" ..." if len(without) > 10 else ""}: '
                f'{"these classes" if len(without) > 1 else "this class"} cannot be learned from it'
            )
        others = [(name, count) for name, count in self._annotations_of_names().items()
                  if count and name not in self.CLASSES]
        if others:
            listed = ', '.join(f'{name!r} ({count})' for name, count in others[:10])
            self._warn(
                f'annotations of categories that `classes` does not name are left out: {listed}'
                f'{" ..." if len(others) > 10 else ""}', logging.INFO)

    def _annotations_of_names(self) -> Dict[str, int]:
        """Return the number of annotations of each category of the file, in the order of its ids."""
        ids, counts = np.unique(self._file.category_ids, return_counts=True)
        count_of_id = dict(zip(ids.tolist(), counts.tolist()))
        found: Dict[str, int] = {}
        for category in sorted(self._file.categories, key=lambda item: item['id']):
            found[category['name']] = found.get(category['name'], 0) + count_of_id.get(
                category['id'], 0)
        return found

    def _set_group_flag(self) -> None:
        sizes = self._file.sizes[[self._file.index_of(image_id) for image_id in self.img_ids]]
        self.flag = (sizes[:, 0] > sizes[:, 1]).astype(np.uint8)

    def _parse_ann_info(self, img_info: Dict[str, Any],
                        ann_info: List[Dict[str, Any]]) -> Dict[str, Any]:
        """Select the annotations of one image as V2 does; masks stay in the form of the file."""
        boxes, labels, ignored, masks = [], [], [], []
        for annotation in ann_info:
            x1, y1, width, height = annotation['bbox']
            if annotation.get('ignore') or not self._is_inside(x1, y1, width, height, img_info):
                continue
            if not (annotation['area'] > 0 and width >= 1 and height >= 1):  # false for NaN too
                continue
            if not math.isfinite(x1 + y1 + width + height):
                continue
            if annotation['category_id'] not in self.cat2label:
                continue
            box = [x1, y1, x1 + width, y1 + height]
            if annotation.get('iscrowd'):
                ignored.append(box)
            else:
                boxes.append(box)
                labels.append(self.cat2label[annotation['category_id']])
                masks.append(annotation.get('segmentation'))
        return dict(
            bboxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
            labels=np.array(labels, dtype=np.int64),
            bboxes_ignore=np.array(ignored, dtype=np.float32).reshape(-1, 4),
            masks=masks,
            seg_map=self._seg_map(img_info))

    def _is_inside(self, x1: float, y1: float, width: float, height: float,
                   img_info: Dict[str, Any]) -> bool:
        """Check whether the box covers some of the image."""
        return (max(0,
                    min(x1 + width, img_info['width']) - max(x1, 0)) *
                max(0,
                    min(y1 + height, img_info['height']) - max(y1, 0))) != 0

    def _seg_map(self, img_info: Dict[str, Any]) -> str:
        return img_info['filename'].rsplit('.', 1)[0] + self.seg_suffix

    # Evaluation
    def results2json(self, results: List[Any], outfile_prefix: str) -> Dict[str, str]:
        """Write V2's result files `<prefix>.bbox.json`, `.segm.json` or `.proposal.json`; return kind -> path."""
        os.makedirs(osp.dirname(outfile_prefix) or '.', exist_ok=True)
        records = self._records(results)
        files = {}
        inputs = Inputs([self.ann_file, self.proposal_file])
        for kind, items in records.items():
            path = f'{outfile_prefix}.{kind}.json'
            inputs.require_free(path, 'jsonfile_prefix')
            if kind == 'proposal' and 'bbox' in records:  # the same boxes
                path = f'{outfile_prefix}.bbox.json'
            else:
                with open(path, 'w') as file:
                    json.dump(items, file)
            files[kind] = path
        return files

    def format_results(
            self,
            results: List[Any],
            jsonfile_prefix: Optional[str] = None) -> Tuple[Dict[str, str], Optional[Any]]:
        """Write V2's json files to `jsonfile_prefix`, or to a temporary folder; return the files and that folder."""
        self._check_results(results)
        folder = None
        if jsonfile_prefix is None:
            folder = tempfile.TemporaryDirectory()
            jsonfile_prefix = osp.join(folder.name, 'results')
        return self.results2json(results, jsonfile_prefix), folder

    def evaluate(self,
                 results: List[Any],
                 metric: Union[str, List[str]] = 'bbox',
                 logger: LoggerLike = None,
                 jsonfile_prefix: Optional[str] = None,
                 classwise: bool = False,
                 proposal_nums: Sequence[int] = (100, 300, 1000),
                 iou_thrs: Union[float, Sequence[float], None] = None,
                 metric_items: Union[str, List[str], None] = None,
                 max_dets: int = 100) -> Dict[str, Any]:
        """Evaluate COCO's metrics on the results of all images, in the order of the dataset.

        Args:
            results: per image a list over classes of arrays [n, 5] (x1 y1 x2 y2 score in original
                pixels). With masks a tuple (boxes, masks), where masks is a list over classes of
                lists of run lengths or bitmaps [H, W]. For proposals one array [n, 5].
            metric: some of 'bbox', 'segm', 'proposal', 'proposal_fast'.
            logger: a logger, its name, None for print, 'silent'.
            jsonfile_prefix: path prefix of V2's result files; nothing is written without it.
            classwise: also show the AP of every class.
            proposal_nums: numbers of detections per image for which AR is reported.
            iou_thrs: IoU thresholds, 0.5 to 0.95 in steps of 0.05 by default.
            metric_items: which of COCO's numbers to return.
            max_dets: the number of detections per image for mAP, COCO's 100. The commands raise it
                to test_cfg's max_per_img, because detections beyond 100 would not count otherwise.
                (AP at 0.5, at 0.75 and by size use the largest of proposal_nums, as in V2.)

        Returns V2's keys (`bbox_mAP`, `bbox_mAP_50`, ..., `bbox_mAP_copypaste`) with four decimals.
        """
        metrics = list(metric) if isinstance(metric, (list, tuple)) else [metric]
        for name in metrics:
            if name not in ALLOWED_METRICS:
                raise KeyError(f'metric {name!r} is not supported by {type(self).__name__}; '
                               f'there are {", ".join(ALLOWED_METRICS)}')
        self._check_results(results)
        if 'segm' in metrics:
            self._require_masks_for_segm()
        if jsonfile_prefix is not None:
            self.results2json(results, jsonfile_prefix)
        return evaluate_det_segm(
            self._ground_truth(),
            results,
            metrics,
            class_names=list(self.CLASSES),
            logger=logger,
            classwise=classwise,
            proposal_nums=proposal_nums,
            iou_thrs=iou_thrs,
            metric_items=metric_items,
            max_dets=max_dets)

    def _records(self, results: List[Any]) -> 'OrderedDict[str, List[Dict]]':
        return results_to_records(results, self.img_ids, self.cat_ids)

    def _ground_truth(self) -> CocoGroundTruth:
        """Return the ground truth of this dataset's images, from the file it was read from."""
        file = self._file
        indices = [file.index_of(image_id) for image_id in self.img_ids]
        rows = np.concatenate([np.arange(file.starts[i], file.starts[i + 1]) for i in indices]
                              or [np.zeros(0)])
        rows = rows.astype(np.int64)
        counts = [int(file.starts[i + 1] - file.starts[i]) for i in indices]
        return CocoGroundTruth(
            image_ids=list(self.img_ids),
            sizes=file.sizes[indices],
            category_ids=list(self.cat_ids),
            image_of_annotation=np.repeat(np.arange(len(indices)), counts),
            boxes=file.boxes[rows],
            areas=file.areas[rows],
            categories=file.category_ids[rows],
            crowd=file.crowd[rows],
            ignore=file.ignore[rows],
            segmentation=lambda index: file.segmentations[int(rows[index])])
