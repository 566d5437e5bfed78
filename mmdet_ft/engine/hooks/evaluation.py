"""Evaluation during training, and the best checkpoint."""
import bisect
import contextlib
import inspect
import os
from math import inf
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Union

from torch.utils.data import DataLoader

from mmdet_ft.checkpoints import reading
from mmdet_ft.checkpoints.errors import CheckpointError
from mmdet_ft.datasets.protocol import Dataset
from mmdet_ft.datasets.wrappers import dataset_name
from mmdet_ft.engine.distributed import interruption
from mmdet_ft.engine.errors import UserError, is_user_mistake
from mmdet_ft.engine.evaluate import multi_gpu_test, single_gpu_test
from mmdet_ft.engine.hooks.checkpoint import CheckpointHook
from mmdet_ft.engine.hooks.logger import LoggerHook
from mmdet_ft.engine.reporting.figures import (check_metric, explain_missing, has_detections,
                                               read_finite_metric)
from mmdet_ft.engine.reporting.log import FILE_ONLY
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.registry import HOOKS

GREATER_KEYS = ('acc', 'top', 'AR@', 'auc', 'precision', 'mAP', '_AP', 'mDice', 'mIoU', 'mAcc',
                'aAcc')
LESS_KEYS = ('loss', )


@HOOKS.register_module()
class EvalHook(Hook):
    """`evaluation` of a config: run the model over the validation set and evaluate with the dataset.

    Args:
        dataloader: validation samples, in order; its dataset has `evaluate(results, logger=...,
            **eval_options)`.
        start: first evaluation; before any training if it is not above the current epoch.
        interval: epochs or iterations between two evaluations.
        by_epoch: count epochs instead of iterations.
        save_best: the metric by which `best_<metric>_epoch_<n>.pth` is kept, or 'auto' for the
            first one.
        rule: 'greater' or 'less' is better; known for usual metrics.
        greater_keys, less_keys: names, or parts of names, of metrics of either kind.
        dynamic_intervals: [(from, interval), ...], which replace `interval` from there on.
        eval_options: for `dataset.evaluate`: metric, classwise, ...
    """

    def __init__(self,
                 dataloader: DataLoader,
                 start: Optional[int] = None,
                 interval: int = 1,
                 by_epoch: bool = True,
                 save_best: Optional[str] = None,
                 rule: Optional[str] = None,
                 greater_keys: Optional[Union[str, Sequence[str]]] = None,
                 less_keys: Optional[Union[str, Sequence[str]]] = None,
                 dynamic_intervals: Optional[List[Tuple[int, int]]] = None,
                 eval_options: Optional[Dict[str, Any]] = None):
        if interval <= 0:
            raise ValueError(f'evaluation.interval must be positive, not {interval}')
        if start is not None and start < 0:
            raise ValueError(f'evaluation.start must not be negative, not {start}')
        if rule not in (None, 'greater', 'less'):
            raise ValueError(f"evaluation.rule must be 'greater' or 'less', not {rule!r}")
        self.dataloader = dataloader
        self.start = start
        self.interval = interval
        self.by_epoch = by_epoch
        self.save_best = save_best
        self.rule = rule
        self.greater_keys = _as_tuple(greater_keys) or GREATER_KEYS
        self.less_keys = _as_tuple(less_keys) or LESS_KEYS
        self.dynamic_intervals = [(0, interval)] + [tuple(item) for item in dynamic_intervals or ()]
        self.eval_options = dict(eval_options or {})
        self.latest_results: Optional[list] = None
        self.latest_metrics: Dict[str, Any] = {}  # on rank 0
        self.key_indicator = save_best
        self._asked_at_start = False
        self._evaluated_at: Optional[int] = None  # iterations done at that time
        self._logged_metrics: Set[str] = set()
        if save_best not in (None, 'auto'):
            self._set_rule(save_best)

    repeats_on_resume = True  # an epoch is saved before it is evaluated

    def state_dict(self) -> Dict[str, Any]:
        return dict(asked_at_start=self._asked_at_start)

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        self._asked_at_start = state['asked_at_start']

    def _set_rule(self, metric: str) -> None:
        """Set the metric of `save_best` and whether greater or less is better."""
        self.key_indicator = metric
        self.rule = self.rule or rule_of(metric, self.greater_keys, self.less_keys)
        if self.rule is None:
            raise ValueError(
                f"evaluation.save_best={metric!r}: is more better? Write evaluation.rule='greater' or 'less'"
            )

    def before_run(self, runner: Runner) -> None:
        if self.save_best is not None:
            messages = runner.meta.setdefault('hook_msgs', {})
            if runner.iter > 0:
                messages.update(_best_so_far(runner.work_dir, messages))

    def before_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch:
            self._evaluate_at_start(runner, runner.epoch)

    def before_train_iter(self, runner: Runner) -> None:
        if not self.by_epoch:
            self._evaluate_at_start(runner, runner.iter)

    def _evaluate_at_start(self, runner: Runner, now: int) -> None:
        """Evaluate the initial weights if `start` asks for it."""
        if not self._asked_at_start:
            self._asked_at_start = True
            if self.start is not None and now >= self.start and self._is_due(now):
                self._evaluate(runner)

    def _choose_interval(self, now: int) -> None:
        index = bisect.bisect([begin for begin, _ in self.dynamic_intervals], now + 1)
        self.interval = self.dynamic_intervals[index - 1][1]

    def after_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch and self._is_due(runner.epoch):
            self._evaluate(runner)

    def after_train_iter(self, runner: Runner) -> None:
        if not self.by_epoch and self._is_due(runner.iter):
            # The losses since the last line belong to training: they are logged before the metrics
            # of the evaluation.
            for hook in runner.hooks:
                if isinstance(hook, LoggerHook):
                    hook.flush(runner)
            runner.log_buffer.clear()
            self._evaluate(runner)

    def _is_due(self, now: int) -> bool:
        self._choose_interval(now)
        if self.start is None:
            return (now + 1) % self.interval == 0
        return now + 1 >= self.start and (now + 1 - self.start) % self.interval == 0

    def has_evaluated(self, runner: Runner) -> bool:
        """Return whether the current weights have been evaluated."""
        return self._evaluated_at == runner.iterations_done()

    def _evaluate(self, runner: Runner) -> None:
        self._evaluated_at = runner.iterations_done()
        runner.check_finite()
        with self._weights_kept(runner):
            results = self._test(runner)
            self.latest_results = results
        if runner.rank == 0:
            runner.log_buffer.output['eval_iter_num'] = len(self.dataloader)
            with self._weights_kept(runner):
                try:
                    score = self.evaluate(runner, results)
                except Exception as error:
                    if is_user_mistake(error):
                        raise
                    runner.logger.error('the evaluation failed', exc_info=True, extra=FILE_ONLY)
                    raise evaluation_failure(self.dataloader.dataset, self.eval_options,
                                             error) from error
            if self.save_best and score is not None:
                self._save_best(runner, score)

    @contextlib.contextmanager
    def _weights_kept(self, runner: Runner) -> Iterator[None]:
        """Save the trained weights, if no checkpoint has them, before an error of the evaluation
        ends the run."""
        try:
            yield
        except interruption.Interrupted:  # saves the run itself
            raise
        except Exception as error:
            if runner.rank == 0:
                path = self._checkpoint_of_now(runner)
                error.__notes__ = [
                    *getattr(error, '__notes__', ()),
                    f'the training up to here is in {path}; the same command with --auto-resume evaluates again and '
                    'continues'
                ]
            raise

    @staticmethod
    def _checkpoint_of_now(runner: Runner) -> str:
        """Return the checkpoint of the current weights; writes it if it does not exist yet."""
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and hook.has_saved(runner):
                return runner.meta['hook_msgs']['last_ckpt']
        runner.save_checkpoint(runner.work_dir)
        return os.path.realpath(os.path.join(runner.work_dir, 'latest.pth'))

    def _test(self, runner: Runner) -> Optional[list]:
        return single_gpu_test(runner.model, self.dataloader, precision=runner.precision)

    def evaluate(self, runner: Runner, results: list) -> Optional[float]:
        """Log the metrics of `results`; returns the metric of `save_best`."""
        metrics = self.dataloader.dataset.evaluate(
            results, logger=runner.logger, **self.eval_options)
        self.latest_metrics = dict(metrics)
        runner.log_buffer.output.update(metrics)
        runner.log_buffer.ready = True
        if self.save_best is None or (self.key_indicator == 'auto' and not metrics):
            return None
        if self.key_indicator == 'auto':
            self._set_rule(next(iter(metrics)))
        return self.read_metric(runner, self.key_indicator, metrics, 'evaluation.save_best')

    def read_metric(self, runner: Runner, name: str, metrics: Dict[str, Any],
                    key: str) -> Optional[float]:
        """Return the metric named by a setting from the last evaluation; None, with a warning, if
        it has no value: no detections, or undefined.

        Raises UserError for a name that the evaluation does not know.
        """
        has_found = has_detections(self.latest_results)
        if name in metrics or has_found:
            check_metric(key, name, metrics)
        # without detections COCO's evaluator leaves the metrics out; VOC's and KITTI's report 0
        value = read_finite_metric(name, metrics) if has_found else None
        if value is None:
            why = explain_missing(name, metrics, self.latest_results)
            if why not in self._logged_metrics:  # once, not after each epoch
                self._logged_metrics.add(why)
                runner.logger.warning('%s. It counts neither for save_best nor for early_stop', why)
        return value

    def _save_best(self, runner: Runner, score: float) -> None:
        messages = runner.meta.setdefault('hook_msgs', {})
        unit, now = ('epoch', runner.epoch + 1) if self.by_epoch else ('iter', runner.iter + 1)
        best = messages.get('best_score', -inf if self.rule == 'greater' else inf)
        if not (score > best if self.rule == 'greater' else score < best):
            return
        previous = messages.get('best_ckpt')
        name = f'best_{self.key_indicator}_{unit}_{now}.pth'
        path = os.path.join(runner.work_dir, name)
        messages.update(best_score=score, best_ckpt=path)
        runner.save_checkpoint(runner.work_dir, filename_tmpl=name, create_symlink=False)
        if previous and previous != path and os.path.isfile(
                previous):  # only now that the new one is written
            os.remove(previous)
        runner.logger.info('Now best checkpoint is saved as %s.', name)
        runner.logger.info('Best %s is %0.4f at %d %s.', self.key_indicator, score, now, unit)


