"""Settings of the whole suite."""

import hypothesis
import pytest
import torch

import surge_mm  # noqa: F401  prepares the stack before a test imports the hosts

torch.set_num_threads(1)
hypothesis.settings.register_profile('surge_mm', deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile('surge_mm')


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
