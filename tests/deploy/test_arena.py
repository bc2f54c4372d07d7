"""Places of blocks in an arena."""

import random

import pytest

from surge_mm.deploy.arena import ALIGNMENT, Life, places


@pytest.mark.parametrize('seed', range(20))
def test_blocks_of_the_same_time_do_not_overlap_in_memory(seed):
    rng = random.Random(seed)
    lives = []
    for _ in range(40):
        first = rng.randrange(60)
        lives.append(Life(rng.randrange(1, 5000), first, first + rng.randrange(12)))
    starts, size = places(lives)
    # bytes in use, counted call by call
    for call in range(72):
        spans = sorted(
            (start, start + life.nbytes)
            for start, life in zip(starts, lives, strict=True)
            if life.first <= call <= life.last
        )
        assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))
        assert all(end <= size for _, end in spans)
    assert all(start % ALIGNMENT == 0 for start in starts)


def test_blocks_that_follow_one_another_share_their_memory():
    starts, size = places([Life(1000, i, i + 1) for i in range(0, 20, 2)])
    assert starts == [0] * 10
    assert size == 1000
    assert places([]) == ([], 0)
