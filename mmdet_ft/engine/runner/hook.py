"""V2's hook interface: points of a run at which hooks act, and their order."""
import functools
from enum import IntEnum
from typing import Any, Callable, Dict, List, Optional, Sequence, Union

from mmdet_ft.engine.runner.protocol import Runner

STAGES = ('before_run', 'before_train_epoch', 'before_train_iter', 'after_train_iter',
          'after_train_epoch', 'before_val_epoch', 'before_val_iter', 'after_val_iter',
          'after_val_epoch', 'after_run')


class Priority(IntEnum):
    """Order of the hooks at a point: smaller numbers first, equal ones by registration.

    The learning rate is set before every hook of `before_train_iter`; backward, clip and step come
    before every hook of `after_train_iter`, whatever its priority. Then: custom hooks and
    checkpoints NORMAL, evaluation LOW, loggers VERY_LOW.
    """
    HIGHEST = 0
    VERY_HIGH = 10
    HIGH = 30
    ABOVE_NORMAL = 40
    NORMAL = 50
    BELOW_NORMAL = 60
    LOW = 70
    VERY_LOW = 90
    LOWEST = 100


def get_priority(priority: Union[int, str, Priority]) -> int:
    """Return the number of a priority given as a name or a number 0..100."""
    if isinstance(priority, str):
        try:
            return Priority[priority.upper()].value
        except KeyError:
            raise ValueError(
                f'unknown hook priority {priority!r}; there are {", ".join(Priority.__members__)}, '
                f'and numbers 0 to 100') from None
    if not 0 <= int(priority) <= 100:
        raise ValueError(f'a hook priority is between 0 (first) and 100 (last), not {priority}')
    return int(priority)


class Hook:
    """Base class of hooks, in which every point does nothing.

    `before_epoch` is called for both `before_train_epoch` and `before_val_epoch`, and so on. Each
    point receives the runner; its attributes are listed in `mmdet_ft.engine.runner.base.BaseRunner`.
    """

    stages = STAGES
    # A hook writes the checkpoint in the middle of a call. With True, a resumed run calls the hooks after
    # it again for that point. See `mmdet_ft.engine.runner.resume_state`.
    repeats_on_resume = False
    sole: Optional[
        str] = None  # what a run may have one hook for, such as 'the averages of the weights'

    def state_dict(self) -> Dict[str, Any]:
        """Return the hook's state for a checkpoint, in types that `weights_only` reads."""
        return {}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Load what `state_dict` returned; called after `before_run` of a resumed run."""

    def prepare_model(self, model: Any) -> None:
        """Add buffers to the model; called before a checkpoint is resumed and before the run.

        Not a point of V2, which calls the hooks of a resumed run too late for this.
        """

    def before_run(self, runner: Runner) -> None:
        pass

    def after_run(self, runner: Runner) -> None:
        pass

    def before_epoch(self, runner: Runner) -> None:
        pass

    def after_epoch(self, runner: Runner) -> None:
        pass

    def before_iter(self, runner: Runner) -> None:
        pass

    def after_iter(self, runner: Runner) -> None:
        pass

    def before_train_epoch(self, runner: Runner) -> None:
        self.before_epoch(runner)

    def before_val_epoch(self, runner: Runner) -> None:
        self.before_epoch(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        self.after_epoch(runner)

    def after_val_epoch(self, runner: Runner) -> None:
        self.after_epoch(runner)

    def before_train_iter(self, runner: Runner) -> None:
        self.before_iter(runner)

    def before_val_iter(self, runner: Runner) -> None:
        self.before_iter(runner)

    def after_train_iter(self, runner: Runner) -> None:
        self.after_iter(runner)

    def after_val_iter(self, runner: Runner) -> None:
        self.after_iter(runner)

    # Counters of finished units, for use inside the points: runner.epoch and runner.iter count from 0.

    def every_n_epochs(self, runner: Runner, n: int) -> bool:
        return n > 0 and (runner.epoch + 1) % n == 0

    def every_n_inner_iters(self, runner: Runner, n: int) -> bool:
        return n > 0 and (runner.inner_iter + 1) % n == 0

    def every_n_iters(self, runner: Runner, n: int) -> bool:
        return n > 0 and (runner.iter + 1) % n == 0

    def end_of_epoch(self, runner: Runner) -> bool:
        return runner.inner_iter + 1 == len(runner.data_loader)

    def is_last_epoch(self, runner: Runner) -> bool:
        return runner.epoch + 1 == runner.max_epochs

    def is_last_iter(self, runner: Runner) -> bool:
        return runner.iter + 1 == runner.max_iters

    def get_triggered_stages(self) -> List[str]:
        """Return the points that this hook's class overrides, in the order of a run."""
        both = {
            f'{when}_{mode}_{unit}': f'{when}_{unit}'
            for when in ('before', 'after')
            for mode in ('train', 'val')
            for unit in ('epoch', 'iter')
        }

        def overridden(name: str) -> bool:
            return getattr(type(self), name) is not getattr(Hook, name)

        return [
            stage for stage in STAGES
            if overridden(stage) or (stage in both and overridden(both[stage]))
        ]


def who_acts(hooks: Sequence[Hook]) -> str:
    """Return a line for each point of a run: its hooks, in the order of the calls."""
    lines = []
    for stage in STAGES:
        acting = [
            f'{type(hook).__name__} ({_priority_name(hook.priority)})' for hook in hooks
            if stage in hook.get_triggered_stages()
        ]
        if acting:
            lines.append(f'{stage}: {", ".join(acting)}')
    return '\n'.join(lines)


def _priority_name(priority: int) -> str:
    return Priority(priority).name if priority in Priority._value2member_map_ else str(priority)


def master_only(function: Callable) -> Callable:
    """Wrap a point of a hook to run on rank 0 only."""

    @functools.wraps(function)
    def run(self, runner, *args, **kwargs):
        if runner.rank == 0:
            return function(self, runner, *args, **kwargs)

    return run
