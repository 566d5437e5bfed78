"""The training step and the run: forward, backward, clip and step are only here.

Hooks act between the steps: they log, save, evaluate, average weights, or end the run.
"""
import contextlib
import os
import time
import uuid
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import torch
from torch import Tensor, nn

from mmdet_ft.checkpoints import fitting, reading, writing
from mmdet_ft.engine.distributed import dist, watchdog
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.optimizers.optimizer import step_unless, zero_missing_momentum
from mmdet_ft.engine.optimizers.optimizer_step import Update
from mmdet_ft.engine.reporting.log import FILE_ONLY, get_root_logger, time_string
from mmdet_ft.engine.reporting.meters import FiniteLatch, LogBuffer
from mmdet_ft.engine.runner import resume_state
from mmdet_ft.engine.runner.batch_of_one import is_single_value, with_running_statistics
from mmdet_ft.engine.runner.batches import files, num_samples
from mmdet_ft.engine.runner.hook import Hook, Priority, get_priority, who_acts
from mmdet_ft.engine.runner.seeds import begin_step, seed_generators, seed_of
from mmdet_ft.engine.schedules.groups import Schedules, momenta_of
from mmdet_ft.engine.schedules.schedule import LearningRate, Momentum, Progress
from mmdet_ft.engine.speed.precision import Precision
from mmdet_ft.engine.speed.prefetch import on_device
from mmdet_ft.registry import HOOKS
from mmdet_ft.structures import Losses, to_device

Workflow = Sequence[Tuple[str, int]]


