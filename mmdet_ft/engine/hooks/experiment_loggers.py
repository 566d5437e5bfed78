"""Loggers to experiment trackers, one small hook each; a tracker's package is imported by its own hook only."""
import importlib
import os
import re
from typing import Any, ClassVar, Dict, Optional

import torch
from torch import nn

from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.hooks.logger import LoggerHook
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.registry import HOOKS

# What V2's loggers leave out: times, and the count that the text logger shows as `iter`.
NOT_VALUES = ('time', 'data_time', 'eval_iter_num')


class ExperimentLoggerHook(LoggerHook):
    """A logger to a tracker: rank 0 starts a run there, writes its values and ends it.

    A subclass sets `package` and `advice` and writes `start`, `write` and `finish`. The package is
    imported when the hook is built, on every rank, so that a missing one ends the run before it starts.
    """
    package: ClassVar[str]
    advice: ClassVar[str]  # how the package is installed
    passes_on = ('init_kwargs', 'tags', 'params', 'define_metric_cfg', 'add_graph_kwargs',
                 'add_ckpt_kwargs')  # the tracker's own arguments, which the check leaves alone

    def __init__(self,
                 interval: int = 10,
                 ignore_last: bool = True,
                 reset_flag: bool = False,
                 by_epoch: bool = True):
        super().__init__(interval, ignore_last, reset_flag, by_epoch)
        self.module = self.import_package()

    def import_package(self) -> Any:
        """Import the tracker's package; raises UserError with the line that installs it."""
        try:
            return importlib.import_module(self.package)
        except ImportError as error:
            raise UserError(f'{type(self).__name__} needs {self.package} ({error}). To fix: '
                            f'{self.advice}, or take the hook out of log_config.hooks') from None

    def before_run(self, runner: Runner) -> None:
        super().before_run(runner)
        if runner.rank == 0:
            self.start(runner)

    def log(self, runner: Runner) -> None:
        if runner.rank == 0:
            self.write(runner, self.values_of(runner))

    def after_run(self, runner: Runner) -> None:
        if runner.rank == 0:
            self.finish(runner)

    def values_of(self, runner: Runner, with_mode: bool = True) -> Dict[str, float]:
        """Return the numbers to write under V2's names: 'train/loss', 'val/bbox_mAP', 'learning_rate'."""
        start = f'{self.get_mode(runner)}/' if with_mode else ''
        values = {
            start + name: value
            for name, value in runner.log_buffer.output.items()
            if name not in NOT_VALUES and isinstance(value, (int, float))
        }
        momenta = runner.current_momentum()
        return {**values, 'learning_rate': self.get_lr(runner), 'momentum': momenta[0]}

    def start(self, runner: Runner) -> None:
        """Start a run at the tracker."""

    def write(self, runner: Runner, values: Dict[str, float]) -> None:
        """Write the values of `values_of`."""
        raise NotImplementedError

    def finish(self, runner: Runner) -> None:
        """End the run at the tracker."""


def model_of(runner: Runner) -> nn.Module:
    """Return the model itself, also of several processes."""
    return getattr(runner.model, 'module', runner.model)


@HOOKS.register_module()
class MlflowLoggerHook(ExperimentLoggerHook):
    """Values, tags and parameters for MLflow, and the model at the end.

    Args:
        exp_name: name of the experiment, which is made if it does not exist.
        tags, params: of the run.
        log_model: save the model as an artifact at the end of the run.
        interval, ignore_last, reset_flag, by_epoch: see LoggerHook.

    MLflow refuses some characters in names of values: 'AR@100' is 'AR_100' there.
    """
    package, advice = 'mlflow', 'pip install mlflow'

    def __init__(self,
                 exp_name: Optional[str] = None,
                 tags: Optional[Dict[str, Any]] = None,
                 params: Optional[Dict[str, Any]] = None,
                 log_model: bool = True,
                 interval: int = 10,
                 ignore_last: bool = True,
                 reset_flag: bool = False,
                 by_epoch: bool = True):
        super().__init__(interval, ignore_last, reset_flag, by_epoch)
        self.exp_name = exp_name
        self.tags = tags
        self.params = params
        self.log_model = log_model

    def start(self, runner: Runner) -> None:
        if self.exp_name is not None:
            self.module.set_experiment(self.exp_name)
        if self.tags is not None:
            self.module.set_tags(self.tags)
        if self.params is not None:
            self.module.log_params(self.params)

    def write(self, runner: Runner, values: Dict[str, float]) -> None:
        named = {re.sub(r'[^\w\-. /]', '_', name): value for name, value in values.items()}
        self.module.log_metrics(named, step=self.get_iter(runner))

    def finish(self, runner: Runner) -> None:
        if self.log_model:
            importlib.import_module('mlflow.pytorch').log_model(
                model_of(runner), 'models', pip_requirements=[f'torch=={torch.__version__}'])


