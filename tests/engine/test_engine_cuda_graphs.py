"""The bookkeeping of recorded shapes, with a recorder that repeats by calling again; what is really recorded is tested
where there is a GPU."""
import pytest
import torch
from torch import nn

from mmdet_ft.engine.errors import UserError
from mmdet_ft.engine.reporting.log import get_root_logger
from mmdet_ft.engine.settings.records import Acceleration
from mmdet_ft.engine.speed.acceleration import accelerate, use_cuda_graphs
from mmdet_ft.engine.speed.cuda_graphs import APPEARANCES, MAX_SHAPES, CudaRecorder, Replayed
from mmdet_ft.registry import MODELS
from mmdet_ft.structures import to_device
from tests.models.tiny import tiny_batch, tiny_config, tiny_model

CPU = torch.device('cpu')


def model_with(**backbone):
    settings = tiny_config()
    settings['backbone'].update(backbone)
    torch.manual_seed(0)
    model = MODELS.build(settings)
    model.init_weights()
    return model.train()


class Repeater:
    """As a CudaRecorder, to the eye: a replay writes the tensors of the first run."""

    def __init__(self):
        self.replays = 0
        self.recorded = 0

    def warm_up(self, run):
        run()

    def record(self, run):
        made = run()
        self.recorded += 1

        def replay():
            self.replays += 1
            with torch.enable_grad():
                values = run()
            for tensor, value in zip(made, values):
                if tensor is not None:
                    tensor.copy_(value)

        return replay, made


def replayed(model, recorder, text=None):
    model.extract_features = Replayed(model.extract_features, model, [model.backbone, model.neck],
                                      (text if text is not None else []).append, recorder)
    return model


def train(model, batches, steps=1):
    """Losses of `steps` over the batches, with plain gradient descent."""
    losses = []
    for number in range(steps):
        for batch in batches:
            torch.manual_seed(number)
            total = model(batch).total
            model.zero_grad()
            total.backward()
            losses.append(total.detach())
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter -= .01 * parameter.grad
    return torch.stack(losses)


@pytest.mark.parametrize('norm_eval', [True, False])
def test_a_replayed_model_learns_what_a_called_one_does(norm_eval):
    batches = [tiny_batch((2, 1)), tiny_batch((1, 3), size=(96, 64))]
    recorder = Repeater()
    plain = model_with(norm_eval=norm_eval)
    mine = replayed(model_with(norm_eval=norm_eval), recorder)
    torch.testing.assert_close(
        train(mine, batches, steps=6), train(plain, batches, steps=6), rtol=1e-5, atol=1e-6)
    assert recorder.recorded == 2 * len(batches)
    assert recorder.replays == 2 * len(batches) * (6 - APPEARANCES + 1)
    state = mine.state_dict()
    for name, value in plain.state_dict().items():  # statistics too, and no other name
        torch.testing.assert_close(state.pop(name), value, rtol=1e-5, atol=1e-6)
    assert not state


def test_gradients_add_up_over_two_replays():
    batch = tiny_batch((2, 1))
    model = replayed(tiny_model(), Repeater())
    train(model, [batch], APPEARANCES)
    model.zero_grad()
    torch.manual_seed(0)
    model(batch).total.backward()
    once = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    torch.manual_seed(0)
    model(batch).total.backward()
    for parameter, gradient in zip((p for p in model.parameters() if p.grad is not None), once):
        torch.testing.assert_close(parameter.grad, 2 * gradient)


def test_evaluation_and_a_second_view_before_the_backward_are_called_plainly():
    batch = tiny_batch((2, 1))
    recorder = Repeater()
    model = replayed(tiny_model(), recorder)
    train(model, [batch], APPEARANCES)
    before = recorder.replays
    model.eval()
    with torch.no_grad():
        model(batch)
    assert recorder.replays == before
    model.train()
    torch.manual_seed(0)
    first = model(batch).total
    torch.manual_seed(0)
    second = model(batch).total
    assert recorder.replays == before + 1  # the outputs of the first are still needed
    model.zero_grad()
    first.backward()
    once = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    second.backward()
    for parameter, gradient in zip((p for p in model.parameters() if p.grad is not None), once):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    del first, second
    model(batch)  # a loss that nobody goes back through
    model(batch)
    assert recorder.replays == before + 4


