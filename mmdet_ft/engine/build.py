"""Builds everything a run needs from a config, and runs it."""
import contextlib
import math
import os
from typing import Any, Callable, ContextManager, Dict, List, NamedTuple, Optional, Tuple, Union

from torch import nn

from mmdet_ft.config.config import Config
from mmdet_ft.datasets.loading.loader import build_dataloader
from mmdet_ft.datasets.pipelines.shared.probe import check_own_transforms
from mmdet_ft.engine.batch_size import (follow_world_size, images_per_step, scale_learning_rate,
                                        settle_rate)
from mmdet_ft.engine.config_check.check import prepare
from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.distributed.interruption import Interrupted
from mmdet_ft.engine.environment import (choose_device, choose_seed, keep_config, open_log, release,
                                         set_up_processes, tell_of_earlier_run, tell_of_missing_gpu)
from mmdet_ft.engine.failures import forensics, signals
from mmdet_ft.engine.failures.restart import go_on_after_restart
from mmdet_ft.engine.hooks.build import hooks_of
from mmdet_ft.engine.hooks.evaluation import EvalHook
from mmdet_ft.engine.hooks.monitoring import NumClassCheckHook, trained_part
from mmdet_ft.engine.loaders import build_workflow_datasets, train_loader_settings
from mmdet_ft.engine.models.build import begin_weights, build_model, count_classes, told, wrap
from mmdet_ft.engine.models.labels import check_labels, check_learnable
from mmdet_ft.engine.optimizers.optimizer import build_optimizer
from mmdet_ft.engine.optimizers.optimizer_step import read_fp16, read_update
from mmdet_ft.engine.run_check import preflight, run_size
from mmdet_ft.engine.run_check.data import check_same_classes, tell_about_data
from mmdet_ft.engine.run_check.overwriting import refuse_overwriting
from mmdet_ft.engine.runner.base import BaseRunner
from mmdet_ft.engine.runner.batch_of_one import check_last_batch
from mmdet_ft.engine.runner.batches import is_endless
from mmdet_ft.engine.runner.resume_state import resume_source
from mmdet_ft.engine.runner.seeds import seed_everything
from mmdet_ft.engine.schedules.schedule import build_learning_rate, build_momentum
from mmdet_ft.engine.speed.acceleration import accelerate
from mmdet_ft.engine.speed.precision import build_precision
from mmdet_ft.engine.summary import clear_up, last_words
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
        seed: None takes that of the resumed checkpoint, or samples one and logs it. Two runs with one
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
        return _run(
            assemble(
                cfg,
                validate,
                seed,
                diff_seed,
                deterministic,
                gpu_id,
                model=model,
                datasets=datasets))
    finally:
        release(cfg.work_dir)


def _run(run: 'Run') -> BaseRunner:
    runner = run.runner
    if dist.get_dist_info()[0] == 0:
        run_size.tell(
            runner.logger,
            run_size.remarks(runner, run.cfg, run.epoch_length, images_per_step(run.cfg),
                             len(run.train_loader.dataset)))
    preflight.before_run(runner)
    check_last_batch(runner, run.train_loader)
    try:
        with signals.stoppable(runner), forensics.recorded(runner):
            runner.run(run.loaders, run.workflow)
    except Interrupted as error:
        if runner.rank == 0:
            error.args = (f'{error}\n{last_words(runner, run.cfg, is_interrupted=True)}', )
        raise
    clear_up(runner)
    runner.logger.info('The run is done:\n%s', last_words(runner, run.cfg))
    return runner


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


