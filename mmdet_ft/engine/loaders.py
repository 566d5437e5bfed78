"""Datasets and loaders of a run: `data` of a config."""
import copy
from typing import Any, Callable, List, Sequence, Tuple

from torch.utils.data import DataLoader

from mmdet_ft.datasets.build import build_dataset, build_for_losses
from mmdet_ft.datasets.checks.split import innermost
from mmdet_ft.datasets.errors import DataError
from mmdet_ft.datasets.loading.loader import build_loader
from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.settings.records import DataSettings


def build_workflow_datasets(data: DataSettings, workflow: Sequence[Tuple[str, int]]) -> List[Any]:
    """Build a dataset for each entry of the workflow; 'val' is the validation set in the training pipeline."""
    _check_workflow(workflow)
    datasets = []
    for mode, _ in workflow:
        if mode == 'train':
            datasets.append(_built(data, 'train', lambda: build_dataset(data.train)))
        else:
            pipeline = _pipeline_of(data.train)
            val = _require_split(data, 'val')
            datasets.append(_built(data, 'val', lambda: build_for_losses(val, pipeline)))
    return datasets


def _built(data: DataSettings, split: str, build: Callable[[], Any]) -> Any:
    """Build a dataset; errors of a missing file name the config key and its line."""
    try:
        return build()
    except (FileNotFoundError, DataError) as error:
        text = str(error)
        key = data.keys.find(
            'data', lambda path, value: path.startswith(f'data.{split}.') and path.split('.')[-1] in
            ('ann_file', 'proposal_file') and f"{value}' is" in text)
        if key and len(error.args) == 1:
            error.args = (f'{key}: {text}', )
        raise


def _require_split(data: DataSettings, name: str) -> Any:
    """Return the settings of a split's datasets; raises UserError without any."""
    settings = data.split(name)
    if not settings:
        raise UserError(
            f'the config has no data.{name}; write data = dict({name}=dict(type=..., ann_file=..., pipeline=...))'
        )
    return settings


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


def build_train_loader(dataset: Any, data: DataSettings, seed: int, runner_type: str) -> DataLoader:
    """Build the loader of a training set, or of a validation set for its losses."""
    settings = data.train_loader(dist=dist.is_distributed(), seed=seed, runner_type=runner_type)
    return build_loader(dataset, settings)


def build_test_dataset(data: DataSettings, split: str) -> Any:
    """Build the dataset of 'val' or 'test': all its images, with or without annotations."""
    settings = copy.deepcopy(_require_split(data, split))
    _set_test_mode(settings)
    return _built(data, split, lambda: build_dataset(settings))


def _set_test_mode(settings: Any) -> None:
    """Set the test mode in the settings of a dataset, of each in a list, and of those inside wrappers."""
    if isinstance(settings, (list, tuple)):
        for part in settings:
            _set_test_mode(part)
    elif isinstance(settings, dict):
        settings.pop('samples_per_gpu', None)
        held = [settings[key] for key in ('dataset', 'datasets') if key in settings]
        if held:
            settings.pop('test_mode', None)
            _set_test_mode(held)
        else:
            settings['test_mode'] = True


def build_test_loader(data: DataSettings, split: str) -> DataLoader:
    """Build the loader of 'val' or 'test', in order and without augmentation."""
    dataset = build_test_dataset(data, split)
    for part in getattr(dataset, 'datasets', [dataset]):
        if getattr(getattr(part, 'pipeline', None), 'transforms', None) == []:
            raise UserError(
                f"data.{split}.pipeline has no transform, and images become a batch by them; write "
                "[dict(type='LoadImageFromFile'), ..., dict(type='Collect', keys=['img'])]")
    in_batches = all(getattr(part, 'evaluated_in_batches', False) for part in innermost(dataset))
    return build_loader(dataset, data.test_loader(split, in_batches, dist=dist.is_distributed()))
