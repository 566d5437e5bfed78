"""From a config to everything a run needs, and the run."""
import contextlib
import copy
import inspect
import json
import math
import os
import platform
import random
from typing import Any, Callable, ContextManager, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import nn

from mmdet_ft import __version__
from mmdet_ft.checkpoints import fitting, reading, writing
from mmdet_ft.checkpoints.facts import Facts, facts_of
from mmdet_ft.config import Config
from mmdet_ft.datasets.build import build_dataset, build_for_losses
from mmdet_ft.datasets.loader import build_dataloader
from mmdet_ft.engine import dist
from mmdet_ft.engine.acceleration import accelerate
from mmdet_ft.engine.checks import manners, preflight
from mmdet_ft.engine.checks.config import prepare
from mmdet_ft.engine.checks.data import tell_about_data
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.failures import forensics, signals
from mmdet_ft.engine.failures.restart import go_on_after_restart
from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.hooks.checks import (ProgressBarHook, SkippedImagesHook, dataset_name,
                                          trained_part)
from mmdet_ft.engine.hooks.early_stop import EarlyStopHook
from mmdet_ft.engine.hooks.evaluation import DistEvalHook, EvalHook
from mmdet_ft.engine.hooks.hook import Hook
from mmdet_ft.engine.log import collect_env, get_root_logger, on_terminal, time_string
from mmdet_ft.engine.optimizer import build_optimizer
from mmdet_ft.engine.precision import build_precision
from mmdet_ft.engine.runner import INERT_OF_UPDATE, BaseRunner, Update, is_endless
from mmdet_ft.engine.schedules import build_learning_rate, build_momentum
from mmdet_ft.models.layers import unsynchronise
from mmdet_ft.registry import HOOKS, MODELS, RUNNERS


def train(cfg: Config,
          validate: bool = True,
          seed: Optional[int] = None,
          diff_seed: bool = False,
          deterministic: bool = False,
          gpu_id: int = 0) -> BaseRunner:
    """Train what a config describes, and leave V2's files in `cfg.work_dir`.

    Args:
        cfg: with `work_dir` set. `load_from`, `resume_from` and `auto_resume` say what it begins
            from.
        validate: evaluate as `cfg.evaluation` says.
        seed: drawn at random, and logged, if None. Two runs with one seed see the same samples and
            draw the same numbers.
        diff_seed: other draws on each rank outside samples and steps too; those follow from their
            place anyway.
        deterministic: ask every operation for its reproducible form.
        gpu_id: in a run of one process.

    Returns the runner after the run. Raises UserError, ConfigError or FileNotFoundError for what a
    user can mend, and Interrupted when a signal has ended the run.
    """
    run = assemble(cfg, validate, seed, diff_seed, deterministic, gpu_id)
    runner = run.runner
    if dist.get_dist_info()[0] == 0:
        manners.tell(runner.logger,
                     manners.remarks(runner, run.cfg, run.epoch_length, images_per_step(run.cfg)))
    preflight.before_run(runner)
    with signals.stoppable(runner), forensics.recorded(runner):
        runner.run(run.loaders, run.workflow)
    return runner


