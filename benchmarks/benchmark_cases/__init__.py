"""What the benchmark scripts beside this package measure, and how."""
