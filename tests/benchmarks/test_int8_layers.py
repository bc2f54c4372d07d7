"""benchmarks/int8_layers.py on small layers; no time is judged."""

import pytest


def test_each_layer_has_a_row(run_script, capsys):
    run_script('int8_layers', '--layers', '3,8,7,2,16', '8,5,1,1,6', '--rounds', '1')
    found = capsys.readouterr().out
    assert '3 to 8, 7x7 with stride 2, at 16x16' in found
    assert '8 to 5, 1x1 with stride 1, at 6x6' in found


@pytest.mark.parametrize('layer', ['8,5,1,1', '8,5,1,1,0', '8,5,1,x,6'])
def test_a_layer_of_other_numbers_is_refused(run_script, capsys, layer):
    with pytest.raises(SystemExit):
        run_script('int8_layers', '--layers', layer)
    assert 'such as 64,128,1,1,28' in capsys.readouterr().err
