"""benchmarks/sign_convolution.py on small layers; no time is judged."""

import pytest


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
