"""Links of the documents resolve, and their tables agree with the code."""

import re
from dataclasses import fields

import pytest
from helpers.documents import PAGES, ROOT, name_of, prose, slugs
from helpers.formula import SCHEDULED

import surge_mm
from surge_mm import ops
from surge_mm.deploy.packed_file.allowed_classes import is_allowed
from surge_mm.models.binarization.rules import DEFAULT_RULES
from surge_mm.ops import ActivationBinarizer, Scheduled, WeightBinarizer

LINK = re.compile(r'\]\((?!https?:)([^)\s]+)\)')
BINARIZE = (ROOT / 'docs' / 'binarize.md').read_text()
BINARIZERS = {
    name: cls
    for family in (ActivationBinarizer, WeightBinarizer)
    for name, cls in family.known.items()
    if cls.__module__.startswith('surge_mm.')
}


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
    assert not [name for name in BINARIZERS if not re.search(rf"`'?{name}'?`", text)]


def test_every_binarizer_is_exported() -> None:
    assert {name: getattr(ops, name, None) for name in BINARIZERS} == BINARIZERS
    assert set(BINARIZERS) <= set(ops.__all__)


def test_a_packed_file_may_name_every_binarizer() -> None:
    assert not [name for name, cls in BINARIZERS.items() if not is_allowed(cls)]


def test_binarizers_with_a_schedule_are_those_of_the_formulas_and_of_the_hook() -> None:
    scheduled = {name for name, cls in BINARIZERS.items() if issubclass(cls, Scheduled)}
    assert scheduled == set(SCHEDULED)
    hooks = dict(rows((ROOT / 'docs/train.md').read_text(), '| Hook |'))
    purpose = hooks['`surge_mm.BinarizerScheduleHook`']
    assert scheduled == set(BINARIZERS) & set(re.findall(r'\w+', purpose))


def test_every_hook_is_in_the_table() -> None:
    shown = [hook.strip('`') for hook, _ in rows((ROOT / 'docs/train.md').read_text(), '| Hook |')]
    assert sorted(shown) == sorted(f'surge_mm.{n}' for n in surge_mm.__all__ if n.endswith('Hook'))
