"""Configuration of the documentation: everything is built from the code, without the network."""

import re
import sys
from pathlib import Path

import sklearn_protopnet

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "sklearn-protopnet"
author = "The sklearn-protopnet developers"
copyright = author
release = version = sklearn_protopnet.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "matplotlib.sphinxext.plot_directive",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "records",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_ext", "_templates", "auto_examples/*.ipynb", "auto_examples/*.py"]
default_role = "literal"

autosummary_generate = True
numpydoc_show_class_members = False

plot_html_show_source_link = False
plot_html_show_formats = False
plot_formats = [("png", 120)]
plot_include_source = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"[\\/]plot_",
    "reset_argv": "gallery.arguments",
    "ignore_pattern": r"[\\/](demo|__init__)\.py$",
    "doc_module": ("sklearn_protopnet",),
    "backreferences_dir": "generated/backreferences",
    "reference_url": {"sklearn_protopnet": None},
    "remove_config_comments": True,
    "download_all_examples": False,
    "show_signature": False,
    "abort_on_example_error": False,
    "within_subsection_order": "FileNameSortKey",
}

html_theme = "pydata_sphinx_theme"
html_title = f"{project} {release}"
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_prev_next": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
html_sidebars = {"install": [], "architecture": [], "changelog": []}


def name_fitted_attributes(app, what, name, obj, options, lines):
    """Mark names such as n_features_in_ in types as code: reST takes them for references."""
    lines[:] = [
        re.sub(r"(?<![\w`])(\w+_)(?=[,)])", r"`\1`", line) if " : " in line else line
        for line in lines
    ]


def setup(app):
    app.connect("autodoc-process-docstring", name_fitted_attributes, priority=400)
