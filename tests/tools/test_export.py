"""tools/export.py as a user runs it."""

import os
import re
import threading

import pytest
import torch
from helpers.digits_folder import DEMO, NARROW, make_digits_folder
from helpers.packed_files import trained_model
from helpers.tools import run_tool
from helpers.user_folder import main_of
from mmengine.config import Config

from surge_mm.deploy import load_packed
from surge_mm.deploy.packed_file.format import read_packed
from surge_mm.utils.errors import LaunchError, UsageError


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return make_digits_folder(tmp_path_factory.mktemp('user'))


@pytest.mark.parametrize(
    'words, message',
    [
        (['mine.py', 'epoch_1.pth', 'a.pth'], "'a.pth' must end in .safetensors or .c or .onnx"),
        (['mine.py', 'epoch_1.pth', 'mine.safetensors'], 'exists already.*--overwrite'),
        (['mine.py', 'epoch_1.pth', 'folder.onnx'], "'folder.onnx' is a folder"),
        (['mine.py', 'no.pth', 'a.safetensors'], "checkpoint 'no.pth': there is no such file"),
        (['mine.py', 'mine.safetensors', 'a.safetensors'], 'is packed already'),
        (['no.py', 'epoch_1.pth', 'a.safetensors'], "config 'no.py': there is no such file"),
        (['mine.py', 'mine.py', 'a.safetensors'], "'mine.py' cannot be read"),
        (
            ['mine.py', 'epoch_1.pth', 'a.safetensors', '--shape', '9', '9'],
            r'--shape is for \*.onnx',
        ),
        (['mine.py', 'epoch_1.pth', 'a.onnx', '--real', 'int8'], r'--real int8 is for \*.safetens'),
        (
            ['mine.py', 'epoch_1.pth', 'a.safetensors', '--images', '9'],
            '--images is for --real int8, not for --real float32',
        ),
        (
            ['mine.py', 'epoch_1.pth', 'a.safetensors', '--real', 'int8', '--images', '0'],
            '--images 0 must be at least 1',
        ),
        (
            ['mine.py', 'epoch_1.pth', 'a.safetensors', '--real', 'int8', '--images', '9'],
            '--images 9: train_dataloader of the config has 8 images. Ask for at most 8',
        ),
        (
            ['mine.py', 'epoch_1.pth', 'a.safetensors', '--no-metric'],
            '--no-metric is for --real int8 and bfloat16',
        ),
        (
            ['mine.py', 'epoch_1.pth', 'a.c', '--real', 'int8', '--no-metric'],
            '--no-metric is for --real int8 and bfloat16 of \*.safetensors',
        ),
        (['mine.py', 'epoch_1.pth', 'a.onnx', '--shape', '0', '9'], '--shape 0 9 must be at least'),
        (
            ['mine.py', 'epoch_1.pth', 'a-b.c'],
            "'a-b' of 'a-b.c' cannot be the first part of names in C",
        ),
        (['mine.py', 'epoch_1.pth', 'a.c', '--threads'], r'a\.c.*-DSURGE_THREADS -pthread'),
        (['mine.py', 'epoch_1.pth', 'a.onnx', '--with-main'], r'--with-main is for \*.c and libr'),
        (['mine.py', 'epoch_1.pth', 'a.c', '--target', 'x'], '--target is for libraries'),
        (['mine.py', 'epoch_1.pth', 'a.dll'], "'a.dll' is a library of another system: name it"),
        (['mine.py', 'epoch_1.pth', 'taken.c'], r"'taken.h' exists already"),
        (
            ['mine.py', 'epoch_1.pth', 'a.c', '--real', 'bfloat16'],
            r'--real bfloat16 is for \*.safetensors; a \*.c file has float32 or int8',
        ),
        (
            [
                *('mine.py', 'epoch_1.pth', 'a.safetensors'),
                *('--cfg-options', 'model.backbone.base_channels=16'),
            ],
            'does not match the model of the config',
        ),
    ],
)
def test_invalid_arguments_are_refused(words, message, folder, monkeypatch):
    (folder / 'mine.safetensors').write_text('mine')
    (folder / 'folder.onnx').mkdir(exist_ok=True)
    (folder / 'taken.h').touch()
    before = sorted(folder.rglob('*'))
    with pytest.raises(UsageError, match=message):
        main_of('export', monkeypatch, folder, *words)
    assert sorted(folder.rglob('*')) == before
    assert (folder / 'mine.safetensors').read_text() == 'mine'


def test_a_model_with_nothing_binary_is_refused_and_nothing_written(folder, monkeypatch, tmp_path):
    (folder / 'real.py').write_text(
        f'_base_ = {str(DEMO).replace("surge_fcos-1bit", "fcos")!r}\n{NARROW}'
    )
    model = trained_model(Config.fromfile(folder / 'real.py'))
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'real.pth')
    with pytest.raises(UsageError, match='FCOS has no binary layer, so there is nothing to pack'):
        words = ('real.py', tmp_path / 'real.pth', tmp_path / 'a.safetensors')
        main_of('export', monkeypatch, folder, *words)
    assert [file.name for file in tmp_path.iterdir()] == ['real.pth']


def test_a_file_is_replaced_on_request(folder, monkeypatch, tmp_path):
    out = tmp_path / 'a.safetensors'
    out.write_text('before')
    main_of('export', monkeypatch, folder, 'mine.py', 'epoch_1.pth', out, '--overwrite')
    assert load_packed(out).dataset_meta['note'] == 'of the run'


