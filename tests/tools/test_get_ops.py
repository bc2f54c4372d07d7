"""tools/get_ops.py on configs of ours and of a user."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.packed_text_files import text_config
from helpers.tools import run_tool

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'


def test_table_and_json_tell_the_same_operations(tmp_path):
    config = CONFIGS / 'resnet/surge_resnet20_600e_cifar10.py'
    table = run_tool('get_ops', config, folder=tmp_path)
    assert table.returncode == 0, table.stderr
    # in a process of its own: no log line of the hosts may get into stdout
    command = [sys.executable, str(ROOT / 'tools/get_ops.py'), str(config), '--json']
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    answer = json.loads(done.stdout)
    # by hand: stem and classifier real; three stages of six 3x3, each the same but the first of stages 2 and 3
    layer = 32 * 32 * 16 * 16 * 9
    assert answer['flops'] == 32 * 32 * 16 * 3 * 9 + 64 * 10
    assert answer['bops'] == 6 * layer + 2 * (5 * layer + layer // 2)
    assert answer['ops'] == answer['flops'] + answer['bops'] / 64
    assert answer['shape'] == [32, 32]
    assert f'OPs {answer["ops"]:.4g}' in table.stdout
    full = 32 * 32 * 16 * 3 * 9 + 64 * 10 + 6 * layer + 2 * (5 * layer + layer // 2)
    assert answer['float_ops'] == full
    gain = f'{full:.4g} OPs in full precision: {full / answer["ops"]:.1f} times more'
    assert gain in table.stdout
    assert '18 of 20 layers are binary' in table.stdout
    assert 'backbone.layer3.2.conv2' in table.stdout
    assert not list(tmp_path.iterdir())


def test_the_rules_of_a_users_config_are_shown(tmp_path):
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'\n"
        "model = dict(type='surge_mm.Binarized', base_type='FasterRCNN',\n"
        "    rules=[dict(name='neck.*', to='keep')], backbone=dict(depth=18),\n"
        '    neck=dict(in_channels=[64, 128, 256, 512], out_channels=64),\n'
        '    rpn_head=dict(in_channels=64, feat_channels=64),\n'
        '    roi_head=dict(bbox_roi_extractor=dict(out_channels=64), bbox_head=dict(in_channels=64)))\n'
    )
    done = run_tool('get_ops', 'mine.py', '--shape', 128, 128, '--json', folder=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    layers = {layer['name']: layer for layer in answer['layers']}
    assert not layers['neck.fpn_convs.0.conv']['binary']
    assert layers['neck.fpn_convs.0.conv']['rule'] == 'rules[0]'
    assert layers['roi_head.bbox_head.shared_fcs.0']['binary']
    assert 3 * answer['size_mb'] < answer['float_size_mb']


def test_deformable_detr_is_counted(tmp_path):
    """Its encoder takes slices of a parameter, at which PyTorch's counter fails without a gradient."""
    (tmp_path / 'detr.py').write_text(
        "_base_ = 'mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py'\n"
        'model = dict(encoder=dict(num_layers=1), decoder=dict(num_layers=1), num_queries=20)\n'
    )
    done = run_tool('get_ops', 'detr.py', '--shape', 64, 64, '--json', folder=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    layers = {layer['name']: layer for layer in answer['layers']}
    pixels = 8 * 8 + 4 * 4 + 2 * 2 + 1  # of the four levels
    value = layers['encoder.layers.0.self_attn.value_proj']
    assert value['flops'] == pixels * 256 * 256
    assert answer['float_ops'] == answer['ops'] == answer['flops']


def test_a_classifier_of_texts_is_counted_for_a_number_of_tokens(tmp_path):
    text_config(tmp_path).dump(tmp_path / 'text.py')
    done = run_tool('get_ops', 'text.py', '--length', 5, '--json', folder=tmp_path)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    # by hand: 2 layers of 16 features, 24 inside; 22 tokens, 16 positions and 2 segments
    layer = 4 * 16 * 16 + 2 * 16 * 24
    assert answer['length'] == 5
    assert answer['bops'] == 5 * 2 * layer + 16 * 16  # the pooler takes the first token
    assert answer['flops'] == 16 * 2
    assert answer['other_multiply_adds'] == 2 * (2 * 5 * 5 * 16)  # QK^T and PV
    bits = {layer['name']: layer['bits'] for layer in answer['layers']}
    assert bits['bert.embeddings.word_embeddings'] == 22 * 16 + 32 * 22
    assert bits['bert.embeddings.position_embeddings'] == 32 * 16 * 16
    table = run_tool('get_ops', 'text.py', folder=tmp_path).stdout
    assert 'one text of 16 tokens' in table  # max_length of the test set
    assert '14 of 17 layers are binary' in table  # 12, pooler, embeddings


@pytest.mark.parametrize(
    'words, message',
    [
        (['text.py', '--shape', '8', '8'], 'TextClassifier takes texts: use --length'),
        (['text.py', '--length', '17'], 'a text of 17 tokens is longer than max_position'),
        (['text.py', '--length', '0'], '--length 0 must be at least 1'),
        (
            ['text.py', '--length', '4', '--shape', '8', '8'],
            '--length for texts: leave one of them',
        ),
        (
            [CONFIGS / 'resnet/surge_resnet20_600e_cifar10.py', '--length', '8'],
            'takes images: use --shape',
        ),
    ],
)
def test_a_size_of_the_wrong_kind_is_refused(words, message, tmp_path):
    text_config(tmp_path).dump(tmp_path / 'text.py')
    done = run_tool('get_ops', *words, folder=tmp_path)
    assert done.returncode == 1 and message in done.stderr


@pytest.mark.parametrize(
    'words, message',
    [
        (['nowhere.py'], "config 'nowhere.py': there is no such file"),
        ([CONFIGS / 'resnet/surge_resnet20_600e_cifar10.py', '--shape', 0, 32], '--shape 0 32'),
        (
            [
                CONFIGS / 'resnet/surge_resnet20_600e_cifar10.py',
                '--cfg-options',
                'model.backbone.depth=19',
            ],
            'depth=19 must be one of',
        ),
    ],
)
def test_bad_arguments_get_one_sentence(tmp_path, words, message):
    done = run_tool('get_ops', *words, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1 and message in done.stderr, done.stderr
