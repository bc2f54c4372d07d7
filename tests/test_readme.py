"""What the README tells a user to type works."""

import re
from pathlib import Path

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

from surge_mm.layers import BinaryLayer, compensated_layers

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / 'README.md').read_text()


def models_of_the_readme(tmp_path):
    for block in re.findall(r'```python\n(.*?)```', TEXT, re.DOTALL):
        (tmp_path / 'my_config.py').write_text(block)
        cfg = Config.fromfile(tmp_path / 'my_config.py')
        init_default_scope(cfg.default_scope)
        yield MODELS.build(cfg.model)


def test_configs_of_the_readme_binarise_detectors(tmp_path):
    by_backbone, by_rules = models_of_the_readme(tmp_path)
    assert len(list(compensated_layers(by_backbone.backbone))) == 16
    assert len(list(compensated_layers(by_rules.backbone))) == 16
    binary = [name for name, m in by_rules.named_modules() if isinstance(m, BinaryLayer)]
    assert not [name for name in binary if name.startswith('neck')]
    towers = [name for name, _ in compensated_layers(by_rules.bbox_head)]
    assert sorted(towers) == [f'cls_convs.{i}.conv' for i in range(4)]
    assert len([name for name in binary if 'reg_convs' in name]) == 4


def test_files_and_targets_that_the_readme_names_exist():
    named = re.findall(r'\]\((?!http)([^)#]+)\)', TEXT) + re.findall(r'\b(tools/\w+\.\w+)', TEXT)
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]
    targets = re.findall(r'^    make (\w+)', TEXT, re.MULTILINE)
    makefile = (ROOT / 'Makefile').read_text()
    assert targets == ['demo', 'test', 'stress']
    assert all(re.search(rf'^{target}:', makefile, re.MULTILINE) for target in targets)


def test_layout_that_the_readme_draws_is_that_of_the_checkout():
    drawn = re.findall(r'^    (surge_mm/\w+|configs|tools|tests)/ ', TEXT, re.MULTILINE)
    packages = {f'surge_mm/{path.parent.name}' for path in ROOT.glob('surge_mm/*/__init__.py')}
    assert set(drawn) == packages | {'configs', 'tools', 'tests'}
