"""How Sphinx makes the book. `make book` runs it on the pages that build.py has put together."""

import sys
from pathlib import Path

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
sys.path[:0] = [str(BOOK), str(ROOT)]

import docstrings  # noqa: E402
import formulas  # noqa: E402
import links  # noqa: E402

import fedlab  # noqa: E402

project = "fedlab"
author = "fedlab contributors"
version = release = fedlab.__version__
language = "en"

extensions = ["myst_nb", "sphinx.ext.autodoc"]

highlight_language = "none"  # blocks that name no language: commands, messages

# What build.py has executed is shown as it is; nothing runs here
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # would come from another host; build.py leaves no widgets
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 4
html_math_renderer = "mathml"
suppress_warnings = ["config.cache"]  # functions in this file cannot be kept between two builds

add_module_names = False
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "fedlab"
html_css_files = ["book.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_permalinks_icon = "#"
html_theme_options = {
    "navigation_with_keys": True,
    "top_of_page_buttons": [],
}


def setup(app):
    docstrings.setup(app)
    formulas.setup(app)
    links.setup(app)