@HOOKS.register_module()
class DistEvalHook(EvalHook):
    """EvalHook for several processes: each runs its part of the set, rank 0 evaluates.

    Args:
        broadcast_bn_buffer: evaluate with rank 0's norm statistics on every rank, so that the
            metrics are those of the checkpoint; statistics differ between ranks because each
            rank sees its own images.
        tmpdir, gpu_collect: how the parts are collected; see `dist.collect_results`.
    """

    def __init__(self,
                 dataloader: DataLoader,
                 start: Optional[int] = None,
                 interval: int = 1,
                 by_epoch: bool = True,
                 save_best: Optional[str] = None,
                 rule: Optional[str] = None,
                 greater_keys: Optional[Union[str, Sequence[str]]] = None,
                 less_keys: Optional[Union[str, Sequence[str]]] = None,
                 dynamic_intervals: Optional[List[Tuple[int, int]]] = None,
                 eval_options: Optional[Dict[str, Any]] = None,
                 broadcast_bn_buffer: bool = True,
                 tmpdir: Optional[str] = None,
                 gpu_collect: bool = False):
        super().__init__(dataloader, start, interval, by_epoch, save_best, rule, greater_keys,
                         less_keys, dynamic_intervals, eval_options)
        self.broadcast_bn_buffer = broadcast_bn_buffer
        self.tmpdir = tmpdir
        self.gpu_collect = gpu_collect

    def _test(self, runner: Runner) -> Optional[list]:
        if self.broadcast_bn_buffer:
            runner.broadcast_norm_buffers()
        tmpdir = self.tmpdir or os.path.join(runner.work_dir, '.eval_hook')
        return multi_gpu_test(
            runner.model,
            self.dataloader,
            tmpdir=tmpdir,
            gpu_collect=self.gpu_collect,
            precision=runner.precision)


