"""Values that the tools refuse before time is spent."""

import importlib.util
import sys
from pathlib import Path

import pytest

from surge_mm.utils.errors import UsageError

ROOT = Path(__file__).parents[2]
DEMO = str(ROOT / 'configs/demo/surge_fcos-1bit_r18-light_10e_digits.py')
FULL_PRECISION = str(ROOT / 'configs/demo/fcos_r18-light_10e_digits.py')


@pytest.mark.parametrize(
    'words, message',
    [
        (['ablation', DEMO, '--work-dir', 'w', '--jobs', '0'], '--jobs 0 must be at least 1'),
        (['ablation', DEMO, '--work-dir', 'w', '--seeds', '-1'], r'--seeds .* got \[-1\]'),
        (['ablation', DEMO, '--work-dir', 'w', '--seeds', '1', '1'], r'--seeds .* got \[1, 1\]'),
        (['ablation', DEMO, '--work-dir', 'w', '--seeds', str(2**32)], '--seeds'),
        (['ablation', DEMO, '--work-dir', 'w', '--baseline', 'x'], "--baseline .* got 'x'"),
        (['ablation', DEMO, '--work-dir', 'file'], "--work-dir 'file' is not a folder"),
        (['ablation', DEMO, DEMO, '--work-dir', 'w'], 'must have different file names'),
        (['demo', '--pictures', '0'], '--pictures 0'),
        (['demo', '--pictures', '201'], '--pictures 201'),
        (['demo', '--config', 'no.py'], "--config 'no.py': there is no such file"),
        (['demo', '--work-dir', 'file'], "--work-dir 'file' is not a folder"),
        (['get_ops', DEMO, '--shape', '0', '9'], '--shape 0 9'),
        (['get_ops', 'file'], "config 'file' cannot be read"),
        (['benchmark_inference', DEMO, '--shape', '0', '9'], '--shape 0 9 must be at least 1'),
        (
            ['benchmark_inference', DEMO, '--image', 'a.png', '--shape', '9', '9'],
            '--shape and --length are for noise, without --image',
        ),
        (['benchmark_inference', DEMO, '--image', 'a.png'], '--image needs trained weights'),
        (['profile_inference', DEMO, '--image', 'no.png'], "--image 'no.png': it"),
        (['benchmark_inference', DEMO, '--rounds', '0'], '--rounds 0 must be at least 1'),
        (['benchmark_inference', DEMO, '--warmup', '-1'], '--warmup -1 must be at least 0'),
        (['benchmark_inference', DEMO, '--threads', '2', '2'], '--threads 2 2 must be different'),
        (['benchmark_inference', DEMO, '--threads', '0'], '--threads 0 must be different'),
        (['benchmark_inference', DEMO, '--json', '.'], "--json '.' is a folder"),
        (['benchmark_inference', 'a.py'], "config 'a.py': there is no such file"),
        (['benchmark_inference', DEMO, 'no.pth'], "checkpoint 'no.pth': there is no such file"),
        (['benchmark_inference', 'a.safetensors', 'a.pth'], 'so it takes no checkpoint'),
        (
            ['benchmark_inference', 'a.safetensors', '--cfg-options', 'a=1'],
            'so it takes no cfg_options',
        ),
        (
            ['benchmark_inference', FULL_PRECISION],
            'has no binary layer, so there is nothing to pack',
        ),
        (['detect', 'a.safetensors', 'no'], "'no': there is no such image, video or folder"),
        (['detect', 'a.safetensors', '.'], "'.' contains no images"),
        (['detect', 'a.safetensors', 'file', '--threads', '0'], '--threads 0 must be at least 1'),
        (
            ['detect', 'a.safetensors', 'file', '--score-thr', '2'],
            '--score-thr 2.0 must lie in 0 to 1',
        ),
        (['detect', 'a.safetensors', 'file', '--out', 'file'], "--out 'file' is a file"),
        (['train', DEMO, '--work-dir', 'file'], "work_dir 'file' is a file"),
        (['test', DEMO, 'no.pth', '--work-dir', 'w'], "checkpoint 'no.pth': there is no such file"),
    ],
)
def test_values_out_of_range_are_refused_with_their_option(words, message, monkeypatch, tmp_path):
    tool, *arguments = words
    (tmp_path / 'file').write_text('')
    spec = importlib.util.spec_from_file_location(tool, ROOT / 'tools' / f'{tool}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', [tool, *arguments])
    with pytest.raises(UsageError, match=message):
        module.main()
    assert [path.name for path in tmp_path.iterdir()] == ['file']
