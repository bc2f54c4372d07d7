"""benchmarks/sensitivity_retraining.py: its configs, and the rank correlation, with the training left out."""

import json
import subprocess
from pathlib import Path

import pytest
from mmengine.config import Config

from surge_mm.composition.binary_config import binary_layers
from surge_mm.launch.runner import build_model
from surge_mm.utils.errors import LaunchError

BASE = Path(__file__).parents[2] / 'configs/_base_'
PARTS = 'models/retinanet_r18-light', 'datasets/bccd_voc', 'schedules/digits_10e', 'default_runtime'
MINE = f"""
_base_ = {[str(BASE / f'{part}.py') for part in PARTS]!r}
model = dict(backbone=dict(conv_cfg=None))
"""
LAYERS = ('backbone.layer1.0.conv1', 'neck.fpn_convs.1.conv', 'bbox_head.cls_convs.0.conv')
COSTS, LOSSES, RETRAINED = (0.3, 0.2, 0.1, 0.0), (1.0, 4.0, 2.0, 3.0), (0.5, 0.4, 0.6, 0.7)


def spearman(one, other):
    """1 - 6 sum d^2 / (n (n^2 - 1)) for n = 4 values without ties."""
    ranks = [[sorted(values).index(value) for value in values] for values in (one, other)]
    return 1 - 6 * sum((a - b) ** 2 for a, b in zip(*ranks, strict=True)) / (4 * 15)


@pytest.mark.parametrize('metric, sign', [('coco/bbox_mAP', -1), ('glue/nll', 1)])
def test_each_config_has_its_layers_alone_in_one_bit_and_ranks_are_compared(
    run_script, tmp_path, monkeypatch, metric, sign
):
    rows = [[LAYERS[0]], [LAYERS[1]], [LAYERS[2]], list(LAYERS)]
    report = {
        'config': 'mine.py',
        'checkpoint': 'a.pth',
        'metric': metric,
        'costs': [
            {'name': f'row.{i}', 'layers': layers, 'cost': COSTS[i], 'loss': LOSSES[i]}
            for i, layers in enumerate(rows)
        ],
    }
    (tmp_path / 'mine.py').write_text(MINE)
    (tmp_path / 'sensitivity.json').write_text(json.dumps(report))
    called = []

    def ablation(command, check):
        called.append(command)
        table = [{'name': f'row-{i}', 'mean': mean} for i, mean in enumerate(RETRAINED)]
        (tmp_path / 'w/table.json').write_text(json.dumps(table))

    monkeypatch.setattr(subprocess, 'run', ablation)
    run_script(
        *('sensitivity_retraining', 'sensitivity.json', '--work-dir', 'w', '--seeds', '3'),
        *('--cfg-options', 'train_cfg.max_epochs=2'),
    )
    (command,) = called
    assert command[-4:] == ['--seeds', '3', '--cfg-options', 'train_cfg.max_epochs=2']
    for i, layers in enumerate(rows):
        cfg = Config.fromfile(tmp_path / f'w/configs/row-{i}.py')
        assert str(tmp_path / f'w/configs/row-{i}.py') in command
        assert [names[0] for names in binary_layers(build_model(cfg))] == layers
        assert cfg.load_from == str(tmp_path / 'a.pth')
    result = json.loads((tmp_path / 'w/retraining.json').read_text())
    lost = [sign * mean for mean in RETRAINED]
    assert result['spearman']['cost'] == pytest.approx(spearman(COSTS, lost))
    assert result['spearman']['cost'] == pytest.approx(-0.8 * sign)
    assert result['spearman']['loss'] == pytest.approx(spearman(LOSSES, lost))


def test_missing_report_is_an_error(run_script):
    with pytest.raises(LaunchError, match="report 'no.json': there is no such file"):
        run_script('sensitivity_retraining', 'no.json', '--work-dir', 'w')
