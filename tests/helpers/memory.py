"""Functions that processes of their own can import."""

from benchmark_cases.peak_memory import reset_peak_memory


def allocate(megabytes, reset):
    """Allocate and free memory, for a known peak; ``reset`` the peak afterwards."""
    block = bytearray(b'x') * (megabytes * 10**6)
    del block
    if reset:
        reset_peak_memory()


def free_between_others():
    """Hold at most 40 MB at once, in an order that lets glibc keep 20 MB more."""
    first = bytearray(20 * 10**6)  # its end raises the size up to which freed blocks are kept
    del first
    freed, held = bytearray(b'x') * (19 * 10**6), bytearray(b'x') * (19 * 10**6)
    del freed
    larger = bytearray(b'x') * (21 * 10**6)
    assert len(held) + len(larger) == 40 * 10**6


def train_and_infer():
    """Run what the benchmarks measure, on small layers."""
    from benchmark_cases import inference, training

    training.train_two_steps(
        training.SURGE, training.Workload('layer', batch=1, pixels=8, channels=8), 1
    )
    inference.run_for_peak_memory(inference.FLOAT, inference.Workload('layer', 8, 8, channels=32))
