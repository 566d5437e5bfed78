"""The first fully connected layer of a box head, on maps as they lie in memory."""
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmdet_ft.models.layers import linear_of_map
from mmdet_ft.models.roi_heads.bbox_heads import (BBoxHead, ConvFCBBoxHead, Shared2FCBBoxHead,
                                                  Shared4Conv1FCBBoxHead)

HEADS = [
    (Shared2FCBBoxHead, {}),
    (Shared4Conv1FCBBoxHead, dict(conv_out_channels=6)),
    (BBoxHead, {}),
    (BBoxHead, dict(with_avg_pool=True)),
    (ConvFCBBoxHead, dict(num_cls_fcs=1, num_reg_convs=1, conv_out_channels=6)),
]


def outputs_and_gradients(head, x):
    outputs = head(x)
    head.zero_grad()
    sum(output.sin().sum() for output in outputs).backward()
    return [*outputs, x.grad, *(parameter.grad for parameter in head.parameters())]


@pytest.mark.parametrize('kind, arguments', HEADS)
def test_a_box_head_gives_the_same_for_both_orders_of_memory(kind, arguments):
    torch.manual_seed(0)
    head = kind(
        in_channels=6, roi_feat_size=3, num_classes=4, fc_out_channels=10, **arguments).double()
    x = torch.randn(5, 6, 3, 3, dtype=torch.float64)
    rows = x.contiguous(memory_format=torch.channels_last)
    for a, b in zip(
            outputs_and_gradients(head, x.requires_grad_()),
            outputs_and_gradients(head, rows.requires_grad_())):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
    for parameter in head.parameters():
        assert parameter.grad.stride() == parameter.stride()


class Copies(TorchDispatchMode):
    """Sizes of what is copied."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if function.overloadpacket in (torch.ops.aten.clone, torch.ops.aten.copy_,
                                       torch.ops.aten._to_copy):
            self.sizes.append(out.numel())
        return out


@pytest.mark.parametrize('autocast', [False, True])
def test_maps_are_not_copied_and_the_weight_is_once(autocast):
    layer = nn.Linear(6 * 9, 10)
    x = torch.randn(50, 6, 3, 3).contiguous(memory_format=torch.channels_last)
    if autocast:
        x = x.bfloat16()
    x.requires_grad_()
    with Copies() as forward, torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        out = linear_of_map(layer, x)
    assert x.numel() not in forward.sizes
    assert forward.sizes.count(layer.weight.numel()) == 1
    with Copies() as backward:
        out.float().sum().backward()
    assert x.numel() not in backward.sizes
    assert x.grad.is_contiguous(memory_format=torch.channels_last)
    assert layer.weight.grad.is_contiguous() and layer.weight.grad.dtype == torch.float32


def test_a_layer_that_is_watched_or_of_another_kind_is_called_itself():
    x = torch.randn(2, 6, 3, 3).contiguous(memory_format=torch.channels_last)
    layer, seen = nn.Linear(6 * 9, 10), []
    layer.register_forward_hook(lambda *arguments: seen.append(1))
    assert torch.equal(linear_of_map(layer, x), layer(x.flatten(1))) and len(seen) == 2

    class Doubled(nn.Linear):

        def forward(self, x):
            return 2 * super().forward(x)

    layer = Doubled(6 * 9, 10)
    assert torch.equal(linear_of_map(layer, x), layer(x.flatten(1)))
