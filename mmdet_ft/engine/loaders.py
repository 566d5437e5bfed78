"""Datasets and loaders of a run: `data` of a config."""
import copy
from typing import Any, Callable, Dict, List, Sequence, Tuple

from mmdet_ft.config.config import Config
from mmdet_ft.datasets.build import build_dataset, build_for_losses
from mmdet_ft.datasets.checks.split import innermost
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.loader import build_dataloader
from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.models.config_keys import place_of


def build_workflow_datasets(cfg: Config, workflow: Sequence[Tuple[str, int]]) -> List[Any]:
    """Build a dataset for each entry of the workflow; 'val' is the validation set in the training pipeline."""
    _check_workflow(workflow)
    datasets = []
    for mode, _ in workflow:
        if mode == 'train':
            datasets.append(_built(cfg, 'train', lambda: build_dataset(cfg.data.train)))
        else:
            pipeline = _pipeline_of(cfg.data.train)
            datasets.append(_built(cfg, 'val', lambda: build_for_losses(cfg.data.val, pipeline)))
    return datasets


def _built(cfg: Config, split: str, build: Callable[[], Any]) -> Any:
    """Build a dataset; errors of a missing file name the config key and its line."""
    try:
        return build()
    except (FileNotFoundError, DataError) as error:
        text = str(error)
        place = place_of(
            cfg, 'data',
            lambda path, value: path.startswith(f'data.{split}.') and path.split('.')[-1] in
            ('ann_file', 'proposal_file') and f"{value}' is" in text)
        if place and len(error.args) == 1:
            error.args = (f'{place}: {text}', )
        raise


def _check_workflow(workflow: Sequence[Tuple[str, int]]) -> None:
    modes = [mode for mode, _ in workflow]
    if 'train' not in modes or set(modes) - {'train', 'val'}:
        raise UserError(
            f"workflow must be like [('train', 1)] or [('train', 1), ('val', 1)], not {list(workflow)!r}"
        )


def _pipeline_of(split: Any) -> Any:
    """Return the pipeline of a training set, inside RepeatDataset and the like."""
    while isinstance(split, dict) and 'pipeline' not in split:
        split = split.get('dataset') or (split.get('datasets') or [{}])[0]
    return split[0]['pipeline'] if isinstance(split, (list, tuple)) else split['pipeline']


def train_loader_settings(cfg: Config, seed: int) -> Dict[str, Any]:
    """Return the arguments of build_dataloader for training: `data.samples_per_gpu` and the like,
    overridden by `data.train_dataloader`."""
    settings = dict(
        samples_per_gpu=2,
        workers_per_gpu=2,
        num_gpus=1,
        dist=dist.is_distributed(),
        seed=seed,
        runner_type=cfg.runner.type)
    for key in ('samples_per_gpu', 'workers_per_gpu', 'persistent_workers'):
        if key in cfg.data:
            if key != 'workers_per_gpu' and key in cfg.data.get('train_dataloader', {}):
                raise UserError(
                    f'data.{key} and data.train_dataloader.{key} are both set; keep the latter')
            settings[key] = cfg.data[key]
    settings.update(cfg.data.get('train_dataloader', {}))
    return settings


def test_loader_settings(cfg: Config, split: str, in_batches: bool = False) -> Dict[str, Any]:
    """Return the arguments of build_dataloader for 'val' or 'test': one sample at a time, or with
    `in_batches` the batch size of training, unless `data.<split>` overrides it."""
    settings = dict(workers_per_gpu=2, dist=dist.is_distributed(), shuffle=False)
    samples = cfg.data.get('samples_per_gpu', 1) if in_batches else 1
    if 'workers_per_gpu' in cfg.data:
        settings['workers_per_gpu'] = cfg.data.workers_per_gpu
    parts = cfg.data[split] if isinstance(cfg.data[split], (list, tuple)) else [cfg.data[split]]
    settings['samples_per_gpu'] = max(part.get('samples_per_gpu', samples) for part in parts)
    settings.update(cfg.data.get(f'{split}_dataloader', {}))
    return settings


def build_test_dataset(cfg: Config, split: str) -> Any:
    """Build the dataset of 'val' or 'test': all its images, with or without annotations."""
    data = copy.deepcopy(cfg.data[split])
    _set_test_mode(data)
    return _built(cfg, split, lambda: build_dataset(data))


def _set_test_mode(data: Any) -> None:
    """Set the test mode in the config of a dataset, of each in a list, and of those inside wrappers."""
    if isinstance(data, (list, tuple)):
        for part in data:
            _set_test_mode(part)
    elif isinstance(data, dict):
        data.pop('samples_per_gpu', None)
        held = [data[key] for key in ('dataset', 'datasets') if key in data]
        if held:
            data.pop('test_mode', None)
            _set_test_mode(held)
        else:
            data['test_mode'] = True


def build_test_loader(cfg: Config, split: str) -> Any:
    """Build the loader of 'val' or 'test', in order and without augmentation."""
    dataset = build_test_dataset(cfg, split)
    for part in getattr(dataset, 'datasets', [dataset]):
        if getattr(getattr(part, 'pipeline', None), 'transforms', None) == []:
            raise UserError(
                f"data.{split}.pipeline has no transform, and images become a batch by them; write "
                "[dict(type='LoadImageFromFile'), ..., dict(type='Collect', keys=['img'])]")
    in_batches = all(getattr(part, 'evaluated_in_batches', False) for part in innermost(dataset))
    return build_dataloader(dataset, **test_loader_settings(cfg, split, in_batches))