class Run(NamedTuple):
    """All that a run needs; `runner.run(loaders, workflow)` starts it."""
    cfg: Config
    runner: BaseRunner
    loaders: List[Any]
    workflow: List[Tuple[str, int]]

    @property
    def train_loader(self) -> Any:
        return self.loaders[[mode for mode, _ in self.workflow].index('train')]

    @property
    def epoch_length(self) -> int:
        """Iterations; for a loader without end those that see each image once."""
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
    item: Callable[[str], ContextManager] = lambda title: contextlib.nullcontext()
) -> Run:
    """Make everything up to the first iteration; arguments as `train`'s.

    item: entered with the title of each part, for a list of what went well.
    """
    with item('config'):
        cfg, notes = prepare(cfg)
    with item('work_dir'):
        set_up_processes(cfg)
        logger, timestamp, meta = open_log(cfg)
    go_on_after_restart(cfg, logger)
    for note in notes:
        logger.warning(note)

    device = choose_device(gpu_id)
    seed = dist.sync_random_seed(seed)
    logger.info('Set random seed to %d, deterministic: %s', seed, deterministic)
    seed_everything(seed + (dist.get_dist_info()[0] if diff_seed else 0), deterministic)
    meta['seed'] = cfg.seed = seed

    workflow = [tuple(entry) for entry in cfg.get('workflow') or [('train', 1)]]
    with item('training data'):
        datasets = build_workflow_datasets(cfg, workflow)
        loaders = [
            build_dataloader(dataset, **train_loader_settings(cfg, seed)) for dataset in datasets
        ]
        main_dataset = datasets[[mode for mode, _ in workflow].index('train')]
    with item('hooks and validation data'):
        by_epoch = RUNNERS.resolve(cfg.runner.type).by_epoch
        hooks = hooks_of(cfg, by_epoch, validate)

    with item('model and weights'):
        cfg.resume_from = dist.broadcast_object(
            resume_source(cfg, logger.warning) if dist.get_dist_info()[0] == 0 else None)
        model = build_model(cfg, main_dataset)
        begin_weights(model, cfg, logger)
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
            learning_rate=cfg.get('lr_config') and build_learning_rate(cfg.lr_config, by_epoch),
            momentum=cfg.get('momentum_config') and build_momentum(cfg.momentum_config, by_epoch),
            update=read_update(cfg.get('optimizer_config')),
            precision=precision,
            seed=seed)
    runner.timestamp = timestamp
    for hook, priority in hooks:
        runner.register_hook(hook, priority)
    watched = {
        'val': hook.dataloader.dataset
        for hook in runner.hooks if isinstance(hook, EvalHook)
    }
    if dist.get_dist_info()[0] == 0:
        tell_about_data(cfg, {'train': main_dataset, **watched}, logger)
    for dataset in watched.values():
        check_same_classes(main_dataset, dataset)

    if cfg.resume_from:
        runner.resume(cfg.resume_from)
        follow_world_size(runner, cfg)
    return Run(cfg, runner, loaders, workflow)


# -------------------------------------------------------------------------------- before the models


def set_up_processes(cfg: Config) -> None:
    """How loader processes start, and that they do not fight for cores."""
    import cv2
    cv2.setNumThreads(cfg.get('opencv_num_threads', 0))
    if platform.system() != 'Windows' and cfg.get('mp_start_method'):
        torch.multiprocessing.set_start_method(cfg.mp_start_method, force=True)
    if cfg.get('cudnn_benchmark'):
        torch.backends.cudnn.benchmark = True


def open_log(cfg: Config) -> Tuple[Any, str, Dict[str, Any]]:
    """Make the work_dir with the config as it runs; returns the logger, the run's time and V2's
    `meta`."""
    rank, world_size = dist.get_dist_info()
    name = os.path.basename(cfg.filename or 'config.py')
    timestamp = dist.broadcast_object(time_string())
    try:
        os.makedirs(cfg.work_dir, exist_ok=True)
        logger = get_root_logger(
            os.path.join(cfg.work_dir, f'{timestamp}.log'), cfg.get('log_level', 'INFO'))
        if rank == 0:
            cfg.dump(os.path.join(cfg.work_dir, name))
    except OSError as error:
        raise UserError(f'cannot write to work_dir {cfg.work_dir!r}: {error.strerror or error} '
                        f'({error.filename}); name another with --work-dir') from None
    env_info = '\n'.join(f'{key}: {value}' for key, value in collect_env().items())
    text = cfg.pretty_text if rank == 0 else ''  # yapf takes its time; only rank 0 writes
    logger.info('Environment info:\n%s', env_info)
    logger.info('Distributed training: %s (%d processes)', world_size > 1, world_size)
    logger.info('Config:\n%s', text)
    return logger, timestamp, dict(
        env_info=env_info, config=text, exp_name=name, mmdet_version=f'mmdet_ft {__version__}')


