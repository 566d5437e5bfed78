import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdet_ft.ops.sampling import sample


@settings(max_examples=100, deadline=None)
@given(
    labels=st.lists(
        st.lists(st.sampled_from([1, 0, -1]), min_size=12, max_size=12), min_size=1, max_size=3),
    num=st.integers(1, 20),
    fraction=st.sampled_from([.25, .5, 1.]),
    bound=st.sampled_from([-1, 0, 2]))
def test_a_sample_is_as_full_as_the_counts_allow_with_positives_first(labels, num, fraction, bound):
    label = torch.tensor(labels)
    index, valid = sample(label, num, fraction, bound)
    assert index.shape == (len(labels), min(num, 12))
    for image, chosen, real in zip(label, index, valid):
        drawn = image[chosen[real]]
        num_pos = min(int((image == 1).sum()), int(num * fraction))
        room = num - num_pos if bound < 0 else min(num - num_pos, bound * max(num_pos, 1))
        assert drawn.tolist() == [1] * num_pos + [0] * min(int((image == 0).sum()), room)
        assert len(set(chosen[real].tolist())) == len(drawn)  # nothing twice


def test_every_positive_is_equally_likely():
    torch.manual_seed(0)
    label = torch.ones(4000, 6, dtype=torch.long)
    index, _ = sample(label, 4, .5)
    counts = index[:, :2].flatten().bincount(minlength=6)
    assert (counts - 4000 * 2 / 6).abs().max() < 150


def test_the_same_seed_draws_the_same():
    label = torch.randint(-1, 2, (2, 50))
    torch.manual_seed(3)
    first = sample(label, 16, .5)
    torch.manual_seed(3)
    assert torch.equal(first[0], sample(label, 16, .5)[0])
