"""``celery_actors load-scripts``: what a user who may not run Lua of its own needs beforehand.

A user without ``SCRIPT LOAD`` and ``EVAL`` can run the scripts that are loaded and no others. One
who may load them needs no key and no other command: see ``deploy/users.acl``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .broker.scripts import SOURCES
from .errors import ClusterUnreachableError
from .store import Scripts, Store

__all__ = ["keep_loaded", "load"]

#: Seconds between two looks. Callers wait ten seconds for a store that has restarted.
LOOK_SECONDS = 1.0


def load(store: Store) -> int:
    """Load what the store lacks of our scripts, kombu's and Celery's; return how many.

    Raises:
        ScriptsMissingError: the user may not. StoreUnreachableError: no answer.
    """
    return Scripts.load(store.run, SOURCES)


def keep_loaded(store: Store, stop: threading.Event, say: Callable[[str], None]) -> None:
    """Load them whenever the store lacks some, as after a restart, until told to stop."""
    trouble = ""
    while not stop.is_set():
        try:
            number = load(store)
        except ClusterUnreachableError as error:
            if str(error) != trouble:
                say(str(error))
            trouble = str(error)
        else:
            if number or trouble:
                say(in_words(number))
            trouble = ""
        stop.wait(LOOK_SECONDS)


def in_words(number: int) -> str:
    """Return what was done, in words."""
    return f"loaded {number} scripts" if number else "every script was there"
