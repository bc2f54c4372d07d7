"""The model index lists every config but those of demonstrations, and what it lists is there."""

from pathlib import Path

from modelindex.load_model_index import load

ROOT = Path(__file__).parents[1]


def test_every_config_is_listed_once(monkeypatch):
    monkeypatch.chdir(ROOT)
    listed = [model.config for model in load('model-index.yml').models]
    there = [
        str(path.relative_to(ROOT))
        for folder in ('bccd', 'cifar10', 'coco', 'imagenet', 'voc')
        for path in (ROOT / 'configs' / folder).glob('*.py')
    ]
    assert sorted(listed) == sorted(there)


def test_the_readmes_name_every_method():
    for folder in ('cifar10', 'imagenet'):
        text = (ROOT / 'configs' / folder / 'README.md').read_text()
        methods = {path.stem.rsplit('_', 1)[1] for path in (ROOT / 'configs' / folder).glob('*.py')}
        one_stage = {method for method in methods if not method.startswith('step')}
        assert all(f'(`{method}`)' in text for method in one_stage)
