"""Hook that ends a run without further improvement."""
from typing import Any, Dict, Optional

from mmdet_ft.engine.distributed import dist
from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.hooks.evaluation import EvalHook, rule_of
from mmdet_ft.engine.runner.hook import Hook
from mmdet_ft.engine.runner.protocol import Runner
from mmdet_ft.registry import HOOKS
from mmdet_ft.spelling import counted


@HOOKS.register_module()
class EarlyStopHook(Hook):
    """`early_stop` of a config: end the run after `patience` evaluations without an improvement.

    Acts after the evaluation and before the loggers. Its count is restored on resume. An evaluation
    without a value of the metric (no detections) counts as one without an improvement. Before the
    first value it does not count, so that a slow start ends no run.

    Args:
        monitor: a metric of the evaluation, as the log names it: 'bbox_mAP', 'segm_mAP'.
        patience: consecutive evaluations allowed without an improvement.
        min_delta: smallest change that counts as an improvement, in units of the metric (0.001 of an
            mAP between 0 and 1).
        rule: 'greater' or 'less' is better; known for usual metrics.
    """

    repeats_on_resume = True

    def __init__(self,
                 monitor: str,
                 patience: int = 5,
                 min_delta: float = 0.,
                 rule: Optional[str] = None):
        if patience < 1:
            raise UserError(f'early_stop.patience must be at least 1, not {patience}')
        if min_delta < 0:
            raise UserError(f'early_stop.min_delta must not be negative, not {min_delta}')
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.rule = rule or rule_of(monitor)
        if self.rule not in ('greater', 'less'):
            raise UserError(
                f"early_stop.monitor={monitor!r}: is more better? Write early_stop.rule='greater' or 'less'"
            )
        self.best: Optional[float] = None
        self.waited = 0
        self._judged_at: Optional[int] = None  # iterations done at that time

    def state_dict(self) -> Dict[str, Any]:
        return dict(best=self.best, waited=self.waited)

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        self.best, self.waited = state['best'], state['waited']

    def before_run(self, runner: Runner) -> None:
        if not any(isinstance(hook, EvalHook) for hook in runner.hooks):
            raise UserError('early_stop needs an evaluation: data.val, and no --no-validate')

    def after_train_iter(self, runner: Runner) -> None:
        self._check_metric(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        self._check_metric(runner)

    def _check_metric(self, runner: Runner) -> None:
        evaluation = next(
            (hook
             for hook in runner.hooks if isinstance(hook, EvalHook) and hook.has_evaluated(runner)),
            None)
        if evaluation is None or self._judged_at == runner.iterations_done():
            return
        self._judged_at = runner.iterations_done()
        reason = None
        if runner.rank == 0:  # only rank 0 has the metrics
            reason = self._decide(
                evaluation.read_metric(runner, self.monitor, runner.log_buffer.output,
                                       'early_stop.monitor'))
        runner.stop_reason = dist.broadcast_object(reason)

    def _decide(self, now: Optional[float]) -> Optional[str]:
        """Return the reason to stop if the patience is exhausted with the value `now`, else None."""
        if self.best is None and now is None:
            return None  # patience starts with the first value: before it there is no best one
        if now is not None:
            gain = None if self.best is None else now - self.best if self.rule == 'greater' else self.best - now
            if gain is None or gain > self.min_delta:
                self.best, self.waited = now, 0
                return None
        self.waited += 1
        if self.waited < self.patience:
            return None
        return (f'early_stop: {self.monitor} has not been better than {self.best:.4f} for '
                f'{counted(self.waited, "evaluation")}')
