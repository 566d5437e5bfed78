"""`cuda_graphs` of a config: backbone and neck recorded once for each shape of images, and replayed in training.

A replay is a single launch instead of hundreds by the host. It pays off if the host is slower than
the GPU, which is the case with few images per step. The parts after the neck depend on the images'
content and are not recorded.
"""
import weakref
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmdet_ft.engine.errors import first_line

# A rare shape is not worth its recording, which costs several steps and extra memory for the part's
# outputs, their gradients and those of the weights.
APPEARANCES = 3
MAX_SHAPES = 8
WARM_UPS = 3  # libraries choose algorithms and reserve memory in the first calls of a shape

Tensors = Sequence[Optional[Tensor]]


class CudaRecorder:
    """Runs functions, or records them.

    All recordings share one memory pool: temporary memory of one is reused by the next.
    """

    def __init__(self):
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream()

    def warm_up(self, run: Callable[[], Any]) -> None:
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            run()
        current.wait_stream(self.stream)

    def record(self, run: Callable[[], Tensors]) -> Tuple[Callable[[], None], Tensors]:
        """Return (a function that repeats `run`, the tensors of `run`, overwritten by each repetition)."""
        graph = torch.cuda.CUDAGraph()
        # Other threads pin batches and watch collectives meanwhile.
        with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode='thread_local'):
            made = run()
        return graph.replay, made


class Recording(NamedTuple):
    """The recording of one shape. Its tensors keep their addresses; a replay reads and writes them."""
    images: Tensor
    outputs: Tensors
    grad_outputs: List[Tensor]
    gradients: Tensors  # of the parameters, None for those that do not affect the outputs
    forward: Callable[[], None]
    backward: Callable[[], None]


class Call:
    """A forward replay, until its backward."""

    def __init__(self, recording: Recording):
        self.recording = recording


class _Replay(torch.autograd.Function):

    @staticmethod
    def forward(ctx, call: Call, images: Tensor, *parameters: Tensor) -> Tuple[Tensor, ...]:
        ctx.call = call
        recording = call.recording
        recording.images.copy_(images)
        recording.forward()
        return tuple(output.detach() for output in recording.outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads: Tensor) -> Tensors:
        recording, ctx.call = ctx.call.recording, None
        for mine, grad in zip(recording.grad_outputs, grads):
            mine.copy_(grad)
        recording.backward()
        # Copies: the next replay writes these tensors, which may have become a .grad.
        copies = iter(torch._foreach_mul([g for g in recording.gradients if g is not None], 1.))
        return (None, None, *(None if g is None else next(copies) for g in recording.gradients))


class Replayed:
    """A function of images that is replayed if possible, else called.

    The outputs of one call are valid until the next. Not replayed are: evaluation, the first
    appearances of a shape, shapes beyond MAX_SHAPES, and a second call before the first one's backward.

    Args:
        function: images [B, C, H, W] -> tuple of tensors, whose shapes depend only on that of the images.
        model: owner of the parameters and buffers that the function uses.
        parts: the modules that the function calls.
        warn: is called with a sentence when recording fails or ends.
        recorder: a CudaRecorder.
    """

    def __init__(self, function: Callable[[Tensor], Tuple[Tensor, ...]], model: nn.Module,
                 parts: Sequence[nn.Module], warn: Callable[[str], None], recorder: Any):
        self.function = function
        self.model = model
        self.parts = parts
        self.warn = warn
        self.recorder = recorder
        self.counts: Dict[Any, int] = {}
        self.recordings: Dict[Any, Recording] = {}
        self.ended = False
        self._open: Callable[[], Any] = lambda: None  # the call that waits for its backward

    def __call__(self, images: Tensor) -> Tuple[Tensor, ...]:
        if not (self.model.training and torch.is_grad_enabled()) or self._open() is not None:
            return self.function(images)
        parameters = self.parameters()
        recording = self._recording(images, parameters) if parameters else None
        if recording is None:
            return self.function(images)
        call = Call(recording)
        self._open = weakref.ref(call)
        return _Replay.apply(call, images, *parameters)

    def parameters(self) -> List[Tensor]:
        return [p for part in self.parts for p in part.parameters() if p.requires_grad]

    def _recording(self, images: Tensor, parameters: List[Tensor]) -> Optional[Recording]:
        kind = images.device.type
        # A recording is invalid for weights with another address, and for newly frozen ones.
        key = (images.shape, images.stride(), images.dtype, torch.is_autocast_enabled(kind),
               torch.get_autocast_dtype(kind), tuple(map(Tensor.data_ptr, parameters)))
        if key in self.recordings or self.ended:
            return self.recordings.get(key)
        self.counts[key] = self.counts.get(key, 0) + 1
        if self.counts[key] < APPEARANCES:
            return None
        if len(self.recordings) == MAX_SHAPES:
            self.ended = True
            self.warn(
                f'cuda_graphs: {MAX_SHAPES} shapes of images are recorded, others are computed without; '
                'data.train_dataloader.bucket = 64 makes few shapes of many')
            return None
        try:
            self.recordings[key] = self._make(images, parameters)
        except Exception as error:  # many possible reasons: no memory, or an operation that waits for the device
            self.ended = True
            self.warn(f'cuda_graphs: no more shapes are recorded: {first_line(error)}')
        return self.recordings.get(key)

    def _make(self, images: Tensor, parameters: List[Tensor]) -> Recording:
        images = images.detach().clone()
        kind = images.device.type
        made: List[Tuple[Tensor, ...]] = []

        def forward() -> Sequence[Tensor]:
            # Half-precision weights in autocast's cache would not follow updates of the weights.
            with torch.autocast(
                    kind,
                    torch.get_autocast_dtype(kind),
                    torch.is_autocast_enabled(kind),
                    cache_enabled=False):
                made[:] = [self.function(images)]
            return [output.detach() for output in made[0]]

        def backward() -> Tensors:
            pairs = [pair for pair in zip(made[0], grad_outputs) if pair[0].requires_grad]
            outputs, grads = zip(*pairs)
            return torch.autograd.grad(outputs, parameters, grads, allow_unused=True)

        buffers = [buffer for part in self.parts for buffer in part.buffers()]
        before = [buffer.clone() for buffer in buffers]
        try:
            with torch.random.fork_rng([images.device] if kind == 'cuda' else []):
                grad_outputs = [torch.zeros_like(output) for output in forward()]
                for _ in range(WARM_UPS):
                    self.recorder.warm_up(lambda: (forward(), backward()))
                replay_forward, outputs = self.recorder.record(forward)
                replay_backward, gradients = self.recorder.record(backward)
        finally:
            for buffer, value in zip(buffers,
                                     before):  # undo the warm-up's updates of norm statistics
                buffer.copy_(value)
        return Recording(images, outputs, grad_outputs, gradients, replay_forward, replay_backward)
