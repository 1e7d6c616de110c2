"""The table of commands. A new one is one line here: its name, and where its click command is.

A command's module is imported when somebody runs it or asks for help; what is slow to import
(the store, rich, Celery) it imports when it runs.
"""

from __future__ import annotations

__all__ = ["COMMANDS"]

#: Name: "module below celery_actors.cli:attribute", in the order of ``--help``.
COMMANDS = {
    "worker": "worker:worker",
    "status": "status:status",
    "drain": "drain:drain",
    "keygen": "keygen:keygen",
    "doctor": "doctor:doctor",
}
