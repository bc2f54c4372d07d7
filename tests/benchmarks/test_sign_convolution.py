"""benchmarks/sign_convolution.py on small layers; no time is judged."""

import pytest

from surge_mm.ops.byte_convolution import what_fails_in_onednn
from surge_mm.utils.cpu_features import has_byte_units
from surge_mm.utils.errors import LaunchError


@pytest.mark.skipif(
    not has_byte_units() or bool(what_fails_in_onednn()), reason='the CPU multiplies no bytes'
)
@pytest.mark.parametrize('options', [[], ['--contiguous']])
def test_each_layer_has_a_row(run_script, capsys, options):
    small = ['--layers', '8,6', '4,9', '--batch', '2', '--rounds', '1']
    run_script('sign_convolution', *small, *options)
    found = capsys.readouterr().out
    assert '8 channels at 6x6' in found and '4 channels at 9x9' in found and 'batch 2' in found


@pytest.mark.parametrize('layer', ['8', '8,0', '8,x', '8,6,1'])
def test_a_layer_of_other_numbers_is_refused(run_script, capsys, layer):
    with pytest.raises(SystemExit):
        run_script('sign_convolution', '--layers', layer)
    assert 'such as 64,56' in capsys.readouterr().err


def test_a_cpu_without_units_for_bytes_is_refused(run_script, monkeypatch):
    monkeypatch.setattr('surge_mm.utils.cpu_features.has_byte_units', lambda: False)
    with pytest.raises(LaunchError, match='it has neither AMX nor VNNI'):
        run_script('sign_convolution', '--rounds', '1')
