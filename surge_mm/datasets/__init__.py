"""Datasets: CIFAR-10 as a tensor, the demo set of digits, the tasks of GLUE, and the evaluation set of a config."""
