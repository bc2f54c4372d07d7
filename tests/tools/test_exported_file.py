"""tools/test.py and other readers of what tools/export.py writes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.digits_folder import make_digits_folder
from helpers.packed_files import classifier_config, detector_config, packed_file, trained_model
from helpers.tools import run_tool
from helpers.user_folder import main_of
from mmengine.config import Config

from surge_mm.datasets.digits import CLASSES
from surge_mm.deploy.packed_file.config import stored_model
from surge_mm.deploy.packed_file.format import read_packed
from surge_mm.utils.errors import CheckpointError, LaunchError

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, 'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return make_digits_folder(tmp_path_factory.mktemp('user'))


def run_in_new_process(tool, *words, folder):
    return run(folder, ROOT / f'tools/{tool}.py', *words)


def run(folder, *words):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=240,
    )


def found_by_test(start, folder, hook, checkpoint, *options):
    """All boxes that tools/test.py, started by ``start``, finds under a hook, its metrics, and what it says."""
    config = folder / f'{hook.rpartition(".")[2]}.py'
    config.write_text(f"_base_ = './mine.py'\ncustom_hooks = [dict(type='{hook}')]\n")
    prefix = folder / f'found_by_{Path(checkpoint).suffix[1:]}'
    setting = f'test_evaluator.outfile_prefix={prefix}'
    done = start('test', config, checkpoint, '--cfg-options', setting, *options, folder=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = re.findall(r'coco/\w+: \S+', done.stdout)
    return json.loads(Path(f'{prefix}.bbox.json').read_text()), metrics, done.stdout


def test_what_is_exported_is_evaluated_like_the_checkpoint_and_loaded_without_its_config(
    folder, tmp_path
):
    done = run_tool('export', 'mine.py', 'epoch_1.pth', 'out/a.safetensors', folder=folder)
    assert done.returncode == 0, done.stderr
    path = folder / 'out/a.safetensors'
    assert '23 of 23 binary layers are packed' in done.stdout
    assert 'norms and activations behind binary layers: none is left to PyTorch' in done.stdout
    assert re.search(r'backbone.layer4.1.conv2 +│ 64x64x3x3 +│ packed', done.stdout)
    assert re.search(rf'total +│ +[\d,]+ │ +{path.stat().st_size:,} │', done.stdout)
    assert read_packed(path).sha256 in done.stdout
    stored = read_packed(path).config
    assert stored['dataset_meta'] == {'classes': CLASSES, 'note': 'of the run'}
    assert stored['model'] == stored_model(Config.fromfile(folder / 'mine.py'))

    # in the memory format of packed models, real convolutions round alike
    boxes, metrics, _ = found_by_test(run_tool, folder, 'surge_mm.ChannelsLastHook', 'epoch_1.pth')
    # the model of the file counts, whatever the config says of its own, and hooks of training do no harm
    option = 'model.test_cfg.score_thr=0.99'
    again, again_metrics, said = found_by_test(
        run_in_new_process, folder, 'EMAHook', 'out/a.safetensors', option
    )
    assert len(boxes) == 2 * 50 and boxes == again  # of the two test images
    assert len(metrics) == 6 and metrics == again_metrics
    assert "the model of 'out/a.safetensors' is evaluated" in said
    assert 'differs in model.test_cfg.score_thr\n' in said

    image = next((folder / 'data/digits/VOC2007/JPEGImages').iterdir())
    program = (
        'from surge_mm.deploy import load_packed\n'
        'from mmdet.apis import inference_detector\n'
        f'found = inference_detector(load_packed({str(path)!r}), {str(image)!r})\n'
        'print(len(found.pred_instances), found.ori_shape)\n'
    )
    (tmp_path / 'alone').mkdir()
    done = run(tmp_path / 'alone', '-c', program)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '50 (96, 96)'


def test_a_file_without_a_detector_of_these_classes_is_not_evaluated(folder, monkeypatch, tmp_path):
    def refused(path, message, *words):
        with pytest.raises(LaunchError, match=message):
            main_of('test', monkeypatch, folder, 'mine.py', path, *words)

    (tmp_path / 'a.safetensors').write_bytes(b'\x89PNG' * 100)
    refused(tmp_path / 'a.safetensors', 'it is no packed model')
    good = packed_file(detector_config(), tmp_path / 'b.safetensors')
    refused(good, '--launcher pytorch: a packed model', '--launcher', 'pytorch')
    (tmp_path / 'c.safetensors').write_bytes(good.read_bytes()[:-1])
    with pytest.raises(
        CheckpointError, match="packed model '.*c.safetensors': it is no packed model, or damaged"
    ):
        main_of('test', monkeypatch, folder, 'mine.py', tmp_path / 'c.safetensors')
    other = packed_file(classifier_config(), tmp_path / 'd.safetensors')
    refused(other, r"has the classes \['airplane', .*, but the test set has \['0', '1', '2'")


def test_an_export_with_weight_standardized_convolutions_runs_and_is_evaluated(folder, tmp_path):
    """``ConvWS2d`` views its weight, which must be contiguous: packing must not convert it to channels_last."""
    standardized = "dict(conv_cfg=dict(type='ConvWS'))"
    config = folder / 'ws.py'
    config.write_text(
        f"_base_ = './mine.py'\n"
        f'model = dict(shortcuts=False, neck={standardized}, bbox_head={standardized})\n'
    )
    torch.save(
        {'state_dict': trained_model(Config.fromfile(config)).state_dict()}, tmp_path / 'ws.pth'
    )
    out = tmp_path / 'ws.safetensors'
    done = run_tool('export', 'ws.py', tmp_path / 'ws.pth', out, folder=folder)
    assert done.returncode == 0, done.stderr
    assert (
        'run on an image of 128x128: its outputs equal those of the checkpoint to the bit'
        in done.stdout
    )
    found = {}
    for path in (tmp_path / 'ws.pth', out):
        prefix = tmp_path / path.suffix[1:]
        options = ('--cfg-options', f'test_evaluator.outfile_prefix={prefix}')
        done = run_tool(
            'test', 'ws.py', path, '--work-dir', tmp_path / 'work', *options, folder=folder
        )
        assert done.returncode == 0, done.stderr
        found[path.suffix] = json.loads(Path(f'{prefix}.bbox.json').read_text())
    assert len(found['.pth']) == len(found['.safetensors']) == 100
    picture = next((folder / 'data/digits/VOC2007/JPEGImages').iterdir())
    done = run_tool('detect', out, picture, '--out', tmp_path / 'found', folder=folder)
    assert done.returncode == 0, done.stderr
    words = (out, '--shape', 64, 64, '--threads', 1, '--rounds', 1)
    done = run_tool('benchmark_inference', *words, folder=folder)
    assert done.returncode == 0, done.stderr
