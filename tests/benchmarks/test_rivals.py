"""benchmarks/inference.py --against: workloads in other engines; no time is judged."""

import json

import pytest
import torch
from benchmark_cases.inference import PACKED, BenchmarkCase, Workload
from benchmark_cases.rivals import BINARY, RivalCase

from surge_mm.deploy.onnx.int8_engines import ENGINES
from surge_mm.utils.errors import LaunchError, UsageError


@pytest.mark.parametrize('channels', [32, 40])
def test_the_binary_chain_of_openvino_gives_the_outputs_of_the_packed_one(channels):
    pytest.importorskip('openvino')
    workload = Workload('chain', 12, 10, channels=channels)
    packed, rival = BenchmarkCase(PACKED, workload), RivalCase(BINARY, workload)
    assert torch.equal(packed.x, rival.x)
    torch.testing.assert_close(torch.tensor(rival.run()[0]), packed.run().contiguous())


def test_a_chain_is_measured_against_other_engines(run_script, tmp_path, capsys):
    for package in (package for engine in ENGINES.values() for package in engine.packages):
        pytest.importorskip(package)
    words = ['--channels', '32', '--pixels', '8', '--rounds', '1', '--warmup', '0']
    words += ['--threads', '1', '--json', 'a.json', '--against', *ENGINES]
    run_script('inference', 'chain', *words)
    rows = json.loads((tmp_path / 'a.json').read_text())['rows']
    titles = [engine.title for engine in ENGINES.values()]
    assert [row['variant'] for row in rows] == ['float', 'packed', *titles, BINARY]
    assert min(row['milliseconds']['1'] for row in rows) > 0
    assert 'the faster INT8, by number of threads: 8 x 32 channels at 8x8 (1): ' in (
        capsys.readouterr().out
    )


def test_an_engine_for_another_workload_or_not_installed_is_refused(run_script, monkeypatch):
    for what, way in (('layer', 'a chain of layers'), ('detector', 'benchmark_inference.py')):
        with pytest.raises(LaunchError, match=way):
            run_script('inference', what, '--against', 'openvino')
    monkeypatch.setattr('surge_mm.deploy.onnx.int8_engines.find_spec', lambda name: None)
    with pytest.raises(UsageError, match='openvino needs openvino and nncf'):
        run_script('inference', 'chain', '--against', 'openvino')