class BaseRunner:
    """A run: the model, its optimizer, its progress and its hooks.

    Args:
        model: `model(batch) -> Losses` in training; possibly in DistributedDataParallel. Already on
            its device.
        optimizer: of the model's parameters.
        work_dir: folder for the files of the run.
        logger: the engine's by default.
        meta: written into checkpoints and the head of the json log: config, seed, exp_name, env_info,
            hook_msgs.
        learning_rate: `lr_config`; None leaves the rate to the optimizer, or to a hook.
        momentum: `momentum_config`; None leaves the momentum to the optimizer, or to a hook.
        update: `optimizer_config`.
        precision: `fp16`.
        seed: base of each step's random numbers.
        max_epochs, max_iters: length of the run; one of them, by the kind of runner.

    Attributes for hooks, as in V2: `model optimizer outputs data_batch data_loader mode epoch iter
    inner_iter max_epochs max_iters logger log_buffer work_dir meta rank world_size hooks timestamp
    current_lr() current_momentum() save_checkpoint()`. `outputs` holds `loss`, `log_vars` (tensors
    on the device) and `num_samples` of this iteration.
    """

    by_epoch = True

    def __init__(self,
                 model: nn.Module,
                 optimizer: Optional[torch.optim.Optimizer] = None,
                 work_dir: str = '.',
                 logger: Any = None,
                 meta: Optional[Dict[str, Any]] = None,
                 learning_rate: Optional[LearningRate] = None,
                 momentum: Optional[Momentum] = None,
                 update: Update = Update(),
                 precision: Optional[Precision] = None,
                 seed: int = 0,
                 max_epochs: Optional[int] = None,
                 max_iters: Optional[int] = None):
        if max_epochs is not None and max_iters is not None:
            raise UserError(
                f'a runner has max_epochs or max_iters, not both: {max_epochs} and {max_iters}; write '
                '_delete_=True beside them to inherit nothing')
        self.model = model
        self.optimizer = optimizer
        self.work_dir = os.path.abspath(work_dir)
        self.logger = logger or get_root_logger()
        self.meta = {} if meta is None else meta
        self.schedules = Schedules(learning_rate, momentum)
        self.update = update
        self.device = next(model.parameters()).device
        self.precision = precision or Precision(self.device)
        self.seed = seed
        self.max_epochs = max_epochs
        self.max_iters = max_iters
        self.rank, self.world_size = dist.get_dist_info()
        self.timestamp = time_string()
        self.hooks: List[Hook] = []
        self.log_buffer = LogBuffer()
        self.latch = FiniteLatch(self.device)
        self.mode: Optional[str] = None
        self.epoch = self.iter = self.inner_iter = 0
        self.start_iter = 0
        self.data_loader: Any = None
        self.data_batch: Any = None
        self.outputs: Dict[str, Any] = {}
        self._meters: Tuple[int, int, Dict[str, Any]] = (-1, 0, {})  # iteration, count, means
        self.run_id = uuid.uuid4().hex  # identifies the checkpoints of one run, also after a resume
        self.epoch_length = 0  # in iterations
        self.calling: Optional[resume_state.Call] = None  # the current call of the hooks
        self.stop_reason: Optional[str] = None  # set by a hook to end the run early
        self._warned_of_single_value = False  # for a batch that batch norm cannot train on
        self.resumed = resume_state.Resumed()
        self._unfinished: Optional[
            resume_state.Call] = None  # calls that the resumed run has to finish
        os.makedirs(self.work_dir, exist_ok=True)

    @property
    def model_name(self) -> str:
        return type(getattr(self.model, 'module', self.model)).__name__

    # ------------------------------------------------------------------------------------- the step

    @watchdog.step()
    def train_step(self, batch: Any) -> None:
        """Run one iteration on a batch on the device: forward and backward; clip and step at the
        end of its window.

        Never waits for the device: non-finite values are detected there.
        """
        window, first, last = self.update.window(self.iter, self.max_iters)
        if first:  # not after the step, as hooks may read the gradients
            self.optimizer.zero_grad()
        seed_generators(seed_of(self.seed, self.iter, self.rank), self.device)
        begin_step(self.model, self.iter, self.seed)

        with self._gradients_stay_local(not last):
            with self.precision.autocast():
                try:
                    losses = self.model(batch)
                except ValueError as error:
                    losses = self._losses_of_single_value(batch, error)
            total = losses.total
            self._record(losses, total, batch)
            self.latch.close_if(~total.detach().isfinite(), self.iter)
            # A NaN in the shared gradients makes every rank refuse the step, not only this one.
            loss = total * torch.where(self.latch.closed, float('nan'), 1.)
            self.precision.scale(loss / window).backward()
        if first:
            dist.check_unused(self.model)

        if last:
            parameters = self._parameters_with_gradients()
            self.precision.unscale([parameter.grad for parameter in parameters])
            norm = self.update.clip(parameters)
            overflow = ~norm.isfinite()
            if self.precision.scaler is None:
                self.latch.close_if(overflow, self.iter)
            else:  # expected with a loss scale: the next step has half the scale
                self.precision.scaler.update(overflow)
            step_unless(self.optimizer, self.latch.closed | overflow)
            if self.update.grad_clip is not None:
                self._log({'grad_norm': norm})

    def _losses_of_single_value(self, batch: Any, error: ValueError) -> Losses:
        """Return the losses of a batch of one value a channel, at which batch norm raises `error`.

        Such a batch at the end of an epoch (few or left-out images) should not end a run of hours.
        Raises any other error.
        """
        if not is_single_value(error):
            raise error
        if not self._warned_of_single_value:
            self._warned_of_single_value = True
            self.logger.warning(
                'A batch of 1 image gives batch norm one value a channel: in this step its running statistics '
                'are used. data = dict(train_dataloader=dict(drop_last=True)) leaves such batches out'
            )
        seed_generators(seed_of(self.seed, self.iter, self.rank), self.device)
        return with_running_statistics(self.model, batch)

    @watchdog.step()
    def val_step(self, batch: Any) -> None:
        """Return the losses of a batch without training; every validation uses the same random numbers."""
        seed_generators(seed_of(self.seed, -1 - self.inner_iter, self.rank), self.device)
        model = getattr(self.model, 'module', self.model)
        with torch.no_grad(), self.precision.autocast():
            losses = model.loss(to_device(batch, self.device))
        self._record(losses, losses.total, batch)

    def _record(self, losses: Losses, total: Tensor, batch: Any) -> None:
        """Store the losses of an iteration for hooks, loggers and the latch."""
        self.outputs = dict(loss=total.detach(), log_vars={}, num_samples=num_samples(batch))
        self._log({**losses.terms, **losses.metrics, 'loss': total})
        if self.mode == 'train':
            self.latch.begin(self.iter,
                             self.current_lr()[0], files(batch), self.outputs['log_vars'])

    def _log(self, values: Dict[str, Tensor]) -> None:
        values = {key: value.detach() for key, value in values.items()}
        self.outputs['log_vars'].update(values)
        self.log_buffer.update(values, self.outputs['num_samples'])

    def _parameters_with_gradients(self) -> List[Tensor]:
        return [
            parameter for group in self.optimizer.param_groups for parameter in group['params']
            if parameter.grad is not None
        ]

    def _gradients_stay_local(self, local: bool) -> Any:
        """Accumulate gradients locally within a window, so that ranks share them only once."""
        if local and hasattr(self.model, 'no_sync'):
            return self.model.no_sync()
        return contextlib.nullcontext()

    # --------------------------------------------------------------------------------- the schedule

    @property
    def progress(self) -> Progress:
        return Progress(self.epoch, self.iter, len(self.data_loader), self.max_epochs,
                        self.max_iters)

    def current_lr(self) -> List[float]:
        return [group['lr'] for group in self.optimizer.param_groups]

    def current_momentum(self) -> List[float]:
        return momenta_of(self.optimizer)

    # ---------------------------------------------------------------------------------------- hooks

    def register_hook(self, hook: Hook, priority: Union[int, str, Priority] = 'NORMAL') -> None:
        """Insert a hook after those of the same or higher priority."""
        if not isinstance(hook, Hook):
            raise TypeError(
                f'a hook derives from mmdet_ft.engine.hooks.Hook, {type(hook).__name__} does not')
        hook.priority = get_priority(priority)
        index = sum(other.priority <= hook.priority for other in self.hooks)
        self.hooks.insert(index, hook)

    def register_hook_from_cfg(self, hook_cfg: Dict[str, Any]) -> None:
        """Register `dict(type=..., priority='NORMAL', **arguments)`, an entry of `custom_hooks`."""
        arguments = dict(hook_cfg)
        priority = arguments.pop('priority', 'NORMAL')
        self.register_hook(HOOKS.build(arguments), priority)

    def call_hook(self, stage: str) -> None:
        names = resume_state.names_of(self.hooks)
        unfinished, through = self._is_unfinished(stage), ()
        if unfinished:
            through, self._unfinished = self._unfinished.done, None
        for index, (name, hook) in enumerate(zip(names, self.hooks)):
            if unfinished and (name in through or not hook.repeats_on_resume):
                continue
            self.calling = resume_state.Call(stage, names[:index])
            getattr(hook, stage)(self)
        self.calling = None

    def _is_unfinished(self, stage: str) -> bool:
        return self._unfinished is not None and self._unfinished.stage == stage

    def prepare_model(self) -> None:
        """Let the hooks add buffers that checkpoints of this run hold besides the model's own weights."""
        for hook in self.hooks:
            hook.prepare_model(getattr(self.model, 'module', self.model))

    def get_hook_info(self) -> str:
        """Return a table of the hooks at each point, in the order of the calls."""
        return who_acts(self.hooks)

    # -------------------------------------------------------------------------------- for the hooks

    def read_meters(self, n: int) -> None:
        """Average the last `n` iterations into `log_buffer.output`: the only point where the host waits.

        Raises NonFiniteError on every rank if any iteration so far was not finite.
        """
        if self._meters[:2] == (self.iter, n):  # several loggers with one interval
            self.log_buffer.output.update(self._meters[2])
            return
        self.check_finite()
        self.log_buffer.average(n)
        self._meters = (self.iter, n, dict(self.log_buffer.output))

    def check_finite(self) -> None:
        """Raise NonFiniteError, on every rank, if any iteration of any rank was not finite."""
        self.latch.check()

    def broadcast_norm_buffers(self) -> None:
        dist.broadcast_norm_buffers(self.model)

    # ---------------------------------------------------------------------------------- checkpoints

    def num_done(self) -> Tuple[int, int]:
        """Return (epochs, iterations) done; the current one counts once its hooks are called."""
        raise NotImplementedError

    def iterations_done(self) -> int:
        return self.iter + (self.calling is not None and self.calling.stage == 'after_train_iter')

    def save_checkpoint(self,
                        out_dir: str,
                        filename_tmpl: Optional[str] = None,
                        save_optimizer: bool = True,
                        meta: Optional[Dict[str, Any]] = None,
                        create_symlink: bool = True) -> None:
        """Write V2's {meta, state_dict, optimizer} with everything for resuming (see
        `resume_state`), and link `latest.pth` to it.

        Raises NonFiniteError instead of writing weights after a NaN, CheckpointError if there is no room.
        """
        self.latch.check(everywhere=False)
        about, others = resume_state.capture(self, save_optimizer, meta or {})
        name = (filename_tmpl
                or self.filename_tmpl).format(self.num_done()[0 if self.by_epoch else 1])
        model = getattr(self.model, 'module', self.model)
        writing.save(os.path.join(out_dir, name), model.state_dict(), about, **others)
        if create_symlink:
            writing.link_latest(out_dir, name)

    def resume(self, source: str, resume_optimizer: bool = True) -> None:
        """Continue from a checkpoint: weights, optimizer, schedule, epoch, iteration, random
        states, best score and the state of hooks."""
        checkpoint = reading.read(source)
        self.prepare_model()  # for buffers of hooks in the checkpoint
        asked = self.current_lr()[0]
        self.resumed = resume_state.restore(self, checkpoint, resume_optimizer)
        self.logger.info('resumed epoch %d, iter %d from %s', self.epoch, self.iter, source)
        group = self.optimizer.param_groups[0]
        kept = group.get('initial_lr', group['lr'])
        if kept != asked and self.resumed.world_size in (None, self.world_size):
            self.logger.warning(
                'optimizer.lr=%g of the config is not used: a resumed run keeps the %g of its checkpoint; with '
                'load_from=%r another run begins from its weights', asked, kept, source)

    def load_checkpoint(self, source: str, strict: bool = True) -> None:
        """Load the weights of `load_from`; see `checkpoints.fitting.fit`."""
        checkpoint = reading.read(source)
        self.logger.info(str(fitting.fit(self.model, checkpoint, strict)))

    # ---------------------------------------------------------------------------------------- a run

    def run(self, data_loaders: Sequence[Any], workflow: Workflow = (('train', 1), )) -> None:
        """Train to the end; `data_loaders` belong to the entries of `workflow`."""
        self._start(data_loaders, workflow)
        try:
            for batch in self._iterations(data_loaders, workflow):
                self.data_batch = batch
                if self.mode == 'train':
                    self.schedules.set(self.optimizer, self.progress)
                    self.call_hook('before_train_iter')
                    self.train_step(batch)
                    started, waited = self._iteration_began
                    self.log_buffer.update({
                        'data_time': waited,
                        'time': time.perf_counter() - started
                    })
                    self.call_hook('after_train_iter')
                else:
                    self.call_hook('before_val_iter')
                    self.val_step(batch)
                    self.call_hook('after_val_iter')
                self.data_batch = None
                watchdog.beat()
            self.check_finite()
            if self.stop_reason is not None:
                self.logger.info('the run ends here: %s', self.stop_reason)
            self.call_hook('after_run')
        finally:
            for hook in self.hooks:  # a progress bar left on the terminal would hide the error
                getattr(hook, 'close', lambda: None)()

    def _start(self, data_loaders: Sequence[Any], workflow: Workflow) -> None:
        """Set the progress and the first rates, log the run and call `before_run`.

        Raises UserError for a workflow or loaders without training.
        """
        for mode, _ in workflow:
            if mode not in ('train', 'val'):
                raise UserError(f"workflow knows 'train' and 'val', not {mode!r}")
        if len(data_loaders) != len(workflow):
            raise UserError(
                f'workflow has {len(workflow)} entries, but there are {len(data_loaders)} data loaders'
            )
        train = next(
            (loader for loader, (mode, _) in zip(data_loaders, workflow) if mode == 'train'), None)
        if train is None:
            raise UserError(
                f"workflow {list(workflow)!r} trains nothing; write workflow = [('train', 1)]")
        if len(train) == 0:
            raise UserError('the training set gives no batch')
        self.data_loader, self.epoch_length = train, len(train)
        self._unfinished = self.resumed.call
        self._begin(len(train))
        self.schedules.set_momenta(self.optimizer, self.progress)
        zero_missing_momentum(self.optimizer, scheduled=self.schedules.momentum is not None)
        self.start_iter = self.iter
        self.logger.info('Start running on %s, work_dir: %s', self.device, self.work_dir)
        self.logger.info(
            'Hooks will be executed in the following order:\n%s',
            self.get_hook_info(),
            extra=FILE_ONLY)
        self.logger.info(
            'workflow: %s, max: %s', list(workflow),
            f'{self.max_epochs} epochs' if self.by_epoch else f'{self.max_iters} iters')
        done, most = (self.epoch, self.max_epochs) if self.by_epoch else (self.iter, self.max_iters)
        if done >= most:
            unit = 'epochs' if self.by_epoch else 'iters'
            self.logger.warning(
                'nothing is left to train: %d of %d %s are done; to train longer raise runner.max_%s',
                done, most, unit, unit)
        self.prepare_model()
        self.call_hook('before_run')
        resume_state.restore_hooks(self, self.resumed.run_state)

    def _begin(self, epoch_length: int) -> None:
        raise NotImplementedError

    def _iterations(self, data_loaders: Sequence[Any], workflow: Workflow) -> Iterator[Any]:
        """Yield the batch of each iteration with `mode`, `data_loader`, `epoch`, `iter` and `inner_iter`
        set, and call the hooks of epochs."""
        raise NotImplementedError

    def _finish_iteration(self) -> None:
        """Finish the hook calls of the iteration in which the checkpoint was written."""
        if self._is_unfinished('after_train_iter'):
            self.iter -= 1
            self.inner_iter -= 1
            self.call_hook('after_train_iter')
            self.iter += 1
            self.inner_iter += 1

    def _timed(self, batches: Iterator) -> Iterator:
        """Yield the batches on the device, and log `data_time` and `time` of each iteration."""
        batches = on_device(batches, self.device)
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            waited = time.perf_counter() - started
            self._iteration_began = (started, waited)
            yield batch
