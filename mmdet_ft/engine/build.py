"""Builds everything a run needs from a config, and runs it."""
import contextlib
import dataclasses
import logging
import math
import os
from typing import (Any, Callable, ContextManager, Dict, Iterator, List, Optional, Sequence, Tuple,
                    Union)

import torch
from torch import nn

from mmdet_ft.config.config import Config
from mmdet_ft.datasets.pipelines.shared.probe import check_own_transforms
from mmdet_ft.engine.batch_size import follow_world_size, images_per_step, scaled_rate
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.distributed.interruption import Interrupted
from mmdet_ft.engine.environment import (choose_device, choose_seed, dump_config, open_log, release,
                                         set_up_processes, warn_of_earlier_run, warn_of_missing_gpu)
from mmdet_ft.engine.failures import forensics, signals
from mmdet_ft.engine.failures.restart import resumes_after_restart
from mmdet_ft.engine.hooks.build import build_hooks
from mmdet_ft.engine.hooks.evaluation import EvalHook
from mmdet_ft.engine.hooks.monitoring import NumClassCheckHook, describe_trained_part
from mmdet_ft.engine.loaders import build_train_loader, build_workflow_datasets
from mmdet_ft.engine.models.build import (build_model, count_classes, initialize_weights,
                                          load_named, wrap)
from mmdet_ft.engine.models.labels import check_labels, check_learnable, warn_of_unused_outputs
from mmdet_ft.engine.optimizers.optimizer import build_optimizer
from mmdet_ft.engine.run_check import preflight, run_size
from mmdet_ft.engine.run_check.data import check_same_classes, log_data_report
from mmdet_ft.engine.run_check.overwriting import refuse_overwriting
from mmdet_ft.engine.runner.base import BaseRunner
from mmdet_ft.engine.runner.batch_of_one import check_last_batch
from mmdet_ft.engine.runner.batches import is_endless
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.runner.resume_state import newest_checkpoint
from mmdet_ft.engine.runner.seeds import seed_everything
from mmdet_ft.engine.settings.rate import settle_rate
from mmdet_ft.engine.settings.read import read_run_settings
from mmdet_ft.engine.settings.records import RunSettings
from mmdet_ft.engine.speed.acceleration import accelerate
from mmdet_ft.engine.speed.precision import build_precision
from mmdet_ft.engine.summary import describe_end, remove_interrupted_state
from mmdet_ft.errors import UserError
from mmdet_ft.registry import RUNNERS, note_building


def train(cfg: Config,
          validate: bool = True,
          seed: Optional[int] = None,
          diff_seed: bool = False,
          deterministic: bool = False,
          gpu_id: int = 0,
          model: Optional[nn.Module] = None,
          datasets: Optional[List[Any]] = None) -> BaseRunner:
    """Train the model of a config, and write V2's files to `cfg.work_dir`.

    Args:
        cfg: a Config or a dict of its values, with `work_dir` set. Its `load_from`, `resume_from` and
            `auto_resume` set the initial state.
        validate: evaluate as `cfg.evaluation` configures.
        seed: None takes that of the config or the resumed checkpoint, or samples one and logs it. Two runs with one
            seed see the same samples and use the same random numbers.
        diff_seed: other random numbers on each rank outside samples and steps too, which have seeds
            of their own anyway.
        deterministic: use deterministic implementations of all operations.
        gpu_id: in a run of one process.
        model: trained as it is, instead of the one of `cfg.model`; `load_from` is loaded into it.
        datasets: one for each entry of the workflow, instead of those of `cfg.data`.

    Returns the runner after the run. Raises UserError, ConfigError or FileNotFoundError for errors
    that a user can fix, and Interrupted when a signal has ended the run.
    """
    cfg = as_config(cfg, 'train')
    if not cfg.get('work_dir'):
        raise UserError(
            "the config has no work_dir for logs and checkpoints; write cfg.work_dir = 'work_dirs/NAME'"
        )
    try:
        run = assemble(
            cfg, validate, seed, diff_seed, deterministic, gpu_id, model=model, datasets=datasets)
        run.check()
        with run.record_failures():
            run.runner.run(run.loaders, run.settings.workflow)
        run.finish()
        return run.runner
    finally:
        release(cfg.work_dir)


def as_config(cfg: Union[Config, Dict[str, Any]], name: str) -> Config:
    """Return the argument of a function called `name` as a config; a dict becomes one.

    Raises UserError for a path, with the line that reads it, and for anything else.
    """
    if isinstance(cfg, Config):
        return cfg
    if isinstance(cfg, dict):
        return Config(cfg)
    if isinstance(cfg, (str, os.PathLike)):
        raise UserError(
            f'{name} takes a config that is read, got the path {os.fspath(cfg)!r}; write '
            f'cfg = load_config({os.fspath(cfg)!r}), of mmdet_ft.config, and {name}(cfg)')
    raise UserError(
        f'{name} takes a Config, or a dict of its values, got a {type(cfg).__name__}; write '
        f"cfg = load_config('configs/my/pets.py'), of mmdet_ft.config, and {name}(cfg)")


