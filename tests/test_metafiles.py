"""The model index lists every config under its method, with results only where they were measured."""

import importlib.util
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config
from mmengine.hub import get_config
from modelindex.load_model_index import load

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location('metafiles', ROOT / 'benchmarks/update_metafiles.py')
update_metafiles = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(update_metafiles)
RESULTS = yaml.safe_load((ROOT / 'benchmarks/results.yml').read_text())


@pytest.fixture(scope='module')
def index():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return load('model-index.yml')


@pytest.mark.parametrize(
    'config', ['demo/surge_fcos-1bit_r18-light_10e_digits.py', '_base_/models/resnet20_cifar.py']
)
def test_mmengine_finds_configs_by_the_index(config):
    assert (
        get_config(f'surge_mm::{config}').model == Config.fromfile(ROOT / 'configs' / config).model
    )


def test_every_config_is_listed_once(index):
    there = [
        path.relative_to(ROOT).as_posix()
        for path in ROOT.glob('configs/*/*.py')
        if path.parent.name != '_base_'
    ]
    assert len(there) > 100
    assert sorted(model.config for model in index.models) == sorted(there)


def test_a_config_is_in_the_collection_of_its_method(index):
    collections = [collection.name for collection in index.collections]
    assert len(collections) == len(set(collections))
    assert {model.in_collection for model in index.models} == set(collections)
    methods = {path.stem for path in ROOT.glob('configs/_base_/methods/*.py')}
    for model in index.models:
        method = model.name.partition('_')[0]
        assert (model.in_collection == 'SURGE') == method.startswith('surge')
        assert (model.in_collection == 'STE') == (method == 'ste')
        assert (model.in_collection == 'Full precision') == (method not in methods)


def test_metafiles_are_those_that_the_configs_and_results_give():
    for path, text in update_metafiles.metafiles().items():
        assert path.read_text() == text, 'run python benchmarks/update_metafiles.py'


def test_results_are_those_of_the_results_pages(index):
    page = ''.join(path.read_text() for path in (ROOT / 'docs/results').glob('*.md'))
    measured = {f'{Path(m.config).parent.name}/{m.name}': m.results for m in index.models}
    assert {name for name, results in measured.items() if results} == set(RESULTS)
    for metrics in RESULTS.values():
        for metric, values in metrics.items():
            for value in values:
                shown = f'{value:.2f}' if metric.endswith('Accuracy') else f'{value / 100:.3f}'
                assert shown in page


def test_metrics_are_means_over_seeds(index):
    seeds = {
        model.name: model.metadata.data.get('Seeds') for model in index.models if model.results
    }
    assert seeds['ste_retinanet-1bit-distill_r18-light_40e_bccd'] == 6
    metrics = {model.name: model.results[0].metrics for model in index.models if model.results}
    assert metrics['surge_bert-mini_1e_sst2-mini'] == {'Accuracy': 79.74}
    assert metrics['ste_retinanet-1bit-distill_r18-light_40e_bccd'] == {'AP50': 88.8}


@pytest.mark.parametrize('folder', sorted(p.parent for p in ROOT.glob('configs/*/metafile.yml')))
def test_the_readme_of_a_folder_names_the_methods_of_its_configs(folder):
    text = (folder / 'README.md').read_text()
    for path in folder.glob('*.py'):
        method = path.stem.partition('_')[0]
        if method in update_metafiles.COLLECTIONS:
            assert f'`{method}`' in text or f'/{method}_' in text, path.stem
