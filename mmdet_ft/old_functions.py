"""V2's functions for scripts and notebooks, with V2's arguments; exported by `mmdet_ft.apis`."""
import copy
import warnings
from types import SimpleNamespace
from typing import Any, Dict, List, Optional, Sequence, Union

from torch import nn
from torch.utils.data import DataLoader

from mmdet_ft.config.config import Config
from mmdet_ft.datasets.loading.sample_images import image_files
from mmdet_ft.engine.build import as_config, train
from mmdet_ft.engine.distributed.dist import sync_random_seed
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.evaluate import multi_gpu_test as collect_results_of_all
from mmdet_ft.engine.evaluate import run_over
from mmdet_ft.engine.models.build import build_model
from mmdet_ft.engine.reporting.painting import Painter
from mmdet_ft.engine.runner.seeds import seed_everything
from mmdet_ft.engine.speed.device_option import take_device_option
from mmdet_ft.outputs import Inputs, PictureNames


def build_detector(cfg: Dict[str, Any],
                   train_cfg: Optional[Dict[str, Any]] = None,
                   test_cfg: Optional[Dict[str, Any]] = None) -> nn.Module:
    """Build the model of `cfg`, the `model` of a config, with random weights; a classifier too.

    train_cfg and test_cfg are used unless `cfg` has its own. Raises UserError for num_classes='auto', which is
    counted from a dataset.
    """
    if not isinstance(cfg, (dict, Config)):
        raise UserError(
            f'build_detector takes the model of a config, a dict with its type, got {cfg!r:.80}; write '
            "build_detector(load_config('configs/my/pets.py').model)")
    if 'type' not in cfg and 'model' in cfg:
        raise UserError('build_detector takes the model of a config: build_detector(cfg.model)')
    settings = copy.deepcopy(dict(cfg))
    for key, value in (('train_cfg', train_cfg), ('test_cfg', test_cfg)):
        if value is not None:
            if settings.get(key) is not None:
                raise UserError(f'{key} is in the model already; leave it out of build_detector')
            settings[key] = value
    return build_model(settings, SimpleNamespace(CLASSES=None))


def train_detector(model: nn.Module,
                   dataset: Union[Any, Sequence[Any]],
                   cfg: Union[Config, Dict[str, Any]],
                   distributed: bool = False,
                   validate: bool = False,
                   timestamp: Optional[str] = None,
                   meta: Optional[Dict[str, Any]] = None) -> Any:
    """Train `model`, as it is, on `dataset` with the settings of `cfg`; return the runner.

    Args:
        model: of `build_detector`. `cfg.load_from` and `cfg.resume_from` are loaded into it.
        dataset: returned by `build_dataset`, or a list with one for each entry of `cfg.workflow`.
        cfg: a Config or a dict of its values, with `work_dir`.
        distributed: ignored; a call of `init_dist` is detected.
        validate: evaluate according to `cfg.evaluation`.
        timestamp, meta: of V2's tools; the run writes its own.
    """
    cfg = as_config(cfg, 'train_detector')
    if not cfg.get('work_dir'):
        raise UserError(
            "train_detector needs to know where to write: cfg.work_dir = 'work_dirs/mine'")
    datasets = list(dataset) if isinstance(dataset, (list, tuple)) else [dataset]
    return train(cfg, validate, seed=cfg.get('seed'), model=model, datasets=datasets)


def train_model(model: nn.Module,
                dataset: Union[Any, Sequence[Any]],
                cfg: Config,
                distributed: bool = False,
                validate: bool = False,
                timestamp: Optional[str] = None,
                device: Optional[str] = None,
                meta: Optional[Dict[str, Any]] = None) -> Any:
    """Train a classifier as `train_detector` trains a detector: MMClassification's name.

    device: 'cpu', or 'cuda', the default if available.
    """
    take_device_option(device)
    return train_detector(model, dataset, cfg, distributed, validate, timestamp, meta)


def set_random_seed(seed: int, deterministic: bool = False) -> None:
    """Seed Python's, numpy's and torch's generators. (A run uses the seed that `train` is given.)"""
    seed_everything(seed, deterministic)


def init_random_seed(seed: Optional[int] = None, device: str = 'cuda') -> int:
    """Return `seed`, or a random one; the same in all processes."""
    return sync_random_seed(seed)


def single_gpu_test(model: nn.Module,
                    data_loader: DataLoader,
                    show: bool = False,
                    out_dir: Optional[str] = None,
                    show_score_thr: float = 0.3) -> List[Any]:
    """Run a model on the samples of a loader, in order; return V2's results for `dataset.evaluate`.

    `show` opens a window for each image; `out_dir` gets a picture of each, with scores from `show_score_thr`.
    Raises OutputError for a folder with images of the dataset.
    """
    watch = None
    if show or out_dir:
        dataset = data_loader.dataset
        pictures = None
        if out_dir:
            pictures = PictureNames(out_dir, Inputs(), 'out_dir').take_all(image_files(dataset))
        classes = getattr(getattr(model, 'module', model), 'CLASSES', None) or dataset.CLASSES
        watch = Painter(dataset, classes, pictures, show_score_thr, wait_time=0 if show else None)
    return run_over(model, data_loader, watch=watch)


def multi_gpu_test(model: nn.Module,
                   data_loader: DataLoader,
                   tmpdir: Optional[str] = None,
                   gpu_collect: bool = False) -> Optional[List[Any]]:
    """Run `single_gpu_test` in several processes, each on its part; return all results on rank 0, else None."""
    return collect_results_of_all(model, data_loader, tmpdir, gpu_collect)


def replace_ImageToTensor(pipelines: Sequence[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Copy a pipeline with DefaultFormatBundle instead of ImageToTensor. Batches do not need it here."""
    changed = copy.deepcopy(list(pipelines))
    for index, step in enumerate(changed):
        if step.get('type') == 'ImageToTensor':
            warnings.warn(
                '"ImageToTensor" is replaced by "DefaultFormatBundle"; here either makes batches')
            changed[index] = dict(type='DefaultFormatBundle')
        elif 'transforms' in step:
            step['transforms'] = replace_ImageToTensor(step['transforms'])
    return changed