@dataclasses.dataclass(frozen=True)
class Run:
    """All parts of a run; `runner.run(loaders, settings.workflow)` starts it."""
    settings: RunSettings
    runner: BaseRunner
    loaders: List[Any]

    @property
    def train_loader(self) -> Any:
        return self.loaders[_index_of_training(self.settings)]

    @property
    def epoch_length(self) -> int:
        """Return the iterations of an epoch; for an endless loader those that see each image once."""
        loader = self.train_loader
        return math.ceil(len(loader.dataset) /
                         images_per_step(self.settings)) if is_endless(loader) else len(loader)

    def remarks(self) -> List[str]:
        """Return remarks on settings that do not fit the size of the run."""
        return run_size.remarks(self.runner, self.settings.rate, self.epoch_length,
                                images_per_step(self.settings), len(self.train_loader.dataset))

    def check(self) -> None:
        """Check what would end the run later: disk space, evaluation, last batch. Raises UserError."""
        if dist.get_dist_info()[0] == 0:
            run_size.log_remarks(self.runner.logger, self.remarks())
        preflight.before_run(self.runner)
        preflight.check_schedules(self.runner, len(self.train_loader))
        check_last_batch(self.runner, self.train_loader)

    @contextlib.contextmanager
    def record_failures(self) -> Iterator[None]:
        """End the run at signals after its iteration, and save the step of an error."""
        try:
            with signals.stop_on_signals(self.runner), forensics.record_failures(self.runner):
                yield
        except Interrupted as error:
            if self.runner.rank == 0:
                text = describe_end(self.runner, self.settings, is_interrupted=True)
                error.args = (f'{error}\n{text}', )
            raise

    def finish(self) -> None:
        """Log the files of the finished run and the commands for the next steps."""
        remove_interrupted_state(self.runner)
        self.runner.logger.info('The run is done:\n%s', describe_end(self.runner, self.settings))


def _index_of_training(settings: RunSettings) -> int:
    return [mode for mode, _ in settings.workflow].index('train')


def assemble(
    cfg: Config,
    validate: bool = True,
    seed: Optional[int] = None,
    diff_seed: bool = False,
    deterministic: bool = False,
    gpu_id: int = 0,
    item: Callable[[str], ContextManager] = lambda title: contextlib.nullcontext(),
    model: Optional[nn.Module] = None,
    datasets: Optional[List[Any]] = None,
) -> Run:
    """Build everything up to the first iteration; arguments as in `train`.

    item: entered with the title of each part, for a list of completed parts.
    """
    with item('config'):
        cfg, notes = prepare(cfg)
        settings = read_run_settings(cfg)
    with item('processes and log'):
        set_up_processes(settings.processes)
        settle_rate(cfg, images_per_step(settings))
        logger, timestamp, meta = open_log(cfg)
    if resumes_after_restart(settings.work_dir, logger):
        settings = _with_weights(settings, auto_resume=True, resume_from=None)
    for note in notes:
        logger.warning(note)

    seed = cfg.get('seed') if seed is None else seed
    with item('device and seed'):
        device = choose_device(gpu_id)
        if device.type == 'cpu':
            warn_of_missing_gpu(settings.processes.requested_devices, settings.keys, logger)
        cfg.resume_from = dist.broadcast_object(
            checkpoint_to_resume(settings, logger) if dist.get_dist_info()[0] == 0 else None)
        settings = _with_weights(settings, resume_from=cfg.resume_from)
        if not cfg.resume_from and dist.get_dist_info()[0] == 0:
            warn_of_earlier_run(settings.work_dir, logger)
        seed = load_named(settings.weights, cfg.resume_from,
                          lambda source: choose_seed(source, seed, logger))
        refuse_overwriting(settings, settings.work_dir)
    logger.info('Set random seed to %d, deterministic: %s', seed, deterministic)
    seed_everything(seed + (dist.get_dist_info()[0] if diff_seed else 0), deterministic)
    meta['seed'] = cfg.seed = seed

    with item('training data'):
        datasets = datasets or build_workflow_datasets(settings.data, settings.workflow)
        loaders = build_loaders(settings, datasets, seed)
        main_dataset = datasets[_index_of_training(settings)]
    with item('hooks and validation data'):
        hooks = build_hooks(settings, validate)

    with item('model and weights'):
        if count_classes(settings.model, getattr(main_dataset, 'CLASSES', None)):
            meta['config'] = dump_config(
                cfg, meta['exp_name'])  # a checkpoint may be used without these datasets
        model = prepare_model(settings, main_dataset, hooks, device, logger, model)
    logger.info('Model: %s, %s',
                type(getattr(model, 'module', model)).__name__, describe_trained_part(model))

    with item('optimizer and schedule'):
        runner = build_runner(settings, model, device, logger, meta, seed)
    runner.timestamp = timestamp
    for hook, priority in hooks:
        _register(runner, hook, priority)
    with item('data check'):
        check_datasets(settings, main_dataset, runner)

    if cfg.resume_from:
        runner.resume(cfg.resume_from)
        follow_world_size(runner, images_per_step(settings), settings.scales_rate)
    return Run(settings, runner, loaders)


