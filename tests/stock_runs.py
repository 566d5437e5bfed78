"""Try every type of model part in a folder of V2's detection configs: two training steps, an evaluation, a prediction.

    python -m tests.stock_runs FOLDER              # such as mmdet/.mim/configs of MMDetection 2.28.2's wheel
    python -m tests.stock_runs FOLDER 'htc/*.py'

In the order of the alphabet, a config is run if its model has a type that none before it had: on drawn images at a
sixth of the config's scale. Configs that do not pass the check are left out. Prints a line per run, and returns 1 if
one failed.
"""
import contextlib
import copy
import io
import json
import logging
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import cv2
import numpy as np

from mmdet_ft.config import Config, ConfigError, load_config
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.dry_run import dry_run
from mmdet_ft.engine.models.build import build_model
from mmdet_ft.inference.run import detect
from mmdet_ft.registry import DATASETS

NUM_IMAGES = 4
SHRINK = 6
SIZE = (120, 160)  # height and width of a drawn image


def dicts_in(value: object) -> Iterator[Dict[str, Any]]:
    """Yield every dict in a value, outermost first."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from dicts_in(item)


def types_of(config: Config) -> Set[str]:
    """Return the types that the model consists of, without scopes."""
    return {
        part['type'].split('.')[-1]
        for part in dicts_in(config.get('model')) if isinstance(part.get('type'), str)
    }


def draw_images(folder: Path) -> None:
    """Draw noise images, and maps of stuff classes with the same names."""
    rng = np.random.default_rng(0)
    for index in range(NUM_IMAGES):
        cv2.imwrite(f'{folder}/{index}.jpg', rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
        cv2.imwrite(f'{folder}/{index}.png', rng.integers(0, 8, SIZE, dtype=np.uint8))


def write_truths(folder: Path, classes: Tuple[str, ...]) -> str:
    """Write a COCO json with three random objects per image, and return its path."""
    rng = np.random.default_rng(1)
    annotations: List[Dict[str, Any]] = []
    for image in range(NUM_IMAGES):
        for x, y, w, h in rng.integers(20, 60, (3, 4)).tolist():
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image + 1,
                    category_id=len(annotations) % len(classes) + 1,
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    segmentation=[polygon]))
    images = [
        dict(
            id=index + 1,
            file_name=f'{index}.jpg',
            coco_url=f'http://images/{index}.jpg',
            height=SIZE[0],
            width=SIZE[1],
            neg_category_ids=[],
            not_exhaustive_category_ids=[]) for index in range(NUM_IMAGES)
    ]
    categories = [
        dict(id=index + 1, name=name, frequency='f') for index, name in enumerate(classes)
    ]
    path = folder / 'annotations.json'
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return str(path)


def use_drawn_data(config: Config, folder: Path) -> None:
    """Point every dataset of a config to the drawn images, and make its images small."""
    for split in [part for part in dicts_in(config.data) if 'ann_file' in part]:
        classes = split.get('classes') or DATASETS.get(split['type']).CLASSES
        split.update(ann_file=write_truths(folder, tuple(classes)), img_prefix=str(folder))
        if 'seg_prefix' in split:
            split['seg_prefix'] = str(folder)
        split.pop('data_root', None)
    for step in dicts_in(config.data):
        for key in ('img_scale', 'image_size', 'crop_size'):
            if key in step:
                step[key] = shrink(step[key])


def shrink(scale: Any) -> Any:
    """Divide each size of a scale, or of a list of scales."""
    if isinstance(scale, (list, tuple)):
        return type(scale)(shrink(item) for item in scale)
    return max(scale // SHRINK, 32) if isinstance(scale, int) and scale > 32 else scale


def train_from_scratch(config: Config) -> None:
    """Leave out pretrained weights, and what is frozen with them."""
    config.load_from = config.resume_from = config.model['pretrained'] = None
    for part in dicts_in(config.model):
        init = part.get('init_cfg')
        if isinstance(init, dict) and init.get('type') == 'Pretrained':
            part['init_cfg'] = None
        for key, value in (('frozen_stages', -1), ('norm_eval', False)):
            if key in part:
                part[key] = value


def try_config(config: Config, folder: Path) -> None:
    """Take two steps, evaluate, save and load a checkpoint, and predict one image; raises the first error."""
    use_drawn_data(config, folder)
    config.data.update(samples_per_gpu=2, workers_per_gpu=0)
    config.work_dir = str(folder / 'work_dir')
    config.custom_hooks = [
        hook for hook in config.get('custom_hooks') or [] if hook['type'] != 'MMDetWandbHook'
    ]
    config.log_config = dict(interval=1, hooks=[])
    train_from_scratch(config)
    dry_run(copy.deepcopy(config))
    model = build_model(config.model, None)
    model.cfg = config
    detect(model.eval(), [cv2.imread(str(folder / '0.jpg'))])


def try_folder(configs: Path, pattern: str = '*.py') -> Dict[str, str]:
    """Try the configs that bring a new type, and return the errors by name."""
    tried: Set[str] = set()
    errors: Dict[str, str] = {}
    number = 0
    for path in sorted(configs.rglob(pattern)):
        try:
            config = load_config(str(path))
            new = types_of(config) - tried
            if not new or '_base_' in path.parts:
                continue
            config, _ = prepare(config)
        except (ConfigError, ImportError):
            continue
        name = str(path.relative_to(configs))
        started = time.perf_counter()
        error = error_of(config)
        if error:
            errors[name] = error
        tried |= new
        number += 1
        print(
            f'{name} ({", ".join(sorted(new))}): {error[:300] or "ok"} '
            f'({time.perf_counter() - started:.0f} s)',
            flush=True)
    print(f'{number} configs with {len(tried)} types, {len(errors)} failed')
    return errors


def error_of(config: Config) -> str:
    """Return the error of a try, '' without; print its traceback."""
    output = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        draw_images(Path(folder))
        try:
            with contextlib.redirect_stdout(output):
                try_config(config, Path(folder))
        except (Exception, SystemExit) as error:
            print(output.getvalue()[-2000:])
            traceback.print_exc()
            return f'{type(error).__name__}: {error}'
    return ''


if __name__ == '__main__':
    logging.disable(logging.INFO)
    warnings.simplefilter('ignore')
    sys.exit(bool(try_folder(Path(sys.argv[1]), *sys.argv[2:3])))