def choose_device(gpu_id: int = 0) -> torch.device:
    """This process's GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device('cpu')
    index = dist.local_rank() if dist.is_distributed() else gpu_id
    torch.cuda.set_device(index % torch.cuda.device_count())
    return torch.device('cuda', torch.cuda.current_device())


def seed_everything(seed: int, deterministic: bool = False) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(
            True, warn_only=True)  # names what has no reproducible form


# --------------------------------------------------------------------------------------------- data


def build_workflow_datasets(cfg: Config, workflow: Sequence[Tuple[str, int]]) -> List[Any]:
    """A data set for each entry of the workflow; 'val' is the validation set in the training
    pipeline."""
    _check_workflow(workflow)
    datasets = []
    for mode, _ in workflow:
        if mode == 'train':
            datasets.append(build_dataset(cfg.data.train))
        else:
            datasets.append(build_for_losses(cfg.data.val, _pipeline_of(cfg.data.train)))
    return datasets


def _check_workflow(workflow: Sequence[Tuple[str, int]]) -> None:
    modes = [mode for mode, _ in workflow]
    if 'train' not in modes or set(modes) - {'train', 'val'}:
        raise UserError(
            f"workflow must be like [('train', 1)] or [('train', 1), ('val', 1)], not {list(workflow)!r}"
        )


def _pipeline_of(split: Any) -> Any:
    """The pipeline of a training set, inside RepeatDataset and its like."""
    while isinstance(split, dict) and 'pipeline' not in split:
        split = split.get('dataset') or (split.get('datasets') or [{}])[0]
    return split[0]['pipeline'] if isinstance(split, (list, tuple)) else split['pipeline']


def train_loader_settings(cfg: Config, seed: int) -> Dict[str, Any]:
    """Arguments of build_dataloader for training: `data.samples_per_gpu` and such, over which
    `data.train_dataloader`."""
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


def test_loader_settings(cfg: Config, split: str) -> Dict[str, Any]:
    """Arguments of build_dataloader for 'val' or 'test': one sample at a time unless `data.<split>`
    says otherwise."""
    settings = dict(samples_per_gpu=1, workers_per_gpu=2, dist=dist.is_distributed(), shuffle=False)
    if 'workers_per_gpu' in cfg.data:
        settings['workers_per_gpu'] = cfg.data.workers_per_gpu
    parts = cfg.data[split] if isinstance(cfg.data[split], (list, tuple)) else [cfg.data[split]]
    settings['samples_per_gpu'] = max(part.get('samples_per_gpu', 1) for part in parts)
    settings.update(cfg.data.get(f'{split}_dataloader', {}))
    return settings


def build_test_loader(cfg: Config, split: str) -> Any:
    """The loader of 'val' or 'test', in order and without augmentation."""
    data = copy.deepcopy(cfg.data[split])
    for part in data if isinstance(data, (list, tuple)) else [data]:
        part.pop('samples_per_gpu', None)
        part['test_mode'] = True
    return build_dataloader(build_dataset(data), **test_loader_settings(cfg, split))


# ------------------------------------------------------------------------------------------ weights


def build_model(cfg: Config, dataset: Any) -> nn.Module:
    """The model with random weights; it knows the classes of the data set, and `num_classes='auto'`
    anywhere in it is their number."""
    settings = copy.deepcopy(cfg.model)
    count_classes(settings, getattr(dataset, 'CLASSES', None))
    if cancel_pretrained(settings):
        get_root_logger().info(
            'model.pretrained=None: backbone.init_cfg is not used, nothing is downloaded for it')
    model = MODELS.build(settings)
    model.CLASSES = getattr(dataset, 'CLASSES', None)
    model.PALETTE = getattr(dataset, 'PALETTE', None)
    return model


def count_classes(settings: Any, classes: Optional[Sequence[str]], path: str = 'model') -> None:
    """Put the number of classes where a model's settings say num_classes='auto'."""
    if isinstance(settings, dict):
        if settings.get('num_classes') == 'auto':
            if not classes:
                raise UserError(
                    f"{path}.num_classes='auto' needs to know the classes: write classes=(...) in "
                    f'data.train, data.val and data.test')
            settings['num_classes'] = len(classes)
        for key, value in settings.items():
            count_classes(value, classes, f'{path}.{key}')
    elif isinstance(settings, (list, tuple)):
        for place, value in enumerate(settings):
            count_classes(value, classes, f'{path}.{place}')


def cancel_pretrained(model: Dict[str, Any]) -> bool:
    """Take `Pretrained` out of the backbone's init_cfg if the config says `pretrained=None`.

    V2's tutorials write that to begin without ImageNet weights; the bases since 2.11 name them in
    init_cfg, which V2 then downloads all the same.
    """
    backbone = model.get('backbone')
    if 'pretrained' not in model or model['pretrained'] is not None or not isinstance(
            backbone, dict):
        return False
    if (backbone.get('init_cfg') or {}).get('type') != 'Pretrained':
        return False
    backbone['init_cfg'] = None
    return True


