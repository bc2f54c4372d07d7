"""Benchmark scripts that run in the process of the tests."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from benchmark_cases import inference_cost
from mmengine.logging import MMLogger

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'


@pytest.fixture
def run_script(monkeypatch, tmp_path):
    """Return a function that runs a script of benchmarks/ with arguments, in an empty folder.

    The peak memory, for which each variant needs a process of its own, is not measured. test_peak_memory.py does.
    """
    monkeypatch.chdir(tmp_path)
    threads, logger = torch.get_num_threads(), MMLogger.get_current_instance()
    level = logger.level

    def run(name, *words):
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f'{name}.py')
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        for module in (script, inference_cost):
            monkeypatch.setattr(module, 'peak_memory', lambda *_: 123.0, raising=False)
        monkeypatch.setattr(sys, 'argv', [name, *words])
        script.main()

    yield run
    torch.set_num_threads(threads)
    logger.setLevel(level)