def test_weights_that_were_frozen_or_moved_are_recorded_again():
    batch = tiny_batch((2, 1))
    recorder = Repeater()
    model = replayed(tiny_model(), recorder)
    train(model, [batch], APPEARANCES)
    for parameter in model.neck.parameters():
        parameter.requires_grad_(False)
    train(model, [batch], APPEARANCES)
    assert recorder.recorded == 4
    weight = next(p for p in model.backbone.parameters() if p.requires_grad)
    weight.data = weight.data.clone()
    train(model, [batch], APPEARANCES)
    assert recorder.recorded == 6


class Doubling(nn.Module):
    """images -> (2 * weight * images, )"""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.unused = nn.Parameter(torch.ones(()))

    def extract_features(self, images):
        return (2 * self.weight * images, )


def test_only_so_many_shapes_are_recorded():
    text, model = [], Doubling()
    function = Replayed(model.extract_features, model, [model], text.append, Repeater())
    for width in range(1, MAX_SHAPES + 3):
        for _ in range(APPEARANCES):
            output, = function(torch.ones(1, 3, 4, width))
            output.sum().backward()
            assert output.shape[-1] == width
    assert len(function.recordings) == MAX_SHAPES and model.unused.grad is None
    assert len(text) == 1 and 'bucket = 64' in text[0]


def test_what_cannot_be_recorded_is_called_and_told_once():

    class Refuses(Repeater):

        def record(self, run):
            raise RuntimeError('operation not permitted when stream is capturing\nand more')

    text, model = [], Doubling()
    function = Replayed(model.extract_features, model, [model], text.append, Refuses())
    for _ in range(APPEARANCES + 2):
        torch.testing.assert_close(
            function(torch.ones(1, 3, 4, 4))[0], torch.full((1, 3, 4, 4), 2.))
    assert text == [
        'cuda_graphs: no more shapes are recorded: '
        'operation not permitted when stream is capturing'
    ]


@pytest.mark.parametrize('change, reason', [
    (dict(), 'the model is on cpu'),
    (dict(with_cp=True), 'write with_cp=False'),
    (dict(norm_cfg=dict(type='SyncBN')), 'SyncBN talks to the other processes'),
])
def test_what_cannot_be_had_is_left_off_with_its_reason(change, reason):
    assert reason in use_cuda_graphs(model_with(**change), CPU, True)
    assert use_cuda_graphs(model_with(**change), CPU, False) is None


def test_two_ways_of_recording_exclude_each_other():
    with pytest.raises(UserError, match="'reduce-overhead' replays CUDA graphs itself: take out"):
        accelerate(tiny_model(),
                   Acceleration(cuda_graphs=True, compile=dict(mode='reduce-overhead')), CPU,
                   get_root_logger())


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_on_a_gpu_a_replayed_model_learns_what_a_called_one_does(dtype):
    device = torch.device('cuda')
    batches = [
        to_device(tiny_batch((2, 1)), device),
        to_device(tiny_batch((1, 3), size=(96, 64)), device)
    ]
    text = []
    plain, mine = tiny_model().to(device), replayed(tiny_model().to(device), CudaRecorder(), text)
    with torch.autocast('cuda', dtype, enabled=dtype != torch.float32):
        expected = train(plain, batches, steps=6)
        losses = train(mine, batches, steps=6)
    assert not text and len(mine.extract_features.recordings) == 2
    torch.testing.assert_close(
        losses, expected, rtol=2e-2 if dtype == torch.bfloat16 else 1e-3, atol=1e-3)
