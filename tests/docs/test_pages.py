"""Links of the documents resolve, and their tables say what the code says."""

import re
from dataclasses import fields

import pytest
from helpers.documents import PAGES, ROOT, name_of, prose, slugs

import surge_mm
from surge_mm.models.binarization.rules import DEFAULT_RULES
from surge_mm.ops import ActivationBinarizer, WeightBinarizer

LINK = re.compile(r'\]\((?!https?:)([^)\s]+)\)')
BINARIZE = (ROOT / 'docs' / 'binarize.md').read_text()


def rows(text: str, header: str) -> list[list[str]]:
    """Return the cells of the table whose header begins so."""
    table = text[text.index(header) :].split('\n\n')[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip('|').split(' | ')] for line in table]


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_links_resolve(page) -> None:
    for target in LINK.findall(prose(page)):
        path, _, anchor = target.partition('#')
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), target
        assert not anchor or anchor in slugs(to), target


def test_every_page_is_reached_from_the_index_and_every_guide_from_the_readme() -> None:
    pages = {page for page in PAGES if (ROOT / 'docs') in page.parents}
    reached, waiting = set(), [ROOT / 'docs' / 'index.md']
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            linked = [
                (page.parent / target.partition('#')[0])
                for target in LINK.findall(page.read_text())
            ]
            waiting += [to.resolve() for to in linked if to.resolve() in pages]
    assert pages == reached
    readme = (ROOT / 'README.md').read_text()
    guides = {page.name for page in pages if page.parent == ROOT / 'docs'}
    guides -= {'index.md', 'contributing.md', 'changelog.md'}
    assert not [name for name in guides if f'(docs/{name})' not in readme]


def test_default_rules_of_the_guide_are_those_of_the_code() -> None:
    shown = [
        (', '.join(re.findall('`(.+?)`', conditions)), to, why)
        for conditions, to, why in rows(BINARIZE, '| Conditions |')
    ]
    keys = [field.name for field in fields(DEFAULT_RULES[0]) if field.name not in ('to', 'why')]
    assert shown == [
        (
            ', '.join(f'{k}={getattr(rule, k)!r}' for k in keys if getattr(rule, k) is not None),
            rule.to,
            rule.why,
        )
        for rule in DEFAULT_RULES
    ]


def test_conditions_of_the_guide_are_the_keys_of_a_rule() -> None:
    shown = [condition.strip('`') for condition, *_ in rows(BINARIZE, '| Condition |')]
    assert shown == [
        field.name for field in fields(DEFAULT_RULES[0]) if field.name not in ('to', 'why')
    ]


@pytest.mark.parametrize('page', ['docs/binarize.md', 'docs/method.md'])
def test_every_binarizer_is_in_the_tables(page: str) -> None:
    text = (ROOT / page).read_text()
    for family in (ActivationBinarizer, WeightBinarizer):
        own = [name for name, cls in family.known.items() if cls.__module__.startswith('surge_mm.')]
        assert own and not [name for name in own if not re.search(rf"`'?{name}'?`", text)]


def test_every_hook_is_in_the_table() -> None:
    shown = [hook.strip('`') for hook, _ in rows((ROOT / 'docs/train.md').read_text(), '| Hook |')]
    assert sorted(shown) == sorted(f'surge_mm.{n}' for n in surge_mm.__all__ if n.endswith('Hook'))


def test_names_of_the_method_page_are_in_the_files_beside_them() -> None:
    text = (ROOT / 'docs/method.md').read_text()
    file = None
    for cells in rows(text, '| Formula |') + rows(
        text[text.index('Adaptive Gradient Scaler\n\n') :], '| Formula |'
    ):
        linked = re.search(r'\(\.\./([^)]+)\)', cells[-1])
        file = ROOT / linked[1] if linked else file
        for code in re.findall('`(.+?)`', cells[1]):
            word = re.split(r'[=( ]', code)[0].split('.')[-1]
            assert word in file.read_text(), (word, file)


def test_layout_of_contributing_is_that_of_the_package() -> None:
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    shown = [folder.strip('`/') for folder, *_ in rows(text, '| Folder of')]
    assert sorted(shown) == sorted(p.parent.name for p in ROOT.glob('surge_mm/*/__init__.py'))
    named = [file.strip('`') for _, file in rows(text, '| Question |')]
    assert named and all((ROOT / file).is_file() for file in named)
