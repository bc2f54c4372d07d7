"""Configs that the documents name are there, those that they show are built, and their blocks of Python run."""

import re
import sys

import pytest
from helpers.documents import PAGES, ROOT, blocks, configs, name_of
from mmengine.config import Config

from surge_mm.launch.runner import build_model
from surge_mm.layers import BinaryLayer, compensated_layers
from surge_mm.ops import ActivationBinarizer, GradientScale, WeightBinarizer

EXAMPLES = [(name_of(page), block) for page in PAGES for block in blocks(page, 'python')]
CONFIGS = [(page, block) for page, block in EXAMPLES if re.search('^_base_ =', block, re.MULTILINE)]
PROGRAMS = [example for example in EXAMPLES if example not in CONFIGS]
NOT_RUN = {
    'docs/deployment.md': 'needs a trained detector and an image; tests/tools/test_export.py packs and runs one',
    'docs/inference_speed.md': 'needs a trained detector; tests/deploy/predict/test_imports.py runs one',
}
"""Pages whose programs are not run, and why."""
OPTIONAL = ('transformers',)
"""Packages that programs need and this package does not."""


def first_lines(examples):
    return [f'{page}: {block.splitlines()[0]}' for page, block in examples]


MODULE = re.compile(r'# (\w+)\.py\n')


@pytest.fixture(autouse=True)
def _modules(tmp_path, monkeypatch):
    """Provide the files that documents show, whose first line is their name, and forget the classes of examples."""
    for family in (ActivationBinarizer, GradientScale, WeightBinarizer):
        monkeypatch.setattr(family, 'known', dict(family.known))
    monkeypatch.syspath_prepend(tmp_path)
    named = [match for _, block in EXAMPLES if (match := MODULE.match(block))]
    for match in named:
        (tmp_path / f'{match[1]}.py').write_text(match.string)
    yield
    for match in named:
        sys.modules.pop(match[1], None)


def test_configs_that_the_documents_name_are_there() -> None:
    # tests/test_configs.py builds every config outside of _base_
    assert configs() and not [name for name in configs() if not (ROOT / name).is_file()]
    assert not [name for name in configs() if '/_base_/' in name]


@pytest.mark.parametrize('page, block', CONFIGS, ids=first_lines(CONFIGS))
def test_config_that_a_document_shows_is_built(page: str, block: str, tmp_path) -> None:
    if "'mmseg::" in block:
        pytest.importorskip('mmseg')
    (tmp_path / 'my_config.py').write_text(block)
    cfg = Config.fromfile(tmp_path / 'my_config.py')
    model = build_model(cfg)
    binary = any(isinstance(module, BinaryLayer) for module in model.modules())
    structure_only = cfg.model.get('structure_only', False)
    in_full_precision = structure_only or "conv_cfg=dict(type='Conv2d')" in block
    assert binary == (not in_full_precision)


@pytest.mark.parametrize(
    'page, block',
    [(page, block) for page, block in PROGRAMS if page not in NOT_RUN],
    ids=first_lines([(page, block) for page, block in PROGRAMS if page not in NOT_RUN]),
)
def test_program_of_a_document_runs(page: str, block: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MPLBACKEND', 'agg')
    for name in OPTIONAL:
        if f'from {name} import' in block:
            pytest.importorskip(name)
    exec(compile(block, page, 'exec'), {'__name__': 'example'})


def test_pages_that_are_not_run_have_programs() -> None:
    assert set(NOT_RUN) <= {page for page, _ in PROGRAMS}


def test_rules_of_the_guide_keep_the_neck_and_take_the_branch_from_the_box_tower(tmp_path) -> None:
    (block,) = (b for page, b in CONFIGS if page == 'docs/binarize.md' and 'rules=' in b)
    (tmp_path / 'my_config.py').write_text(block)
    model = build_model(Config.fromfile(tmp_path / 'my_config.py'))
    binary = [name for name, m in model.named_modules() if isinstance(m, BinaryLayer)]
    assert len(list(compensated_layers(model.backbone))) == 16
    assert not [name for name in binary if name.startswith('neck')]
    towers = [name for name, _ in compensated_layers(model.bbox_head)]
    assert sorted(towers) == [f'cls_convs.{i}.conv' for i in range(4)]
    assert len([name for name in binary if 'reg_convs' in name]) == 4


@pytest.mark.parametrize('form', ['default_hooks', 'custom_hooks'])
def test_hooks_that_the_guide_adds_leave_those_of_the_base_config(form: str, tmp_path) -> None:
    (block,) = (b for page, b in CONFIGS if page == 'docs/train.md' and f'\n{form} =' in b)
    (tmp_path / 'my_config.py').write_text(block)
    cfg = Config.fromfile(tmp_path / 'my_config.py')
    named = [hook.type for hook in (*cfg.custom_hooks, *cfg.default_hooks.values())]
    assert {'EMAHook', 'PipelineSwitchHook', 'surge_mm.AdaptiveGradientScalerHook'} <= set(named)