def begin_weights(model: nn.Module, cfg: Config, logger: Any) -> None:
    """Initialise, and load `load_from` over it. What a checkpoint brings anyway is not downloaded
    first. What became of each weight stands in `load_from.json` of the work_dir."""
    resumed = cfg.get('resume_from')
    source = resumed or cfg.get('load_from')
    begin = fitting.parse_load_from(source) if source else None
    checkpoint = begin and dist.first_on_main(lambda: reading.read(begin.checkpoint, begin.trust))
    if fitting.covers(checkpoint, model) and drop_pretrained(model.backbone):
        logger.info(
            '%s has the whole backbone: backbone.init_cfg is not used, nothing is downloaded for it',
            checkpoint.source)
    dist.first_on_main(lambda: _initialise(model, facts_of(cfg)))
    if checkpoint is not None and not resumed:
        report = fitting.fit(model, checkpoint, begin.strict, begin.heads, begin.aliases,
                             facts_of(cfg))
        logger.info(str(report))
        if cfg.get('work_dir') and dist.get_dist_info()[0] == 0:
            with open(os.path.join(cfg.work_dir, 'load_from.json'), 'w', encoding='utf-8') as file:
                json.dump(report.as_json(), file, indent=1)


def _initialise(model: nn.Module, run: Facts) -> None:
    if hasattr(model, 'init_weights'):
        if 'load' in inspect.signature(model.init_weights).parameters:
            model.init_weights(load=fitting.pretrained_loader(run))
        else:
            model.init_weights()


def drop_pretrained(module: nn.Module) -> bool:
    """Forget `init_cfg=dict(type='Pretrained', ...)` of a module; whether there was one."""
    init_cfg = getattr(module, 'init_cfg', None)
    if not isinstance(init_cfg, dict) or init_cfg.get('type') != 'Pretrained':
        return False
    module.init_cfg = None
    return True


def resume_source(cfg: Config, tell: Callable[[str], None] = lambda message: None) -> Optional[str]:
    """`resume_from`, or with `auto_resume` the newest checkpoint of the work_dir that can be read;
    `tell` hears of those that cannot."""
    if cfg.get('resume_from') or not cfg.get('auto_resume'):
        return cfg.get('resume_from')
    folders = [cfg.work_dir]
    if (cfg.get('checkpoint_config') or {}).get('out_dir'):
        name = os.path.basename(os.path.abspath(cfg.work_dir))
        folders.append(os.path.join(cfg.checkpoint_config.out_dir, name))
    found = [writing.find_latest_checkpoint(folder, tell) for folder in folders]
    found = [path for path in found if path is not None]
    if not found:
        tell(
            f'auto_resume: {" and ".join(folders)} hold no checkpoint to go on from; the run begins anew'
        )
        return None
    return max(found, key=lambda path: reading.read(path).meta.get('iter', -1))


def wrap(model: nn.Module, cfg: Config) -> nn.Module:
    """In DistributedDataParallel where there are several processes.

    Buffers are not broadcast at each step: norm statistics are, before an evaluation.
    """
    if next(model.parameters()).device.type == 'cpu' and unsynchronise(model):
        get_root_logger().warning('SyncBN needs GPUs: on the CPU it is BN')
    # V2 wraps a model in one process too, and its users' hooks read runner.model.module. Past nn.Module's own
    # bookkeeping, so that the model is not a part of itself.
    vars(model)['module'] = model
    if not dist.is_distributed():
        return model
    data_parallel = nn.parallel.DistributedDataParallel
    new_name = 'forward_sync_buffers' in inspect.signature(
        data_parallel).parameters  # torch 2.13; the old one warns
    return data_parallel(
        model,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
        **{'forward_sync_buffers' if new_name else 'broadcast_buffers': False})


# ----------------------------------------------------------------------------------------- settings


def images_per_step(cfg: Config) -> int:
    """Of all processes."""
    per_process = train_loader_settings(cfg, 0)['samples_per_gpu']
    return per_process * dist.get_dist_info()[1] * read_update(
        cfg.get('optimizer_config')).cumulative_iters


