"""Peak memory of a process of its own, as the system counts it."""

from benchmark_cases import inference, training
from benchmark_cases.peak_memory import peak_memory
from helpers.memory import allocate


def test_the_peak_includes_freed_memory_unless_it_was_reset():
    peak, peak_after_reset = (peak_memory(allocate, 400, reset) for reset in (False, True))
    assert 340 < peak - peak_after_reset < 460


def test_the_peak_of_training_steps_is_measured():
    workload = training.Workload('layer', batch=1, pixels=8, channels=8)
    assert peak_memory(training.train_two_steps, training.SURGE, workload, 1) > 100


def test_the_peak_of_inference_is_measured():
    workload = inference.Workload('layer', 8, 8, channels=32)
    assert peak_memory(inference.run_for_peak_memory, inference.FLOAT, workload) > 100
