import pytest
import torch
import torch.nn.functional as F

from mmdet_ft.ops.patches import neighbour_table, take_patches

SIZES = [(4, 5), (2, 3), (1, 1)]


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_patches_are_those_of_the_padded_maps_and_gradients_lie_as_the_maps_do(layout):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 3, *size, generator=generator) for size in SIZES]
    maps = [x.contiguous(memory_format=layout).requires_grad_() for x in maps]
    table = neighbour_table(SIZES, torch.device('cpu'))
    cells = torch.randint(0, len(table), (2, 40), generator=generator)  # some of them twice
    patches = take_patches(maps, table[cells])
    every = torch.cat([F.unfold(x, 3, padding=1) for x in maps], 2).mT  # [B, N, C * 9]
    expected = every.gather(1, cells[..., None].expand(-1, -1, 27))
    assert torch.equal(patches, expected)

    weight = torch.randn(patches.shape, generator=generator)
    grads = torch.autograd.grad((patches * weight).sum(), maps)
    for grad, theirs in zip(grads, torch.autograd.grad((expected * weight).sum(), maps)):
        torch.testing.assert_close(grad, theirs)
        assert (grad.stride(1) == 1) == (layout == torch.channels_last)
