"""Ray's name for the errors: ``from celery_actors.exceptions import RayActorError``."""

from __future__ import annotations

from . import errors
from .errors import *  # noqa: F403 - the same names, all of them

__all__ = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]
