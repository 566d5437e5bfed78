"""Records of the settings of a run."""
import dataclasses
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

from mmdet_ft.checkpoints.input_format import InputFormat
from mmdet_ft.datasets.loading.loader import LoaderSettings
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.optimizers.optimizer_step import Update
from mmdet_ft.engine.schedules.schedule import LearningRate, Momentum
from mmdet_ft.engine.settings.keys import ConfigKeys
from mmdet_ft.engine.settings.rate import Rate

# Settings of a part that the registry builds: its `type`, and the arguments of its constructor.
PartSettings = Dict[str, Any]


@dataclasses.dataclass(frozen=True)
class ProcessSettings:
    """Settings of this process and its workers.

    requested_devices: `device` and `gpu_ids`, as far as the config has them and they ask for a GPU.
    """
    opencv_num_threads: int = 0
    mp_start_method: Optional[str] = None
    cudnn_benchmark: bool = False
    requested_devices: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """`data` of a config: the datasets of each split, and the arguments of their loaders.

    train, val, test: settings of a dataset, a list of such, or None.
    common: `samples_per_gpu` and the like, as far as `data` has them.
    loaders: split -> `data.<split>_dataloader`.
    """
    keys: ConfigKeys
    train: Any = None
    val: Any = None
    test: Any = None
    common: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    loaders: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def split(self, name: str) -> Any:
        """Return the settings of the datasets of 'train', 'val' or 'test'."""
        return {'train': self.train, 'val': self.val, 'test': self.test}[name]

    @property
    def skips_bad_images(self) -> bool:
        """Return whether training leaves unreadable images out instead of ending."""
        return bool(self.loaders.get('train', {}).get('skip_bad_images'))

    def train_loader(self, **of_run: Any) -> LoaderSettings:
        """Return the settings of the training loader: `data.samples_per_gpu` and the like, overridden
        by `data.train_dataloader`; both override those of the run.

        Raises UserError for a value that both set."""
        own = self.loaders.get('train', {})
        for key in ('samples_per_gpu', 'persistent_workers'):
            if key in self.common and key in own:
                raise UserError(
                    f'data.{key} and data.train_dataloader.{key} are both set; keep the latter')
        defaults = dict(samples_per_gpu=2, workers_per_gpu=2)
        return LoaderSettings(**{**defaults, **of_run, **self.common, **own})

    def test_loader(self, split: str, in_batches: bool = False, **of_run: Any) -> LoaderSettings:
        """Return the settings of the loader of 'val' or 'test': one sample at a time, or with
        `in_batches` the batch size of training, unless `data.<split>` overrides it."""
        samples = self.common.get('samples_per_gpu', 1) if in_batches else 1
        parts = self.split(split)
        parts = parts if isinstance(parts, (list, tuple)) else [parts]
        return LoaderSettings(
            **{
                **of_run, 'workers_per_gpu': self.common.get('workers_per_gpu', 2),
                'shuffle': False,
                'samples_per_gpu': max(part.get('samples_per_gpu', samples) for part in parts),
                **self.loaders.get(split, {})
            })


@dataclasses.dataclass(frozen=True)
class WeightSettings:
    """The weights that a run begins from.

    load_from: a path, a URL, a list of these, or dict(checkpoint=..., ...); None begins at random.
    resume_from: a checkpoint of the run itself.
    auto_resume: resume the newest checkpoint of the work_dir, if there is one.
    input_format: of the images, to be compared with that of the weights.
    model: settings of the model, which may name weights of its own.
    """
    keys: ConfigKeys
    model: PartSettings
    input_format: InputFormat
    load_from: Any = None
    resume_from: Optional[str] = None
    auto_resume: bool = False


@dataclasses.dataclass(frozen=True)
class HookSettings:
    """The hooks of a run: `custom_hooks`, `checkpoint_config`, `evaluation`, `early_stop`, `log_config`."""
    custom: Sequence[PartSettings] = ()
    checkpoint: Optional[Dict[str, Any]] = None
    evaluation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    early_stop: Optional[Dict[str, Any]] = None
    loggers: Sequence[PartSettings] = ()
    log_interval: int = 10


@dataclasses.dataclass(frozen=True)
class Acceleration:
    """Optimizations of a step that change no result beyond rounding; see speed/acceleration.py."""
    channels_last: bool = False
    compile: Any = False  # True, or a dict of torch.compile's arguments
    cuda_graphs: bool = False
    triton: bool = False


@dataclasses.dataclass(frozen=True)
class TestSettings:
    """The settings of a test, and of all commands that look at a model or its data.

    model: settings of the model.
    fp16: `fp16`, in training also its equivalent in `optimizer_config`; None computes in float32. A test of V2
        reads `fp16` alone.
    keys: the keys of the config, for messages.
    """
    __test__ = False  # not a class of pytest
    model: PartSettings
    data: DataSettings
    processes: ProcessSettings
    hooks: HookSettings
    fp16: Optional[Dict[str, Any]]
    keys: ConfigKeys


@dataclasses.dataclass(frozen=True)
class RunSettings(TestSettings):
    """The settings of a training run.

    runner: settings of the runner: its type and length.
    by_epoch: whether the runner counts epochs.
    optimizer: settings of the optimizer.
    rate: the batch size of `optimizer.lr`; None if the config does not give one.
    scales_rate: `auto_scale_lr` is enabled.
    learning_rate, momentum: schedules; None leaves the values to the optimizer.
    find_unused_parameters: of DistributedDataParallel.
    """
    work_dir: str
    weights: WeightSettings
    runner: PartSettings
    by_epoch: bool
    workflow: Tuple[Tuple[str, int], ...]
    optimizer: PartSettings
    update: Update
    rate: Optional[Rate]
    scales_rate: bool
    learning_rate: Optional[LearningRate]
    momentum: Optional[Momentum]
    acceleration: Acceleration
    find_unused_parameters: bool
