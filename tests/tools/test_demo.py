"""The loss of accuracy that tools/demo.py states."""

import importlib.util
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_the_loss_against_full_precision_is_that_of_the_metafile(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location('demo', ROOT / 'tools' / 'demo.py')
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    monkeypatch.setattr(demo, 'CONFIG', tmp_path / demo.CONFIG.name)
    models = [
        {'Name': name, 'Metadata': {'Seeds': 5}, 'Results': [{'Metrics': {'box AP': value}}]}
        for name, value in ((demo.FULL_PRECISION, 88.1), (demo.CONFIG.stem, 86.4))
    ]
    unmeasured = {'Name': 'other', 'Metadata': {}}
    (tmp_path / 'metafile.yml').write_text(yaml.safe_dump({'Models': [*models, unmeasured]}))
    stated = '0.881 mAP on test images, 0.864 for this detector: -0.017 (means of 5 seeds, docs/results/digits.md)'
    assert demo.documented_loss(demo.CONFIG.stem) == stated
    assert demo.documented_loss('other') == 'the loss against it was not measured'
    assert (ROOT / f'configs/demo/{demo.FULL_PRECISION}.py').is_file()