def test_real_layers_in_int8_are_calibrated_listed_and_evaluated(
    folder, monkeypatch, tmp_path, capsys
):
    out = tmp_path / 'a.safetensors'
    words = ('mine.py', 'epoch_1.pth', out, '--real', 'int8', '--images', '3')
    main_of('export', monkeypatch, folder, *words)
    printed = capsys.readouterr().out
    layers = load_packed(out).packing.real
    assert f'{len(layers)} real-valued convolutions are in int8' in printed
    assert re.search(r'neck.lateral_convs.0.conv +│ int8', printed)
    assert 'calibrated on 3 images of train_dataloader' in printed
    assert 'the loaded file gives the outputs of the model to the bit' in printed
    metric = (
        r'coco/bbox_mAP: ([\d.]+) in float32, ([\d.]+) in int8 \(([+-][\d.]+)\), on the 4 images'
    )
    before, after, change = map(float, re.search(metric, printed).groups())
    assert after - before == pytest.approx(change, abs=2e-4)


def test_without_training_images_the_validation_set_calibrates_and_without_data_nothing(
    folder, monkeypatch, tmp_path, capsys
):
    missing = [f'{key}_dataloader.dataset.ann_file=no.json' for key in ('train', 'val', 'test')]
    words = ('mine.py', 'epoch_1.pth', tmp_path / 'a.safetensors', '--real', 'int8')
    main_of('export', monkeypatch, folder, *words, '--no-metric', '--cfg-options', missing[0])
    printed = capsys.readouterr().out
    assert 'calibrated on 4 images of val_dataloader' in printed and 'bbox_mAP' not in printed
    with pytest.raises(
        LaunchError, match='--real int8 needs images of the config.*train_.*no.json'
    ):
        main_of('export', monkeypatch, folder, *words, '--overwrite', '--cfg-options', *missing)


def test_norms_and_activations_that_run_in_pytorch_are_printed(
    folder, monkeypatch, tmp_path, capsys
):
    config = folder / 'head.py'
    config.write_text(
        "_base_ = './mine.py'\nmodel = dict(shortcuts=False, bbox_head=dict(\n"
        "    type='FCOSHead', norm_cfg=dict(_delete_=True, type='GN', num_groups=16)))\n"
    )
    model = trained_model(Config.fromfile(config))
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'head.pth')
    words = ('head.py', tmp_path / 'head.pth', tmp_path / 'head.safetensors')
    main_of('export', monkeypatch, folder, *words)
    printed = capsys.readouterr().out
    assert '23 of 23 binary layers are packed' in printed
    assert '8 norms and activations behind binary layers run in PyTorch' in printed
    for name in ('cls_convs.0', 'cls_convs.1', 'reg_convs.0', 'reg_convs.1'):
        assert re.search(rf'bbox_head.{name}.gn +│ GroupNorm has no fixed scale', printed)
        assert re.search(rf'bbox_head.{name}.activate +│ GroupNorm comes before it', printed)


@pytest.mark.parametrize('shape', [(128, 128), (64, 96)])
def test_onnx_has_the_size_of_the_test_pipeline_or_of_the_option(
    shape, folder, monkeypatch, tmp_path
):
    onnx = pytest.importorskip('onnx')
    out = tmp_path / 'a.onnx'
    words = [] if shape == (128, 128) else ['--shape', *shape]
    main_of('export', monkeypatch, folder, 'mine.py', 'epoch_1.pth', out, *words)
    (image,) = onnx.load(out).graph.input
    assert tuple(d.dim_value for d in image.type.tensor_type.shape.dim)[1:] == (3, *shape)


OWN_NECK = """
from mmdet.registry import MODELS
from mmdet.models import FPN


@MODELS.register_module()
class ReadsWeights(FPN):
    def forward(self, inputs):
        outs = super().forward(inputs)
        return tuple(out * self.fpn_convs[0].conv.weight.abs().mean() for out in outs)
"""


def test_a_model_that_does_not_run_packed_is_not_written(folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    (folder / 'own_neck.py').write_text(OWN_NECK)
    (folder / 'own.py').write_text(
        "_base_ = './mine.py'\ncustom_imports = dict(imports=['own_neck'])\nmodel = dict(neck=dict("
        "type='ReadsWeights', conv_cfg=dict(type='surge_mm.SurgeConv2d')))\n"
    )
    torch.save(
        {'state_dict': trained_model(Config.fromfile(folder / 'own.py')).state_dict()},
        tmp_path / 'own.pth',
    )
    out = tmp_path / 'own.safetensors'
    done = run_tool('export', 'own.py', tmp_path / 'own.pth', out, folder=folder)
    assert done.returncode == 1
    assert 'the packed model does not run on an image of 128x128' in done.stderr
    assert 'PackedConv2d has signs and no weight' in done.stderr and 'sha256' not in done.stdout
    assert not out.exists()


@pytest.mark.parametrize('suffix', ['.safetensors', '.onnx'])
def test_an_export_into_a_pipe_gives_its_reader_the_whole_file(folder, tmp_path, suffix):
    pipe, received = tmp_path / f'pipe{suffix}', []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()), daemon=True)
    reader.start()
    words = ('mine.py', 'epoch_1.pth', pipe, '--overwrite')
    done = run_tool('export', *words, folder=folder)
    reader.join(10)
    assert done.returncode == 0, done.stderr[-2000:]
    (tmp_path / f'file{suffix}').write_bytes(received[0])
    if suffix == '.onnx':
        assert f'{len(received[0]):,} bytes' in done.stdout
    else:
        assert read_packed(tmp_path / f'file{suffix}').sha256 in done.stdout
