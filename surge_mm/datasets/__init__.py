"""Datasets: CIFAR-10 as a tensor, the demo set of handwritten digits, and the evaluation set of a config."""
