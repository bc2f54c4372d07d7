"""Sphinx extension: links that work on GitHub work on the site too, and the API is what the package exports.

- A link to a file outside docs/ becomes a link to its highlighted source (modules of the package), to its page
  (CONTRIBUTING.md and the like), or a download.
- ``:class:`surge_mm.SurgeConv2d``` resolves wherever the object is documented. A reference to an object that exists but
  has no entry becomes plain text; one to a name that does not exist is a warning.
- Pages show the names that a package exports, and an exported name without an entry is a warning.
"""

import importlib
import os
import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PAGES = {
    ROOT / 'README.md': 'index.md',
    ROOT / 'CONTRIBUTING.md': 'contributing.md',
    ROOT / 'CHANGELOG.md': 'changelog.md',
}
PACKAGES = [f'surge_mm{name}' for name in ('', '.layers', '.ops', '.models', '.hooks', '.deploy')]
LINK = re.compile(r'(?<=\]\()(?!https?:|#|/)([^)#\s]+)(?=[)#])')


def show_root_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Make links relative to the page; show CONTRIBUTING.md and CHANGELOG.md under their own names."""
    page = DOCS / f'{docname}.md'
    folder = page.parent
    for file, name in PAGES.items():
        if docname != 'index' and name == page.name and folder == DOCS:
            source[0], folder = file.read_text(encoding='utf-8'), file.parent
            app.env.note_dependency(str(file))
    source[0] = LINK.sub(lambda match: _target(folder / match[1], page.parent), source[0])


def _target(path: Path, folder: Path) -> str:
    path = Path(os.path.normpath(path))
    path = DOCS / PAGES[path] if path in PAGES else path
    scheme = '' if path.is_relative_to(DOCS) else 'path:'
    return scheme + os.path.relpath(path, folder)


def link_modules(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace downloads of modules by links to their highlighted source."""
    shown = getattr(app.env, '_viewcode_modules', {})
    for node in list(doctree.findall(addnodes.download_reference)):
        path = Path(os.path.normpath(DOCS / Path(docname).parent / node['reftarget']))
        if not path.is_relative_to(ROOT) or path.suffix != '.py':
            continue
        module = '.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')
        if shown.get(module):
            uri = app.builder.get_relative_uri(docname, '_modules/' + module.replace('.', '/'))
            node.replace_self(nodes.reference('', '', *node.children, refuri=uri, internal=True))


def find_documented(app: Sphinx, env: Any, node: Any, content: nodes.Node) -> nodes.Node | None:
    """Resolve a reference to an exported name by the name under which the object is documented."""
    name = node.get('reftarget', '')
    if node.get('refdomain') != 'py' or not name.startswith('surge_mm.'):
        return None
    try:
        found = _import(name)
    except (ImportError, AttributeError):
        return None
    documented = _documented(env).get(id(found))
    if documented is None:
        return content
    entry = env.get_domain('py').objects[documented]
    uri = app.builder.get_relative_uri(node['refdoc'], entry.docname)
    return nodes.reference('', '', content, refuri=f'{uri}#{entry.node_id}', internal=True)


@cache
def _documented(env: Any) -> dict[int, str]:
    """Return the name of the entry of each documented object."""
    found = {}
    for name in env.get_domain('py').objects:
        with suppress(ImportError, AttributeError):
            found[id(_import(name))] = name
    return found


def load_exports(app: Sphinx) -> None:
    """Import what packages export on first access, for autodoc lists only what is there."""
    for package in map(importlib.import_module, PACKAGES):
        vars(package).update({name: getattr(package, name) for name in package.__all__})


def skip_helpers(
    app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what a module of an exporting package keeps to itself."""
    package = getattr(member, '__module__', None) or ''
    while what == 'module' and package:
        if package in PACKAGES:
            exported = importlib.import_module(package).__all__
            return True if package != 'surge_mm' and name not in exported else None
        package = package.rpartition('.')[0]
    return None


def check_exports(app: Sphinx, env: Any) -> None:
    """Warn of exported names that no page documents."""
    for package in map(importlib.import_module, PACKAGES):
        for name in package.__all__:
            if name != '__version__' and id(getattr(package, name)) not in _documented(env):
                logging.getLogger(__name__).warning('%s.%s has no entry', package.__name__, name)


def _import(name: str) -> Any:
    """Return the object of a dotted name: a module, or an attribute at any depth of one."""
    try:
        return importlib.import_module(name)
    except ImportError:
        parent, _, attribute = name.rpartition('.')
        if not parent:
            raise
        return getattr(_import(parent), attribute)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect('builder-inited', load_exports)
    app.connect('autodoc-skip-member', skip_helpers)
    app.connect('env-check-consistency', check_exports)
    app.connect('source-read', show_root_page)
    app.connect('doctree-resolved', link_modules)
    app.connect('missing-reference', find_documented)
    return {'parallel_read_safe': True, 'parallel_write_safe': True}
