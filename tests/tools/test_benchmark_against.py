"""tools/benchmark_inference.py --against: a network in INT8, in other engines; no time is judged."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.packed_files import classifier_config, detector_config, trained_model

from surge_mm.deploy import Detector
from surge_mm.deploy.onnx import int8_engines
from surge_mm.deploy.onnx.int8_engines import ENGINES
from surge_mm.deploy.predict.image_input import ImageInput
from surge_mm.models import to_float
from surge_mm.utils.errors import UsageError

ROOT = Path(__file__).parents[2]
DEMO = str(ROOT / 'configs/demo/ste_fcos-1bit_r18-light_10e_digits.py')


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """Return a function that runs the tool in this process, and returns its figures."""

    def run(*words):
        words = [
            *words,
            '--threads',
            '1',
            '--rounds',
            '2',
            '--warmup',
            '0',
            '--json',
            'a.json',
            '--overwrite',
        ]
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, 'argv', ['benchmark_inference.py', *map(str, words)])
        runpy.run_path(str(ROOT / 'tools/benchmark_inference.py'))['main']()
        return json.loads((tmp_path / 'a.json').read_text())

    return run


@pytest.mark.parametrize('name', list(ENGINES))
def test_a_detector_is_measured_against_an_engine(benchmark, name):
    for package in ENGINES[name].packages:
        pytest.importorskip(package)
    figures = benchmark(DEMO, '--shape', 64, 64, '--against', name)
    for clock in ('seconds', 'cpu_seconds'):
        seconds = figures[clock]['1']
        assert list(seconds) == ['float', 'packed', ENGINES[name].title]
        assert all(len(own) == 2 and min(own) > 0 for own in seconds.values())
    assert figures['calibration'].startswith('noise')


@pytest.mark.parametrize('name', list(ENGINES))
def test_int8_is_close_to_the_network_on_images_of_any_size(name):
    for package in ENGINES[name].packages:
        pytest.importorskip(package)
    model = to_float(trained_model(classifier_config())).eval()
    images = torch.randn(6, 3, 32, 32)
    engine = ENGINES[name](model, list(images.split(1)))
    for batch in (images, torch.randn(2, 3, 48, 32)):
        with torch.no_grad():
            expected = model(batch, mode='tensor')
        found = engine(batch)
        assert found.shape == expected.shape
        assert not torch.equal(found, expected)  # it is in int8
        assert (found - expected).abs().max() < 0.15 * expected.abs().max()
    (row,) = engine.prepare(images[:1])()
    torch.testing.assert_close(torch.tensor(row), engine(images[:1]), rtol=0.1, atol=0.05)


def test_the_metric_of_int8_is_measured_with_the_heads_of_the_host():
    name = 'onnxruntime'
    for package in ENGINES[name].packages:
        pytest.importorskip(package)
    model = to_float(trained_model(classifier_config())).eval()
    images = torch.randn(4, 3, 32, 32)
    engine = ENGINES[name](model, list(images.split(1)))
    samples = engine.in_place_of(model)(images, mode='predict')
    expected = engine(images).softmax(1)
    torch.testing.assert_close(torch.stack([s.pred_score for s in samples]), expected)


@pytest.mark.parametrize('name', list(ENGINES))
def test_a_detector_with_int8_in_place_of_its_network_finds_nearly_the_same_boxes(name):
    for package in ENGINES[name].packages:
        pytest.importorskip(package)
    cfg = detector_config()
    cfg.model.test_cfg.score_thr = 0.3
    model = to_float(trained_model(cfg)).eval()
    torch.nn.init.zeros_(model.bbox_head.conv_cls.bias)
    model.cfg = cfg
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    engine = ENGINES[name](model, [ImageInput(model).prepare(image)[0].contiguous()])
    expected = Detector(model)(image)
    assert len(expected.boxes) > 10
    for one_size in (False, True):
        found = Detector(engine.in_place_of(model, one_size))(image)
        assert not np.array_equal(found.scores[:9], expected.scores[:9])  # it is in int8
        np.testing.assert_allclose(found.scores[:9], expected.scores[:9], atol=0.05)


def test_a_missing_package_is_an_error_before_anything_is_built(benchmark, monkeypatch):
    monkeypatch.setattr(int8_engines, 'find_spec', lambda name: None)
    words = 'openvino needs openvino and nncf, .*pip install -r requirements/rivals.txt'
    with pytest.raises(UsageError, match=words):
        benchmark('no_such_config.py', '--against', 'openvino')
