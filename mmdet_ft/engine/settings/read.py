"""Read a checked config into the records of its settings."""
import dataclasses
from typing import Any, Callable, Dict, Mapping, Optional, Tuple, TypeVar

from mmdet_ft.checkpoints.input_format import read_input_format
from mmdet_ft.config.config import Config
from mmdet_ft.engine.optimizers.optimizer_step import read_update
from mmdet_ft.engine.schedules.schedule import build_learning_rate, build_momentum
from mmdet_ft.engine.settings.keys import ConfigKeys
from mmdet_ft.engine.settings.rate import read_rate
from mmdet_ft.engine.settings.records import (Acceleration, DataSettings, HookSettings,
                                              ProcessSettings, RunSettings, TestSettings,
                                              WeightSettings)
from mmdet_ft.registry import RUNNERS, note_building

Schedule = TypeVar('Schedule')


def read_run_settings(cfg: Config) -> RunSettings:
    """Read the settings of a training from a config as `prepare` returns it.

    The dicts in the records are those of the config: the engine copies one before it changes it.

    Raises UserError, ValueError or TypeError for values that exclude each other.
    """
    by_epoch = RUNNERS.resolve(cfg.runner.type).by_epoch
    return RunSettings(
        **{
            **_fields_of(read_test_settings(cfg)), 'fp16': read_fp16(cfg)
        },
        work_dir=cfg.get('work_dir') or '.',
        weights=read_weights(cfg),
        runner=dict(cfg.runner),
        by_epoch=by_epoch,
        workflow=read_workflow(cfg),
        optimizer=_section(cfg, 'optimizer'),
        update=read_update(cfg.get('optimizer_config')),
        rate=read_rate(cfg),
        scales_rate=bool((cfg.get('auto_scale_lr') or {}).get('enable')),
        learning_rate=_schedule(cfg, 'lr_config', build_learning_rate, by_epoch),
        momentum=_schedule(cfg, 'momentum_config', build_momentum, by_epoch),
        acceleration=read_acceleration(cfg),
        find_unused_parameters=cfg.get('find_unused_parameters', False))


def read_test_settings(cfg: Config) -> TestSettings:
    """Read what a test needs: the model, its data and the evaluation; other sections may be missing."""
    return TestSettings(
        model=_section(cfg, 'model'),
        data=read_data(cfg),
        processes=read_processes(cfg),
        hooks=read_hooks(cfg),
        fp16=cfg.get('fp16'),
        keys=ConfigKeys(cfg))


def _section(cfg: Mapping[str, Any], name: str) -> Dict[str, Any]:
    """Return a section of a config; an empty one where it is missing or, in a wrong config, no dict."""
    section = cfg.get(name)
    return section if isinstance(section, dict) else {}


def _fields_of(record: TestSettings) -> Dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def read_processes(cfg: Config) -> ProcessSettings:
    """Read the settings of processes: threads, start method, requested GPUs."""
    return ProcessSettings(
        opencv_num_threads=cfg.get('opencv_num_threads', 0),
        mp_start_method=cfg.get('mp_start_method'),
        cudnn_benchmark=bool(cfg.get('cudnn_benchmark')),
        requested_devices={
            name: cfg[name]
            for name in ('device', 'gpu_ids') if cfg.get(name) and cfg[name] != 'cpu'
        })


def read_data(cfg: Config) -> DataSettings:
    """Read `data`."""
    data = _section(cfg, 'data')
    common = ('samples_per_gpu', 'workers_per_gpu', 'persistent_workers')
    return DataSettings(
        keys=ConfigKeys(cfg),
        train=data.get('train'),
        val=data.get('val'),
        test=data.get('test'),
        common={key: data[key]
                for key in common if key in data},
        loaders={
            split: _section(data, f'{split}_dataloader')
            for split in ('train', 'val', 'test')
        })


def read_weights(cfg: Config) -> WeightSettings:
    """Read `load_from`, `resume_from` and `auto_resume`."""
    return WeightSettings(
        keys=ConfigKeys(cfg),
        model=_section(cfg, 'model'),
        input_format=read_input_format(cfg),
        load_from=cfg.get('load_from'),
        resume_from=cfg.get('resume_from'),
        auto_resume=bool(cfg.get('auto_resume')))


def read_hooks(cfg: Config) -> HookSettings:
    """Read the sections of the hooks."""
    logging = _section(cfg, 'log_config')
    return HookSettings(
        custom=[hook for hook in cfg.get('custom_hooks') or () if isinstance(hook, dict)],
        checkpoint=cfg.get('checkpoint_config'),
        evaluation=read_evaluation(cfg),
        early_stop=cfg.get('early_stop'),
        loggers=logging.get('hooks') or (),
        log_interval=logging.get('interval', 10))


def read_evaluation(cfg: Config) -> Dict[str, Any]:
    """Read `evaluation`; under a runner without epochs it counts iterations, as in V2."""
    section = _section(cfg, 'evaluation')
    runner = RUNNERS.class_of(cfg.get('runner'))
    by_epoch = getattr(runner, 'by_epoch', True)
    return dict(section) if by_epoch else {**section, 'by_epoch': False}


def read_workflow(cfg: Config) -> Tuple[Tuple[str, int], ...]:
    """Read `workflow`: [('train', 1)] by default."""
    return tuple((mode, times) for mode, times in cfg.get('workflow') or [('train', 1)])


def read_acceleration(cfg: Mapping[str, Any]) -> Acceleration:
    """Read `channels_last`, `compile`, `cuda_graphs` and `triton`."""
    given = {field.name: cfg.get(field.name) for field in dataclasses.fields(Acceleration)}
    return Acceleration(**{
        name: value if isinstance(value, dict) else bool(value)
        for name, value in given.items()
    })


def read_fp16(cfg: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """Return `fp16`, or its equivalent for an Fp16 hook of V2 in `optimizer_config`."""
    settings = cfg.get('optimizer_config') or {}
    if cfg.get('fp16') is None and 'Fp16' in str(settings.get('type')):
        return dict(loss_scale=settings.get('loss_scale', 512.))
    return cfg.get('fp16')


def _schedule(cfg: Config, key: str, build: Callable[[Dict[str, Any], bool], Schedule],
              by_epoch: bool) -> Optional[Schedule]:
    """Build the schedule of a section of the config; None without one."""
    try:
        return build(cfg[key], by_epoch) if cfg.get(key) else None
    except ValueError as error:
        note_building(error, key)
        raise
