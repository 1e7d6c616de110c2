"""How this package is installed, and where its process imports from."""

from __future__ import annotations

import os
import sys
from importlib import metadata

__all__ = ["import_path", "version"]


def version() -> str:
    """Return the version of the package; '' in a checkout."""
    try:
        return metadata.version("celery-actors")
    except metadata.PackageNotFoundError:
        return ""


def import_path() -> list[str]:
    """Return where this process imports from, for another one: the empty entry by its folder."""
    return [entry or os.getcwd() for entry in sys.path]  # noqa: PTH109 - a string is what is sent
