"""Peak memory of a process of its own, as the system counts it."""

from benchmark_cases.peak_memory import peak_memory
from helpers.memory import allocate, free_between_others, train_and_infer


def test_the_peak_includes_freed_memory_unless_it_was_reset():
    peak, peak_after_reset = (peak_memory(allocate, 400, reset) for reset in (False, True))
    assert 340 < peak - peak_after_reset < 460


def test_the_peak_is_what_was_held_at_once_and_not_what_the_c_library_keeps():
    assert 35 < peak_memory(free_between_others) - peak_memory(allocate, 0, False) < 45


def test_the_peak_of_training_steps_and_of_inference_is_measured():
    assert peak_memory(train_and_infer) > 100