@HOOKS.register_module()
class NeptuneLoggerHook(ExperimentLoggerHook):
    """Series of values for Neptune.

    Args:
        init_kwargs: arguments of `neptune.init_run`: project, api_token, name, ...
        with_step: give the iteration with each value.
        interval, ignore_last, reset_flag, by_epoch: see LoggerHook.
    """
    package, advice = 'neptune', 'pip install neptune'

    def __init__(self,
                 init_kwargs: Optional[Dict[str, Any]] = None,
                 interval: int = 10,
                 ignore_last: bool = True,
                 reset_flag: bool = False,
                 with_step: bool = True,
                 by_epoch: bool = True):
        super().__init__(interval, ignore_last, reset_flag, by_epoch)
        self.init_kwargs = dict(init_kwargs or {})
        self.with_step = with_step
        self.run: Any = None

    def start(self, runner: Runner) -> None:
        if hasattr(self.module, 'init_run'):
            self.run = self.module.init_run(**self.init_kwargs)
        else:  # before neptune 1.0
            self.run = importlib.import_module('neptune.new').init(**self.init_kwargs)

    def write(self, runner: Runner, values: Dict[str, float]) -> None:
        step = dict(step=self.get_iter(runner)) if self.with_step else {}
        for name, value in values.items():
            series = self.run[name]
            add = series.append if hasattr(series, 'append') else series.log
            add(value, **step)

    def finish(self, runner: Runner) -> None:
        self.run.stop()


