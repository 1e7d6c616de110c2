"""What a Celery worker leaves in the store when it cannot say good-bye, by kombu's own names.

kombu binds each worker's control mailbox in a set and keeps a list for it; a killed worker's stay
there for an hour or more (kombu 5.7, ``transport/redis.py``), and every broadcast feeds the list.
No import of kombu: the supervisor is small and starts fast without it.
"""

from __future__ import annotations

__all__ = ["control_remains", "queue_remains"]

_BINDINGS = "_kombu.binding.celery.pidbox"
_SEPARATOR = "\x06\x16"


def control_remains(hostname: str) -> tuple[str, str, str]:
    """Return (set of bindings, the worker's member in it, its list)."""
    queue = f"{hostname}.celery.pidbox"
    return _BINDINGS, _SEPARATOR.join(("", "", queue)), queue


def queue_remains(queue: str) -> tuple[str, str]:
    """Return the keys that any Celery client makes when it declares a queue to send to it."""
    return f"_kombu.binding.{queue}", f"_kombu.binding_permanent.{queue}"
