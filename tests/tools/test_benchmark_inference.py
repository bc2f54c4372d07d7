"""tools/benchmark_inference.py on configs, checkpoints and packed files; no time is judged."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.packed_files import classifier_config, packed_file, trained_model

ROOT = Path(__file__).parents[2]
TOOL = ROOT / 'tools/benchmark_inference.py'
DETECTOR = str(ROOT / 'configs/demo/surge_fcos_r18-light_10e_digits.py')
QUICK = ['--rounds', '2', '--warmup', '0', '--json', 'figures.json']


@pytest.fixture
def benchmark(monkeypatch, tmp_path):
    """Run the tool in this process and return the figures that it writes."""
    spec = importlib.util.spec_from_file_location('benchmark_inference', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()

    def run(*words):
        monkeypatch.setattr(sys, 'argv', ['benchmark_inference', *words, *QUICK])
        tool.main()
        return json.loads((tmp_path / 'figures.json').read_text())

    yield run
    torch.set_num_threads(threads)


def test_a_detector_of_a_config_is_measured_from_another_folder(tmp_path):
    words = [DETECTOR, '--shape', '64', '96', '--threads', '1', '2', *QUICK]
    done = subprocess.run(
        [sys.executable, str(TOOL), *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / 'figures.json').read_text())
    assert figures['shape'] == [64, 96]
    for count in ('1', '2'):
        assert list(figures['seconds'][count]) == ['float', 'packed']
        for seconds in figures['seconds'][count].values():
            assert len(seconds) == 2 and min(seconds) > 0
    assert 'one image of 64 x 96' in done.stdout and 'packed, ms' in done.stdout


def test_a_classifier_is_measured_with_its_checkpoint(benchmark, tmp_path):
    cfg = classifier_config()
    cfg.dump(tmp_path / 'cfg.py')
    torch.save({'state_dict': trained_model(cfg).state_dict()}, tmp_path / 'model.pth')
    figures = benchmark('cfg.py', 'model.pth', '--shape', '32', '32', '--threads', '1')
    assert list(figures['seconds']['1']) == ['float', 'packed']


def test_a_packed_file_needs_no_config(benchmark, tmp_path):
    packed_file(classifier_config(), tmp_path / 'model.safetensors')
    figures = benchmark('model.safetensors', '--shape', '32', '32', '--threads', '1')
    assert list(figures['seconds']['1']) == ['float', 'packed']


def test_a_two_stage_detector_runs_from_its_config(benchmark):
    config = str(ROOT / 'configs/faster_rcnn/ste_faster-rcnn-1bit_r18_fpn_12e_voc0712.py')
    figures = benchmark(config, '--shape', '64', '64', '--threads', '1')
    assert list(figures['seconds']['1']) == ['float', 'packed']
