"""A function that processes of their own can import, with a known peak of memory."""

from benchmark_cases.peak_memory import reset_peak_memory


def allocate(megabytes, reset):
    """Allocate and free memory; ``reset`` the peak afterwards."""
    block = bytearray(b'x') * (megabytes * 10**6)
    del block
    if reset:
        reset_peak_memory()
