"""The workloads of the benchmark scripts, and the measurement of their costs."""
