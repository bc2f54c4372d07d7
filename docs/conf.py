"""Configuration of Sphinx. ``make docs`` builds the site into docs/_build/html."""

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
]
exclude_patterns = ['_build']

# Pages are Markdown that GitHub shows too: formulas between $$, links to headings as GitHub names them.
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3

autodoc_member_order = 'bysource'
autodoc_typehints = 'none'  # types stand in the docstrings
autodoc_default_options = {'members': True, 'show-inheritance': True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

# References to names of this package must resolve; those to other packages need their sites.
nitpicky = True
nitpick_ignore_regex = [(r'py:.*', r'(?!surge_mm\.).*')]

html_theme = 'furo'
html_title = f'surge_mm {release}'
html_show_sphinx = False
html_copy_source = False
html_static_path = ['_static']
html_css_files = ['tables.css']
copybutton_prompt_text = r'\$ |>>> '
copybutton_prompt_is_regexp = True
