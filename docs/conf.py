"""Configuration of Sphinx. ``make docs`` builds the site into docs/_build/html."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import surge_mm

project = 'surge_mm'
author = 'The surge_mm authors'
copyright = f'2026, {author}'
release = version = surge_mm.__version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.mathjax',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
    'site_links',
]
exclude_patterns = ['_build']

# The pages are Markdown that GitHub shows too: formulas between $$, headings with the anchors that GitHub gives them.
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # the docstrings have the types
autodoc_default_options = {'members': True, 'no-value': True, 'show-inheritance': True}
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# A reference to a name of this package must resolve. Names of other packages are not checked: that needs their sites.
nitpicky = True
nitpick_ignore_regex = [(r'py:.*', r'(?!surge_mm\.).*')]

html_theme = 'furo'
html_title = f'surge_mm {release}'
html_show_sphinx = False
html_copy_source = False
html_static_path = ['_static']
html_css_files = ['tables.css']
