"""Functions that processes of their own can import."""

from benchmark_cases.peak_memory import reset_peak_memory


def allocate(megabytes, reset):
    """Allocate and free memory, for a known peak; ``reset`` the peak afterwards."""
    block = bytearray(b'x') * (megabytes * 10**6)
    del block
    if reset:
        reset_peak_memory()


def train_and_infer():
    """Run what the benchmarks measure, on small layers."""
    from benchmark_cases import inference, training

    training.train_two_steps(
        training.SURGE, training.Workload('layer', batch=1, pixels=8, channels=8), 1
    )
    inference.run_for_peak_memory(inference.FLOAT, inference.Workload('layer', 8, 8, channels=32))
