"""The book, built by `make docs`: lessons and guides are written, figures and reference are made from the package itself."""

import importlib
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ.setdefault("OMP_NUM_THREADS", "2")

try:
    for needed in ("furo", "myst_parser", "sphinx_gallery", "sphinxcontrib.katex", "ziamath", "matplotlib"):
        importlib.import_module(needed)
except ImportError as error:
    sys.exit(f"docs: got no {error.name}, expected the packages that build the book: pip install -e '.[docs]'")

import scorefield  # noqa: E402  # after the sentence on what is missing

project = "scorefield"
author = "the authors of scorefield"
copyright = "the authors of scorefield, Apache-2.0"
release = version = scorefield.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "maths",
    "sphinx_gallery.gen_gallery",
    "theorems",
    "field_view",
    "outside",
    "docstrings",
    "reference",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_ext", "lessons", "Thumbs.db"]
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!scorefield\b).*"),  # other packages' pages would have to be downloaded
    (r"py:class", r"scorefield\..*\.([A-Z]|Function)"),  # variables of types, which have no page
]
suppress_warnings = ["ref.python"]  # one class is shown by its own module and by the package that gathers it
numfig = True
math_number_all = False
math_eqref_format = "({number})"
language = "en"

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"scorefield {release}"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_extra_path = ["field.html"]
html_show_sourcelink = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

sphinx_gallery_conf = {
    "examples_dirs": "lessons",
    "gallery_dirs": "book",
    "filename_pattern": r"/lesson_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "only_warn_on_example_error": False,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 5,
    "reset_modules": ("matplotlib", "lesson_style.reset"),
    "image_scrapers": ("matplotlib",),
    "matplotlib_animations": (True, "jshtml"),
    "plot_gallery": True,
    "capture_repr": (),
    "remove_config_comments": True,
}
