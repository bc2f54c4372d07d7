import pytest
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS

from surge_mm import LengthBatchSampler


class Lengths(list):
    """A data set of items of random lengths."""

    def __init__(self, count=203):
        super().__init__(range(count))
        self.lengths = [(index * 37) % 41 + 3 for index in range(count)]


def batches(monkeypatch, rank=0, world_size=1, epoch=0, count=203, seed=5, **settings):
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (rank, world_size))
    sampler = DefaultSampler(Lengths(count), shuffle=True, seed=seed)
    sampler.set_epoch(epoch)
    return LengthBatchSampler(sampler, 8, **{'window': 10, **settings})


def test_each_item_comes_once_in_batches_of_similar_length(monkeypatch):
    sampler = batches(monkeypatch)
    found = list(sampler)
    lengths = sampler.sampler.dataset.lengths
    assert sorted(index for batch in found for index in batch) == list(range(203))
    assert len(found) == len(sampler) == 26
    assert sorted(len(batch) for batch in found) == [3, *[8] * 25]
    spreads = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in found]
    plain = [lengths[i] for i in sampler.sampler]
    unsorted = [max(plain[i : i + 8]) - min(plain[i : i + 8]) for i in range(0, 203, 8)]
    assert sum(spreads) < sum(unsorted) / 4


def test_the_last_items_can_be_left_out(monkeypatch):
    sampler = batches(monkeypatch, drop_last=True)
    assert [len(batch) for batch in sampler] == [8] * 25
    assert len(sampler) == 25


def test_seed_and_epoch_decide_the_order_alone(monkeypatch):
    first = list(batches(monkeypatch))
    assert first == list(batches(monkeypatch))
    assert first != list(batches(monkeypatch, epoch=1))
    assert first != list(batches(monkeypatch, seed=6))


def test_two_ranks_share_the_items_and_take_batches_of_similar_length(monkeypatch):
    one, two = (batches(monkeypatch, rank=rank, world_size=2, count=2048) for rank in (0, 1))
    lengths = one.sampler.dataset.lengths
    found = [list(one), list(two)]
    assert len(found[0]) == len(found[1]) == len(one) == 128
    assert sorted(i for batches in found for batch in batches for i in batch) == list(range(2048))
    longest = [[max(lengths[i] for i in batch) for batch in batches] for batches in found]
    assert max(abs(a - b) for a, b in zip(*longest, strict=True)) <= 10


def test_an_evaluation_is_refused():
    sampler = DefaultSampler(Lengths(), shuffle=False)
    with pytest.raises(ValueError, match='For an evaluation, leave out batch_sampler'):
        DATA_SAMPLERS.build(
            {'type': 'surge_mm.LengthBatchSampler', 'sampler': sampler, 'batch_size': 8}
        )


def test_a_data_set_without_lengths_is_refused():
    with pytest.raises(ValueError, match='the data set list has no lengths'):
        LengthBatchSampler(DefaultSampler([1, 2], shuffle=True, seed=0), 2)