def evaluation_failure(dataset: Dataset,
                       options: Dict[str, Any],
                       error: Exception,
                       where: str = '') -> UserError:
    """Return one message for an error of a dataset's evaluator, with the options and the original error."""
    dataset = getattr(dataset, 'dataset', dataset)  # the loader's dataset seeds each sample
    asked = ', '.join(f'evaluation.{key}={value!r}' for key, value in options.items())
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return UserError(f'{dataset_name(dataset)}.evaluate failed{where} ({asked or "no options"}): '
                     f'{type(error).__name__}: {text}')


def rule_of(metric: str,
            greater_keys: Sequence[str] = GREATER_KEYS,
            less_keys: Sequence[str] = LESS_KEYS) -> Optional[str]:
    """Return 'greater' or 'less', whichever is better, by the whole name first, then by a part of
    it, ignoring case; None if unknown."""
    name = metric.lower()
    greater, less = [key.lower() for key in greater_keys], [key.lower() for key in less_keys]
    if name in greater or (name not in less and any(key in name for key in greater)):
        return 'greater'
    return 'less' if name in less or any(key in name for key in less) else None


def _best_so_far(work_dir: str, known: Dict[str, Any]) -> Dict[str, Any]:
    """Return score and path of the best checkpoint in the work_dir, which may be newer than the resumed file."""
    found = {}
    for name in os.listdir(work_dir):
        if name.startswith('best_') and name.endswith('.pth'):
            messages: Dict[str, Any] = {}
            with contextlib.suppress(
                    CheckpointError):  # truncated by a program that writes in place
                messages = reading.read(os.path.join(work_dir, name)).meta.get('hook_msgs') or {}
            if os.path.basename(messages.get('best_ckpt', '')) == name:
                found = dict(
                    best_score=messages['best_score'], best_ckpt=os.path.join(work_dir, name))
    return found or {key: known[key] for key in ('best_score', 'best_ckpt') if key in known}


def _as_tuple(keys: Optional[Union[str, Sequence[str]]]) -> Tuple[str, ...]:
    return (keys, ) if isinstance(keys, str) else tuple(keys or ())


def split_evaluation(evaluation: Mapping[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Return (settings of the hook, options of `dataset.evaluate`)."""
    own = set(inspect.signature(DistEvalHook).parameters) - {'dataloader', 'eval_options'}
    return ({
        key: value
        for key, value in evaluation.items() if key in own
    }, {
        key: value
        for key, value in evaluation.items() if key not in own
    })