class Run(NamedTuple):
    """All parts of a run; `runner.run(loaders, workflow)` starts it."""
    cfg: Config
    runner: BaseRunner
    loaders: List[Any]
    workflow: List[Tuple[str, int]]

    @property
    def train_loader(self) -> Any:
        return self.loaders[[mode for mode, _ in self.workflow].index('train')]

    @property
    def epoch_length(self) -> int:
        """Return the iterations of an epoch; for an endless loader those that see each image once."""
        loader = self.train_loader
        return math.ceil(len(loader.dataset) /
                         images_per_step(self.cfg)) if is_endless(loader) else len(loader)


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
    with item('work_dir'):
        set_up_processes(cfg)
        settle_rate(cfg, dist.get_dist_info()[1])
        logger, timestamp, meta = open_log(cfg)
    go_on_after_restart(cfg, logger)
    for note in notes:
        logger.warning(note)

    with item('device and seed'):
        device = choose_device(gpu_id)
        if device.type == 'cpu':
            tell_of_missing_gpu(cfg, logger)
        cfg.resume_from = dist.broadcast_object(
            resume_source(cfg, logger.warning) if dist.get_dist_info()[0] == 0 else None)
        if not cfg.resume_from and dist.get_dist_info()[0] == 0:
            tell_of_earlier_run(cfg.work_dir, logger)
        seed = told(cfg, cfg.resume_from, lambda source: choose_seed(source, seed, logger))
        refuse_overwriting(cfg, cfg.work_dir)
    logger.info('Set random seed to %d, deterministic: %s', seed, deterministic)
    seed_everything(seed + (dist.get_dist_info()[0] if diff_seed else 0), deterministic)
    meta['seed'] = cfg.seed = seed

    workflow = [tuple(entry) for entry in cfg.get('workflow') or [('train', 1)]]
    with item('training data'):
        datasets = datasets or build_workflow_datasets(cfg, workflow)
        loaders = [
            build_dataloader(dataset, **train_loader_settings(cfg, seed)) for dataset in datasets
        ]
        main_dataset = datasets[[mode for mode, _ in workflow].index('train')]
        dist.require_same([(len(loader.dataset), len(loader)) for loader in loaders],
                          'images and batches of an epoch')
        for dataset in datasets:
            check_own_transforms(dataset)
    with item('hooks and validation data'):
        by_epoch = RUNNERS.resolve(cfg.runner.type).by_epoch
        hooks = hooks_of(cfg, by_epoch, validate)

    with item('model and weights'):
        if count_classes(cfg.get('model'), getattr(main_dataset, 'CLASSES', None)):
            meta['config'] = keep_config(
                cfg, meta['exp_name'])  # a checkpoint may be used without these datasets
        is_given = model is not None
        model = model if is_given else build_model(cfg, main_dataset)
        if is_given:
            if getattr(model, 'CLASSES', None) is None:
                model.CLASSES = main_dataset.CLASSES
            check_labels(main_dataset, model)
        if any(isinstance(hook, NumClassCheckHook) for hook, _ in hooks):
            NumClassCheckHook.refuse_other_number(main_dataset, model)
        check_learnable(main_dataset, model)
        begin_weights(model, cfg, logger, initialise=not is_given)
        accelerate(model.to(device), cfg, device, logger)
        model = wrap(model, cfg)
    logger.info('Model: %s, %s',
                type(getattr(model, 'module', model)).__name__, trained_part(model))

    with item('optimizer and schedule'):
        scale_learning_rate(cfg, dist.get_dist_info()[1], logger)
        precision = build_precision(read_fp16(cfg), device)
        logger.info('Training on %s in %s', device, precision)
        runner: BaseRunner = RUNNERS.build(
            dict(cfg.runner),
            model=model,
            optimizer=build_optimizer(model, cfg.optimizer),
            work_dir=cfg.work_dir,
            logger=logger,
            meta=meta,
            learning_rate=_schedule(cfg, 'lr_config', build_learning_rate, by_epoch),
            momentum=_schedule(cfg, 'momentum_config', build_momentum, by_epoch),
            update=read_update(cfg.get('optimizer_config')),
            precision=precision,
            seed=seed)
    runner.timestamp = timestamp
    for hook, priority in hooks:
        _register(runner, hook, priority)
    watched = {
        'val': hook.dataloader.dataset
        for hook in runner.hooks if isinstance(hook, EvalHook)
    }
    with item('what the data say'):
        if dist.get_dist_info()[0] == 0:
            tell_about_data(cfg, {'train': main_dataset, **watched}, logger)
        for dataset in watched.values():
            check_same_classes(main_dataset, dataset)
            check_labels(dataset, getattr(model, 'module', model))

    if cfg.resume_from:
        runner.resume(cfg.resume_from)
        follow_world_size(runner, cfg)
    return Run(cfg, runner, loaders, workflow)


def _schedule(cfg: Config, key: str, build: Callable[..., Any], by_epoch: bool) -> Any:
    """Build the schedule of a section of the config; None without one."""
    try:
        return cfg.get(key) and build(cfg[key], by_epoch)
    except ValueError as error:
        note_building(error, key)
        raise


def _register(runner: BaseRunner, hook: Any, priority: Any) -> None:
    try:
        runner.register_hook(hook, priority)
    except (TypeError, ValueError) as error:
        note_building(error, type(hook).__name__)
        raise
