"""The table of commands. A new one is one line here: its name, and where its click command is.

A command's module is imported when somebody runs it or asks for help; what is slow to import
(the store, rich, Celery) it imports when it runs.
"""

from __future__ import annotations

__all__ = ["COMMANDS", "LISTS"]

#: Name: "module below celery_actors.cli:attribute", in the order of ``--help``.
COMMANDS = {
    "worker": "worker:worker",
    "status": "status:status",
    "list": "lists:lists",
    "get": "get:get",
    "logs": "logs:logs",
    "call": "call:call",
    "kill": "kill:kill",
    "top": "top:top",
    "drain": "drain:drain",
    "stop": "stop:stop",
    "timeline": "timeline:timeline",
    "keygen": "keygen:keygen",
    "doctor": "doctor:doctor",
    "completion": "completion:completion",
}

#: What ``list`` can list.
LISTS = {
    "actors": "lists:actors",
    "nodes": "lists:nodes",
    "calls": "lists:calls",
    "queues": "lists:queues",
}