def follow_world_size(runner: BaseRunner, cfg: Config) -> None:
    """Say what becomes of the learning rate when a run is resumed by another number of processes.

    With `auto_scale_lr` it follows the images of a step; otherwise it stays, as in V2.
    """
    before, now = runner.resumed.world_size, runner.world_size
    if before in (None, now):
        return
    images = images_per_step(cfg)
    what = (f'resumed by {now} processes instead of {before}: a step has {images} images instead of '
            f'{images * before // now}')
    rate = runner.optimizer.param_groups[0].get('initial_lr', runner.current_lr()[0])
    if not (cfg.get('auto_scale_lr') or {}).get('enable'):
        runner.logger.warning(
            '%s. The learning rate stays %g; in proportion it would be %g, which auto_scale_lr=dict(enable=True, '
            'base_batch_size=...) does', what, rate, rate * now / before)
        return
    for group in runner.optimizer.param_groups:
        for key in ('lr', 'initial_lr'):
            if key in group:
                group[key] *= now / before
    runner.logger.warning('%s. auto_scale_lr: the learning rate changes from %g to %g', what, rate,
                          rate * now / before)


def scale_learning_rate(cfg: Config, num_processes: int, logger: Any) -> None:
    """`auto_scale_lr`: the rate in proportion to the images of a step (Goyal et al. 2017, sec.
    2.1)."""
    settings = cfg.get('auto_scale_lr') or {}
    base = settings.get('base_batch_size')
    if not settings.get('enable') or base is None:
        logger.info('Automatic scaling of learning rate (LR) has been disabled.')
        return
    per_process = train_loader_settings(cfg, 0)['samples_per_gpu']
    batch = num_processes * per_process
    before = cfg.optimizer.lr
    cfg.optimizer.lr = before * batch / base
    logger.info(
        '%d process(es) with %d samples make a batch of %d; optimizer.lr = %g is meant for %d: it becomes %g',
        num_processes, per_process, batch, before, base, cfg.optimizer.lr)


# V2's hook types as `optimizer_config.type`: what they did is done by the loop.
OPTIMIZER_HOOKS = ('OptimizerHook', 'Fp16OptimizerHook', 'GradientCumulativeOptimizerHook',
                   'GradientCumulativeFp16OptimizerHook')


def read_fp16(cfg: Config) -> Optional[Dict[str, Any]]:
    """`fp16`, or the half precision that an Fp16 hook of V2 in `optimizer_config` stands for."""
    settings = cfg.get('optimizer_config') or {}
    if cfg.get('fp16') is None and 'Fp16' in str(settings.get('type')):
        return dict(loss_scale=settings.get('loss_scale', 512.))
    return cfg.get('fp16')


def read_update(optimizer_config: Optional[Dict[str, Any]]) -> Update:
    """`optimizer_config` -> Update: `grad_clip`, `cumulative_iters`."""
    settings = dict(optimizer_config or {})
    kind = settings.pop('type', 'OptimizerHook')
    if kind not in OPTIMIZER_HOOKS:
        raise UserError(
            f'unknown optimizer_config.type {kind!r}; there are {", ".join(OPTIMIZER_HOOKS)}, and none is needed'
        )
    for name in INERT_OF_UPDATE:
        settings.pop(name, None)
    if 'Fp16' in kind:
        settings.pop('loss_scale', None)  # see read_fp16
    unknown = sorted(set(settings) - set(Update._fields))
    if unknown:
        raise UserError(
            f'optimizer_config has no {", ".join(unknown)}; it knows {", ".join(Update._fields)}')
    update = Update(**settings)
    if update.cumulative_iters < 1:
        raise UserError(
            f'optimizer_config.cumulative_iters must be at least 1, not {update.cumulative_iters}')
    return update


