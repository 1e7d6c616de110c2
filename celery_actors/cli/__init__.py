"""The command line: ``celery_actors …``, and ``celery -A proj actors …``."""

from .group import actors, main

__all__ = ["actors", "main"]
