"""The model and the schedule for data and a machine: a shipped config, and values over it."""
import math
import os.path as osp
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from mmdet_ft.checkpoints import download, sources
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.config.config import Config
from mmdet_ft.config.shipped import find_config
from mmdet_ft.engine.settings.keys import leaves

SCOPE = 'mmdet_ft::'  # of names of shipped configs
SMALL_SET = 2000  # images of classes below which ResNet-18 is enough
STEPS = {True: 1500, False: 600}  # of the optimizer that a small set gets, on a GPU and on a CPU
MOST_LONGER = 10  # times the epochs of the base
LEAST_EPOCHS = 2  # on a CPU, for a large set
EVALUATIONS = 12  # in a run
PERIODS = (2 / 3, 11 / 12
           )  # of a run, after which the learning rate falls: those of V2's 1x schedule


class Machine(NamedTuple):
    """What there is to train on."""
    has_gpu: bool
    is_offline: bool = False  # nothing may be downloaded


class Choice(NamedTuple):
    """A shipped config, and the values that are written over it."""
    base: str  # such as 'custom/base_faster_rcnn.py'
    values: Dict[str, Any]  # by top-level key
    text: str  # what was chosen, for a message


def choose(num_images: int, has_boxes: bool, has_masks: bool, machine: Machine) -> Choice:
    """Choose a model and its schedule.

    Masks get Mask R-CNN, boxes Faster R-CNN: ResNet-50 on a GPU, MobileNetV2 at 400 x 300 on a CPU. Images of
    classes get ResNet-50, ResNet-18 where they are few, and that at 112 pixels on a CPU. Offline, weights that are not
    on this machine are replaced: by the small shipped detector, or by none.

    num_images: to train on.
    """
    choice = _detector(has_masks, machine) if has_boxes else _classifier(num_images, machine)
    return choice._replace(values={**choice.values, **_schedule(choice, num_images, machine)})


def _detector(has_masks: bool, machine: Machine) -> Choice:
    name = 'mask_rcnn' if has_masks else 'faster_rcnn'
    words = 'Mask R-CNN' if has_masks else 'Faster R-CNN'
    size, of_size = ('', 'ResNet-50') if machine.has_gpu else ('_small', 'MobileNetV2 at 400 x 300')
    base = f'custom/base_{name}{size}.py'
    missing = missing_weights(base_config(base))
    if not missing:
        return Choice(base, {}, f'{words}, {of_size}')
    if machine.is_offline:
        return Choice(
            f'custom/base_{name}_slim.py', {},
            f'{words}, slim, from the shipped weights: {missing[0]} is not on this machine')
    return Choice(base, {}, f'{words}, {of_size}; {missing[0]} is downloaded')


def _classifier(num_images: int, machine: Machine) -> Choice:
    depth = 50 if machine.has_gpu and num_images >= SMALL_SET else 18
    source = f'torchvision://resnet{depth}'
    backbone: Dict[str, Any] = dict(
        depth=depth, init_cfg=dict(type='Pretrained', checkpoint=source))
    text = f'ResNet-{depth}'
    if not is_here(source):
        text += f'; {source} is downloaded'
        if machine.is_offline:
            backbone['init_cfg'] = None
            text = f'ResNet-{depth} from scratch: {source} is not on this machine'
    model = dict(backbone=backbone, head=dict(in_channels=2048 if depth == 50 else 512))
    if machine.has_gpu:
        return Choice('custom/classifier_ft.py', dict(model=model), text)
    return Choice('custom/classifier_small.py', dict(model=model), f'{text}, at 112 pixels')


def _schedule(choice: Choice, num_images: int, machine: Machine) -> Dict[str, Any]:
    """Return the epochs, and the intervals that follow from them."""
    base = base_config(choice.base)
    steps = max(1, math.ceil(num_images / base.data.samples_per_gpu))  # in an epoch
    usual = base.runner.max_epochs
    epochs = min(math.ceil(STEPS[machine.has_gpu] / steps), MOST_LONGER * usual)
    epochs = max(epochs, usual if machine.has_gpu else LEAST_EPOCHS)
    interval = max(1, epochs // EVALUATIONS)
    warmup = min(base.lr_config.get('warmup_iters', 0), max(1, epochs * steps // 10))
    lr_config: Dict[str, Any] = dict(warmup_iters=warmup)
    if base.lr_config.policy == 'step':
        lr_config['step'] = sorted({max(1, round(share * epochs)) for share in PERIODS})
    return dict(
        runner=dict(max_epochs=epochs),
        lr_config=lr_config,
        checkpoint_config=dict(interval=interval),
        evaluation=dict(interval=interval),
        log_config=dict(interval=max(1, min(base.log_config.interval, steps))))


def base_config(name: str) -> Config:
    """Return a shipped config by its name."""
    return Config.fromfile(find_config(SCOPE + name))


def missing_weights(config: Config) -> List[str]:
    """Return the weights that a config names and that would be downloaded."""
    return [source for source in _sources(config) if not is_here(source)]


def _sources(config: Config) -> Iterator[str]:
    named = config.get('load_from')
    for value in [named] if isinstance(named, str) else named or ():
        yield str(value)
    for path, value in leaves(config.model, 'model'):
        if isinstance(value, str) and path.split('.')[-1] == 'checkpoint':
            yield value


def is_here(source: str) -> bool:
    """Check whether weights are a file of this machine, or in the cache of downloads."""
    scheme, separator, name = source.partition('://')
    if not separator:
        return osp.isfile(source)
    try:
        url: Optional[str] = sources.TABLES[scheme](name) if scheme in sources.TABLES else source
        return osp.isfile(download.cache_path(str(url)))
    except (CheckpointError, ValueError):
        return False