@HOOKS.register_module()
class DvcliveLoggerHook(ExperimentLoggerHook):
    """Values for DVCLive: the means of each epoch, or with by_epoch=False of each `interval`.

    Args:
        model_file: path to which the model is saved after each epoch; None saves none.
        dvclive: a `dvclive.Live` to write to, instead of a new one.
        dir, resume, report, save_dvc_exp, dvcyaml, exp_name, exp_message: arguments of `dvclive.Live`.
        interval, ignore_last, reset_flag, by_epoch: see LoggerHook.
    """
    package, advice = 'dvclive', 'pip install dvclive'

    def __init__(self,
                 model_file: Optional[str] = None,
                 interval: int = 10,
                 ignore_last: bool = True,
                 reset_flag: bool = False,
                 by_epoch: bool = True,
                 dvclive: Any = None,
                 dir: Optional[str] = None,
                 resume: Optional[bool] = None,
                 report: Optional[str] = None,
                 save_dvc_exp: Optional[bool] = None,
                 dvcyaml: Any = None,
                 exp_name: Optional[str] = None,
                 exp_message: Optional[str] = None):
        super().__init__(interval, ignore_last, reset_flag, by_epoch)
        self.model_file = model_file
        self.live = dvclive
        settings = dict(
            dir=dir,
            resume=resume,
            report=report,
            save_dvc_exp=save_dvc_exp,
            dvcyaml=dvcyaml,
            exp_name=exp_name,
            exp_message=exp_message)
        self.settings = {key: value for key, value in settings.items() if value is not None}

    def start(self, runner: Runner) -> None:
        if self.live is None:
            self.live = self.module.Live(**self.settings)

    def write(self, runner: Runner, values: Dict[str, float]) -> None:
        step = self.get_epoch(runner) if self.by_epoch else self.get_iter(runner)
        if hasattr(self.live, 'set_step'):  # before dvclive 1.0
            self.live.set_step(step)
        else:
            self.live.step = step
        write = self.live.log_metric if hasattr(self.live, 'log_metric') else self.live.log
        for name, value in values.items():
            write(name, value)

    def after_train_iter(self, runner: Runner) -> None:
        if not self.by_epoch:
            super().after_train_iter(runner)
        elif self.end_of_epoch(runner):
            self.flush(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        if self.model_file is not None and runner.rank == 0:
            folder, name = os.path.split(self.model_file)
            runner.save_checkpoint(folder or '.', filename_tmpl=name, create_symlink=False)
        super().after_train_epoch(runner)

    def finish(self, runner: Runner) -> None:
        if hasattr(self.live, 'end'):
            self.live.end()


@HOOKS.register_module()
class ClearMLLoggerHook(ExperimentLoggerHook):
    """Scalars for ClearML.

    Args:
        init_kwargs: arguments of `clearml.Task.init`: project_name, task_name, ...
        interval, ignore_last, reset_flag, by_epoch: see LoggerHook.
    """
    package, advice = 'clearml', 'pip install clearml'

    def __init__(self,
                 init_kwargs: Optional[Dict[str, Any]] = None,
                 interval: int = 10,
                 ignore_last: bool = True,
                 reset_flag: bool = False,
                 by_epoch: bool = True):
        super().__init__(interval, ignore_last, reset_flag, by_epoch)
        self.init_kwargs = dict(init_kwargs or {})

    def start(self, runner: Runner) -> None:
        self.task = self.module.Task.init(**self.init_kwargs)

    def write(self, runner: Runner, values: Dict[str, float]) -> None:
        for name, value in values.items():
            self.task.get_logger().report_scalar(name, name, value, self.get_iter(runner))


@HOOKS.register_module()
class SegmindLoggerHook(ExperimentLoggerHook):
    """Values for Segmind.

    Args:
        interval, ignore_last, reset_flag, by_epoch: see LoggerHook.
    """
    package, advice = 'segmind', 'pip install segmind'

    def write(self, runner: Runner, values: Dict[str, float]) -> None:
        write = importlib.import_module('segmind.utils.logging_utils').try_mlflow_log
        to_segmind = importlib.import_module('segmind.tracking.fluent').log_metrics
        write(to_segmind, values, step=runner.epoch, epoch=runner.epoch)


@HOOKS.register_module()
class PaviLoggerHook(ExperimentLoggerHook):
    """Scalars and checkpoints for PAVI.

    Args:
        init_kwargs: arguments of `pavi.SummaryWriter`: name, project, model, session_text, ...; the name
            is that of the work_dir by default, the model that of the config, and the text the config.
        add_last_ckpt: upload the last checkpoint at the end of the run.
        add_ckpt_kwargs: dict(active=True, start=0, interval=1) uploads the checkpoint of every
            `interval` epochs, or iterations, from `start` on.
        add_graph, img_key, add_graph_kwargs: V2's; no graph of the model is drawn.
        interval, ignore_last, reset_flag, by_epoch: see LoggerHook.

    Raises ValueError for a graph.
    """
    package, advice = 'pavi', 'install pavi as its vendor describes, PyPI does not have it'

    def __init__(self,
                 init_kwargs: Optional[Dict[str, Any]] = None,
                 add_graph: Optional[bool] = None,
                 img_key: Optional[str] = None,
                 add_last_ckpt: bool = False,
                 interval: int = 10,
                 ignore_last: bool = True,
                 reset_flag: bool = False,
                 by_epoch: bool = True,
                 add_graph_kwargs: Optional[Dict[str, Any]] = None,
                 add_ckpt_kwargs: Optional[Dict[str, Any]] = None):
        super().__init__(interval, ignore_last, reset_flag, by_epoch)
        if add_graph or (add_graph_kwargs or {}).get('active'):
            raise ValueError('PaviLoggerHook draws no graph of the model: leave add_graph out')
        self.init_kwargs = dict(init_kwargs or {})
        self.add_last_ckpt = add_last_ckpt
        self.add_ckpt_kwargs = dict(add_ckpt_kwargs or {})

    def start(self, runner: Runner) -> None:
        self.run_name = os.path.basename(os.path.abspath(runner.work_dir))
        defaults = dict(
            name=self.run_name,
            model=runner.model_name,
            session_text=str(runner.meta.get('config', '')))
        self.writer = self.module.SummaryWriter(**{**defaults, **self.init_kwargs})

    def write(self, runner: Runner, values: Dict[str, float]) -> None:
        of_epochs = self.get_mode(runner) == 'val' and self.by_epoch
        step = self.get_epoch(runner) if of_epochs else self.get_iter(runner)
        self.writer.add_scalars(
            self.get_mode(runner), self.values_of(runner, with_mode=False), step)

    def after_train_epoch(self, runner: Runner) -> None:
        super().after_train_epoch(runner)
        if self.by_epoch:
            self._upload_if_due(runner, runner.epoch + 1, f'epoch_{runner.epoch + 1}.pth')

    def after_train_iter(self, runner: Runner) -> None:
        super().after_train_iter(runner)
        if not self.by_epoch:
            self._upload_if_due(runner, runner.iter + 1, f'iter_{runner.iter + 1}.pth')

    def _upload_if_due(self, runner: Runner, now: int, name: str) -> None:
        start, interval = self.add_ckpt_kwargs.get('start',
                                                   0), self.add_ckpt_kwargs.get('interval', 1)
        if self.add_ckpt_kwargs.get(
                'active') and now >= start and (now - start) % interval == 0 and runner.rank == 0:
            self._upload(os.path.join(runner.work_dir, name), now)

    def _upload(self, path: str, step: int) -> None:
        if os.path.isfile(path):
            self.writer.add_snapshot_file(
                tag=self.run_name, snapshot_file_path=os.path.realpath(path), iteration=step)

    def finish(self, runner: Runner) -> None:
        if self.add_last_ckpt:
            epochs, iterations = runner.num_done()
            self._upload(
                os.path.join(runner.work_dir, 'latest.pth'),
                epochs if self.by_epoch else iterations)
        self.writer.close()
