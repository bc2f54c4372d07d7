"""The peak of a process of its own, as the system counts it."""

from surge_mm.analysis.peak_memory import forget_peak, peak_memory

MB = 10**6


def take(megabytes, forget):
    taken = bytearray(b'x') * (megabytes * MB)
    del taken
    if forget:
        forget_peak()


def test_a_peak_counts_what_was_freed_again_unless_it_is_forgotten():
    counted, forgotten = (peak_memory(take, 400, forget) for forget in (False, True))
    assert 340 < counted - forgotten < 460
