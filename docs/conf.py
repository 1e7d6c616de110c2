"""How Sphinx builds the documentation: `make docs`. Warnings are errors."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

# The package beside this folder is the one that is described, wherever the environment points to.
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

project = "celery_actors"
author = "The celery_actors authors"
copyright = author  # noqa: A001 - Sphinx's name
language = "en_GB"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "command_line",  # ours, in _ext
]
smartquotes = False  # `--num-cpus` and quotes in commands stay as one types them
exclude_patterns = ["_ext"]
nitpicky = True

# Where a page is a file that GitHub shows too, its links go to files and headings as there.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

napoleon_google_docstring = True
napoleon_numpy_docstring = False

autodoc_member_order = "bysource"
# What a parameter takes is said in words under `Args:`. Signatures keep their annotations as they
# are written, which is what one reads in the code.
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

nitpick_ignore_regex = [
    # Names of others: the standard library's. Looking them up needs the network, and a build must
    # not.
    (r"py:.*", r"opentelemetry\..*|kombu's EncodeError"),
    (
        r"py:.*",
        r"_?(asyncio|collections|concurrent|contextlib|datetime|functools|os|queue|types|typing|uuid)\..*",
    ),
    (r"py:.*", r"|".join(name for name in dir(builtins) if name[0].isupper())),
    # Type variables, and names that only type checkers see.
    (
        r"py:class",
        r"(celery_actors\.[a-z_.]+\.)?(_Wrapped|_Decorator|Function|Init|Ref|Strategy|[A-Z](_co)?)",
    ),
]

html_theme = "furo"
html_title = "celery_actors"
html_copy_source = False
html_show_sphinx = False


def setup(app: Sphinx) -> None:
    """Tell napoleon, before it reads it, that the docstring of a property begins with no type."""

    def begin_with_nothing(
        _app: Sphinx, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]
    ) -> None:
        # Else "The Celery task id: …" is a type and what is said about it.
        if what in {"attribute", "data", "property"}:
            lines.insert(0, "\\")  # an escaped line end: nothing in the text

    app.connect("autodoc-process-docstring", begin_with_nothing, priority=400)
