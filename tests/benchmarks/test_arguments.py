"""The benchmark scripts reject arguments that cannot be measured, before time is spent."""

import pytest

from surge_mm.utils.errors import UsageError


@pytest.mark.parametrize(
    'words, message',
    [
        *[
            (['training', 'backbone', f'--{name}', value], f'--{name} {value} must')
            for name, value in [
                ('batch', '0'),
                ('pixels', '-1'),
                ('pixels', '31'),
                ('channels', '0'),
                ('steps', '0'),
                ('warmup', '-1'),
                ('threads', '0'),
                ('depth', '19'),
            ]
        ],
        (['training', 'detector', '--pixels', '16'], '--pixels 16 must be at least 32'),
        (['training', 'layer', '--with-cp'], '--with-cp is for'),
        (['training', 'layer', '--dtype', 'bf16', 'bf16'], '--dtype bf16 bf16: name each once'),
        (
            ['training', 'layer', '--dtype', 'fp32', 'bf16', '--growth', 'a.png'],
            '--dtype fp32 bf16: .* one with --growth',
        ),
        (['training', 'layer', '--cpu-time', '--device', 'cuda'], '--cpu-time is for --device cpu'),
        (['training', 'detector', '--growth', 'a.png'], '--growth needs a layer or a backbone'),
        (['training', 'layer', '--json', 'a.txt'], "--json 'a.txt' must end in .json"),
        (['training', 'layer', '--json', '.'], "--json '.' is a folder"),
        (['inference', 'layer', '--rounds', '0'], '--rounds 0 must be at least 1'),
        (['inference', 'layer', '--threads', '2', '2'], '--threads 2 2 names a number'),
        (['inference', 'backbone', '--pixels', '16'], '--pixels 16 must be at least 32'),
        (['inference', 'backbone', '--channels', '8'], '--channels is for a layer'),
        (['inference', 'backbone', '--depth', '19'], '--depth 19 must be 18, 34 or 50'),
        (['inference', 'layer', '--depth', '34'], '--depth is for a backbone'),
        (['inference', 'layer', '--json', '.'], "--json '.' is a folder"),
    ],
)
def test_arguments_that_cannot_be_measured_are_rejected(words, message, run_script, tmp_path):
    with pytest.raises(UsageError, match=message):
        run_script(*words)
    assert not list(tmp_path.iterdir())