def hooks_of(cfg: Config, by_epoch: bool, validate: bool) -> List[Tuple[Hook, Any]]:
    """All hooks of a run with their priorities, in the order in which they act."""
    hooks: List[Tuple[Hook, Any]] = []
    # The user's first: among hooks of one priority, who comes first acts first, and a checkpoint
    # should hold what they did.
    for entry in cfg.get('custom_hooks') or ():
        arguments = dict(entry)
        priority = arguments.pop('priority', 'NORMAL')
        hooks.append((HOOKS.build(arguments), priority))
    # Closed before an evaluation opens a bar of its own.
    if dist.get_dist_info()[0] == 0 and on_terminal():
        hooks.append((ProgressBarHook(by_epoch), 'ABOVE_NORMAL'))
    if (cfg.data.get('train_dataloader') or {}).get('skip_bad_images'):
        hooks.append((SkippedImagesHook(), 'NORMAL'))
    # Before the evaluation: if that fails, the epoch is not lost.
    if cfg.get('checkpoint_config') is not None:
        hooks.append((CheckpointHook(**{'by_epoch': by_epoch, **cfg.checkpoint_config}), 'NORMAL'))
    # Before the loggers, which write its figures.
    if validate and cfg.data.get('val'):
        hooks.append((evaluation_hook(cfg, by_epoch), 'LOW'))
    if cfg.get('early_stop') is not None:  # Behind the evaluation, whose figures it looks at.
        hooks.append((EarlyStopHook(**cfg.early_stop), 'LOW'))
    # Last: they tell what all others left in the buffer.
    for entry in (cfg.get('log_config') or {}).get('hooks', ()):
        defaults = dict(interval=cfg.log_config.get('interval', 10), by_epoch=by_epoch)
        hooks.append((HOOKS.build(dict(entry), **defaults), 'VERY_LOW'))
    return hooks


def evaluation_hook(cfg: Config, by_epoch: bool) -> Hook:
    """`evaluation` of a config; what the hook does not know goes to `dataset.evaluate`."""
    loader = build_test_loader(cfg, 'val')
    hook_class = DistEvalHook if dist.is_distributed() else EvalHook
    own, options = split_evaluation(cfg.get('evaluation') or {})
    own = {
        key: value
        for key, value in own.items() if key in inspect.signature(hook_class).parameters
    }
    check_evaluation_options(loader.dataset, options)
    count_all_detections(cfg, loader.dataset, options)
    return hook_class(loader, eval_options=options, **{'by_epoch': by_epoch, **own})


def split_evaluation(evaluation: Dict[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """(what says when to evaluate and what to keep, what says how)."""
    own = set(inspect.signature(DistEvalHook).parameters) - {'dataloader', 'eval_options'}
    return ({
        key: value
        for key, value in evaluation.items() if key in own
    }, {
        key: value
        for key, value in evaluation.items() if key not in own
    })


def check_same_classes(training: Any, validation: Any) -> None:
    """Refuse what would be a metric of shifted labels: a class folder that one of the two lacks is
    enough."""
    own, other = (
        list(getattr(dataset, 'CLASSES', None) or ()) for dataset in (training, validation))
    if not own or not other or own == other:
        return
    only = [
        f'only {split} has {", ".join(map(repr, names[:10]))}'
        for split, names in (('data.train', [name for name in own if name not in other]),
                             ('data.val', [name for name in other if name not in own])) if names
    ]
    told = '; '.join(only) or 'their order differs'
    raise UserError(
        f'data.train has {len(own)} classes and data.val {len(other)}, and a label would mean two things: {told}. '
        f'Write the same classes=(...) in both')


def count_all_detections(cfg: Config, dataset: Any, options: Dict[str, Any]) -> None:
    """Let a metric that takes the best `max_dets` detections of an image count as many as the model
    may give: `max_per_img`, where that is more than COCO's 100."""
    test_cfg = cfg.model.get('test_cfg') or {}
    most = (test_cfg.get('rcnn') or test_cfg).get('max_per_img') or 0
    parts = getattr(dataset, 'datasets', [dataset])
    if most > 100 and all('max_dets' in inspect.signature(part.evaluate).parameters
                          for part in parts):
        options.setdefault('max_dets', most)


def check_evaluation_options(dataset: Any, options: Dict[str, Any]) -> None:
    """Refuse at the start what would fail after the first epoch."""
    parameters = inspect.signature(dataset.evaluate).parameters
    unknown = sorted(set(options) - set(parameters))
    if unknown and not any(item.kind is item.VAR_KEYWORD for item in parameters.values()):
        known = [name for name in parameters if name not in ('results', 'logger')]
        raise UserError(
            f'evaluation has no {", ".join(unknown)}; {dataset_name(dataset)}.evaluate knows {", ".join(known)}'
        )
    if hasattr(dataset, 'check_metrics'):
        dataset.check_metrics(
            **{key: options[key]
               for key in ('metric', 'metric_options') if key in options})
