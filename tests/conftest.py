"""Settings of the whole suite."""

import gc
import os
import signal

import hypothesis
import pytest
import torch

import surge_mm  # noqa: F401  prepares the stack before a test imports the hosts

torch.set_num_threads(1)
hypothesis.settings.register_profile('surge_mm', deadline=None, derandomize=True, max_examples=25)
hypothesis.settings.load_profile('surge_mm')


def pytest_addoption(parser):
    parser.addoption('--device', default='cpu', help='default device of tensors, such as cuda')


def pytest_configure(config):
    # a shell that runs the tests in the background lets them ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    device = config.getoption('--device')
    if device != 'cpu':
        torch.set_default_device(device)
        torch.backends.cudnn.allow_tf32 = False  # tolerances are those of float32
        torch.backends.cudnn.deterministic = True  # some tests compare bits


def pytest_collection_finish():
    # MMEngine calls gc.collect() for each dataset, which would search all modules and collected tests each time
    gc.collect()
    gc.freeze()


@pytest.fixture(scope='session', autouse=True)
def quick_runs():
    from helpers.quick_runs import quicken

    quicken()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope='session', autouse=True)
def cache_folder(tmp_path_factory):
    """Keep results of data checks out of the user's cache."""
    os.environ['XDG_CACHE_HOME'] = str(tmp_path_factory.mktemp('cache'))