def _with_weights(settings: RunSettings, **changes: Any) -> RunSettings:
    weights = dataclasses.replace(settings.weights, **changes)
    return dataclasses.replace(settings, weights=weights)


def checkpoint_to_resume(settings: RunSettings, logger: logging.Logger) -> Optional[str]:
    """Return `resume_from`, or with `auto_resume` the newest readable checkpoint of the run; None
    begins a new run."""
    weights = settings.weights
    if weights.resume_from or not weights.auto_resume:
        return weights.resume_from
    out_dir = (settings.hooks.checkpoint or {}).get('out_dir')
    return newest_checkpoint(settings.work_dir, out_dir, logger.warning)


def build_loaders(settings: RunSettings, datasets: Sequence[Any], seed: int) -> List[Any]:
    """Build the loader of each dataset of the workflow; raises UserError for a pipeline of a user's own
    transforms that gives other samples than it says."""
    runner_type = settings.runner['type']
    loaders = [
        build_train_loader(dataset, settings.data, seed, runner_type) for dataset in datasets
    ]
    dist.require_same([(len(loader.dataset), len(loader)) for loader in loaders],
                      'images and batches of an epoch')
    for dataset in datasets:
        check_own_transforms(dataset)
    return loaders


def prepare_model(settings: RunSettings,
                  dataset: Any,
                  hooks: Sequence[Tuple[Hook, Any]],
                  device: torch.device,
                  logger: logging.Logger,
                  given: Optional[nn.Module] = None) -> nn.Module:
    """Build the model with its initial weights on its device, or take the `given` one with its own.

    Raises UserError for a dataset whose labels or classes do not fit.
    """
    model = build_model(settings.model, dataset) if given is None else given
    if given is not None:
        if getattr(model, 'CLASSES', None) is None:
            model.CLASSES = dataset.CLASSES
        check_labels(dataset, model)
    if any(isinstance(hook, NumClassCheckHook) for hook, _ in hooks):
        NumClassCheckHook.refuse_other_num_classes(dataset, model)
    check_learnable(dataset, model)
    warn_of_unused_outputs(dataset, model)
    initialize_weights(model, settings.weights, logger, settings.work_dir, is_new=given is None)
    accelerate(model.to(device), settings.acceleration, device, logger)
    return wrap(model, settings.find_unused_parameters)


def build_runner(settings: RunSettings, model: nn.Module, device: torch.device,
                 logger: logging.Logger, meta: Dict[str, Any], seed: int) -> BaseRunner:
    """Build the runner with its optimizer, schedules and precision; still without hooks."""
    optimizer, rate = dict(settings.optimizer), scaled_rate(settings, logger)
    if rate is not None:
        optimizer['lr'] = rate
    precision = build_precision(settings.fp16, device)
    logger.info('Training on %s in %s', device, precision)
    return RUNNERS.build(
        dict(settings.runner),
        model=model,
        optimizer=build_optimizer(model, optimizer),
        work_dir=settings.work_dir,
        logger=logger,
        meta=meta,
        learning_rate=settings.learning_rate,
        momentum=settings.momentum,
        update=settings.update,
        precision=precision,
        seed=seed)


def check_datasets(settings: RunSettings, training: Any, runner: BaseRunner) -> None:
    """Log the report of the data, and refuse validation data of other classes or labels.

    Raises UserError.
    """
    evaluated = {
        'val': hook.dataloader.dataset
        for hook in runner.hooks if isinstance(hook, EvalHook)
    }
    if runner.rank == 0:
        log_data_report(settings, {'train': training, **evaluated}, runner.logger)
    for dataset in evaluated.values():
        check_same_classes(training, dataset)
        check_labels(dataset, getattr(runner.model, 'module', runner.model))


def _register(runner: BaseRunner, hook: Hook, priority: Any) -> None:
    try:
        runner.register_hook(hook, priority)
    except (TypeError, ValueError) as error:
        note_building(error, type(hook).__name__)
        raise
