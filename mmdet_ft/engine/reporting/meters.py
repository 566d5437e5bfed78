"""Meters of a run: values stay on the device and are read once per log interval."""
import math
from collections import OrderedDict, deque
from typing import Any, Deque, Dict, List, NamedTuple, Sequence, Tuple, Union

import torch
from torch import Tensor

from mmdet_ft.engine.distributed.dist import gather_objects
from mmdet_ft.engine.errors import NonFiniteError

Number = Union[int, float, Tensor]


class _Entry(NamedTuple):
    values: Union[Tensor, List[float]]
    count: int


class LogBuffer:
    """V2's buffer between the loop, the hooks and the loggers.

    `update` takes numbers and scalar tensors of one iteration; `average` turns the last iterations
    into `output`, and is the only method that reads the device. A hook may also write to `output`
    directly and set `ready`.
    """

    def __init__(self, keep: int = 1000):
        self.keep = keep
        self.output: Dict[str, Any] = OrderedDict()
        self.ready = False
        # Keys of one update are stored together: one small tensor per iteration instead of one per
        # value.
        self._history: Dict[Tuple[str, ...], Deque[_Entry]] = {}

    def clear(self) -> None:
        self._history.clear()
        self.clear_output()

    def clear_output(self) -> None:
        self.output.clear()
        self.ready = False

    def update(self, values: Dict[str, Number], count: int = 1) -> None:
        """Store one iteration's values, each the mean over `count` samples."""
        tensors = {key: value for key, value in values.items() if isinstance(value, Tensor)}
        numbers = {key: float(value) for key, value in values.items() if key not in tensors}
        if tensors:
            # A hook or a custom head may give a CPU tensor among those of the device.
            device = max((value.device for value in tensors.values()),
                         key=lambda x: x.type != 'cpu')
            stacked = torch.stack(
                [value.detach().to(device, torch.float).reshape(()) for value in tensors.values()])
            self._append(tuple(tensors), _Entry(stacked, count))
        if numbers:
            self._append(tuple(numbers), _Entry(list(numbers.values()), count))

    def _append(self, keys: Tuple[str, ...], entry: _Entry) -> None:
        self._history.setdefault(keys, deque(maxlen=self.keep)).append(entry)

    def state_dict(self) -> List[Dict[str, Any]]:
        """Return the history for a checkpoint: a table [iterations, keys] for the keys of each update."""
        return [
            dict(
                keys=list(keys),
                counts=[entry.count for entry in history],
                values=torch.stack(
                    [torch.as_tensor(entry.values, dtype=torch.float64)
                     for entry in history]).cpu(),
                on_device=isinstance(history[0].values, Tensor))
            for keys, history in self._history.items()
        ]

    def load_state_dict(self, state: List[Dict[str, Any]], device: torch.device) -> None:
        for part in state:
            rows = part['values'].float().to(
                device) if part['on_device'] else part['values'].tolist()
            for row, count in zip(rows, part['counts']):
                self._append(tuple(part['keys']), _Entry(row, count))

    def average(self, n: int = 0) -> None:
        """Write the weighted means of the last `n` entries (0: of all), over entries and ranks, to `output`."""
        own: Dict[str, float] = OrderedDict()
        for keys, history in self._history.items():
            entries = list(history)[-n:]
            total = sum(entry.count for entry in entries)
            if isinstance(entries[0].values, Tensor):
                weights = [entry.count / total for entry in entries]
                table = torch.stack([entry.values for entry in entries
                                     ]).cpu().double()  # the only read from the device
                means = (table * torch.tensor(weights, dtype=torch.double)[:, None]).sum(0).tolist()
            else:
                means = [
                    sum(entry.values[column] * entry.count for entry in entries) / total
                    for column in range(len(keys))
                ]
            own.update(zip(keys, means))
        ranks = gather_objects(own)
        for key in own:
            values = [rank[key] for rank in ranks if key in rank]
            self.output[key] = sum(values) / len(values)
        self.ready = True


class _Step(NamedTuple):
    """Data of an iteration that the host keeps until the latch is read."""
    iteration: int
    lr: float
    files: Sequence[str]
    values: Dict[str, Tensor]


class FiniteLatch:
    """Stores on the device the first iteration whose losses or gradients are not finite.

    From then on every step is refused (`closed`), so that the weights stay those before it. The
    host reads the latch with the meters, before it writes a checkpoint and before it evaluates.
    """

    def __init__(self, device: torch.device, keep: int = 1000):
        self.closed = torch.zeros((), dtype=torch.bool, device=device)
        self._iteration = torch.full((), -1, dtype=torch.int64, device=device)
        self._steps: Deque[_Step] = deque(maxlen=keep)

    def begin(self, iteration: int, lr: float, files: Sequence[str], values: Dict[str,
                                                                                  Tensor]) -> None:
        """Store an iteration's images and losses, for the message."""
        self._steps.append(
            _Step(iteration, lr, files, {
                key: value.detach()
                for key, value in values.items()
            }))

    def close_if(self, bad: Tensor, iteration: int) -> None:
        """Close where `bad` (bool scalar on the device) is True."""
        self._iteration = torch.where(bad & ~self.closed, iteration, self._iteration)
        self.closed = self.closed | bad

    def check(self, everywhere: bool = True) -> None:
        """Read the latch, of all ranks if `everywhere` (every rank has to call it then).

        Raises NonFiniteError on every rank, with the iteration, the losses and the images.
        """
        iteration = int(self._iteration.item())
        report = None if iteration < 0 else self._report(iteration)
        reports = gather_objects(report) if everywhere else [report]
        bad = [(rank, *report) for rank, report in enumerate(reports) if report is not None]
        if bad:
            rank, _, text = max(
                bad, key=lambda item: item[1]
            )  # all ranks see a bad gradient: find the rank with the bad loss
            error = NonFiniteError(text if len(reports) == 1 else f'rank {rank}: {text}')
            error.iteration = iteration
            raise error
        self._steps.clear()

    def losses_of(self, iteration: int) -> Dict[str, float]:
        """Return the losses of an iteration that the latch still stores."""
        for step in self._steps:
            if step.iteration == iteration:
                return {key: float(value) for key, value in step.values.items()}
        return {}

    def _report(self, iteration: int) -> Tuple[int, str]:
        """Return (number of non-finite losses on this rank, the message)."""
        step = next((step for step in self._steps if step.iteration == iteration), None)
        values = self.losses_of(iteration)
        num_bad = sum(not math.isfinite(value) for value in values.values())
        what = 'the loss was' if num_bad else 'the gradient was' if values else 'the loss or its gradient was'
        text = f'training stopped: {what} not finite at iteration {iteration + 1}'
        if step is not None:
            text += ''.join([
                f' (lr {step.lr:.4g}', *(f', {key} {value:.4g}' for key, value in values.items()),
                ')'
            ])
            text += f'; images: {", ".join(step.files)}' if step.files else ''
        return num_bad, (
            text +
            '. The weights are those before it, and no checkpoint was written since. Usual remedies: a lower '
            'optimizer.lr, a longer lr_config.warmup_iters, optimizer_config=dict(grad_clip=dict(max_norm=35, '
            'norm_type=2)), and a look at the annotations of these images')
