import pytest
import torch

from tools.benchmarks.no_sync import HostSync, NoSync, count_syncs

X = torch.arange(6.).reshape(2, 3)
MASK = X > 2


@pytest.mark.parametrize('wait', [
    lambda: X.sum().item(),
    lambda: bool(MASK.any()),
    lambda: float(X.sum()),
    lambda: range(X.sum().long()),
    lambda: X[:X[0, 1].long()],
    lambda: MASK.nonzero(),
    lambda: torch.where(MASK),
    lambda: X[MASK],
    lambda: torch.masked_select(X, MASK),
    lambda: X.unique(),
    lambda: torch.equal(X, X),
    lambda: X.repeat_interleave(torch.tensor([1, 2]), dim=0),
    lambda: X.tolist(),
    lambda: X.numpy(),
    lambda: X.cpu(),
    lambda: X.to('cpu'),
    lambda: torch.tensor([1., 2.]),
    lambda: X.new_tensor(3.),
    lambda: torch.from_numpy(X.detach().numpy()),
    lambda: X[:, [0, 1]],
    lambda: X.clone().index_put_((MASK, ), torch.ones(3)),
])
def test_what_waits_is_refused(wait):
    wait()
    with pytest.raises(HostSync), NoSync():
        wait()


@pytest.mark.parametrize('computation', [
    lambda: X.masked_fill(MASK, 0),
    lambda: torch.where(MASK, X, 0.),
    lambda: X.clone().masked_fill_(MASK, 1.),
    lambda: X[:, torch.arange(2)],
    lambda: X.gather(1, MASK.long()).clamp(max=X[0, 1]),
    lambda: X.topk(2).values.sum() / (MASK.sum() + 1e-6),
    lambda: X.to(X.device).to(torch.float64),
    lambda: X.repeat_interleave(torch.arange(2), dim=0, output_size=1),
])
def test_what_does_not_wait_passes(computation):
    with NoSync() as seen:
        computation()
    assert seen.syncs == [] and seen.num_ops > 0


def test_the_backward_pass_is_watched():

    class Reads(torch.autograd.Function):

        @staticmethod
        def forward(context, x):
            return x * 2

        @staticmethod
        def backward(context, gradient):
            return gradient * gradient.max().item()

    x = X.clone().requires_grad_()
    with pytest.raises(HostSync), NoSync():
        Reads.apply(x).sum().backward()


def test_a_limit_allows_so_many_and_names_all():
    with NoSync(limit=2) as seen:
        X.sum().item()
        X.max().item()
        with pytest.raises(HostSync, match='3 waits, 2 allowed'):
            X.min().item()
    assert 'X.max().item()' in seen.syncs[1]


def test_views_and_operations_are_counted_apart():
    with count_syncs() as seen:
        X.t().reshape(3, 2, 1).add(1).sum().item()
    assert seen.ops == {'aten::add': 1, 'aten::sum': 1, 'aten::_local_scalar_dense': 1}
    assert seen.num_ops == 3 and seen.num_views == 2 and len(seen.syncs) == 1


def test_an_operation_can_be_named_as_waiting():
    with pytest.raises(HostSync, match='aten::add'), NoSync(waiting=['aten::add']):
        X + 1
