"""The users of `deploy/users.acl`, for servers of the tests: `CELERY_ACTORS_TEST_ACL=1 make test`.

Nodes and drivers then log in as the user that the file gives them, the scripts are loaded by the
one who may do that, and a server that refused anything fails the test that ends it.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import redis

from celery_actors import script_loader
from celery_actors.config import Address
from celery_actors.store import Store
from tests.waits import wait_until

FILE = Path(__file__).parents[2] / "deploy" / "users.acl"
#: Whether every server of the tests has these users.
IN_FORCE = os.environ.get("CELERY_ACTORS_TEST_ACL") == "1"
#: What is tried and done without: the settings, which tell passwords (`celery_actors.store_check`),
#: what client this is, and the scripts of a server that has just lost them.
_TOLERATED = frozenset({"config|get", "client|setinfo", "script|load"})


def password(user: str) -> str:
    """Return the password of a user, as `write_users` gives it."""
    return f"{user}-pw"


def write_users(folder: Path, prefix: str = "") -> Path:
    """Write the file with passwords, as its readers are told to; return its copy.

    With a prefix that is before each pattern of keys and channels, but for the admin's.
    """
    path = folder / "users.acl"
    rules = [line for line in FILE.read_text().splitlines() if line.startswith("user ")]
    text, replaced = re.subn(
        r"^(user (\S+) .*)>CHANGE-ME-\S+", lambda found: f"{found[1]}>{password(found[2])}",
        "\n".join(rules), flags=re.MULTILINE,
    )  # fmt: skip
    assert replaced == len(rules) - 1, "every user but `default` has a password to change"
    # As deploy/README.md says for plain tasks on the same store.
    if IN_FORCE:
        text = re.sub(r"(?m)^(user celery-actors .*?) ~ca:", r"\1 ~celery* ~ca:", text)
    text = re.sub(r"(?m)^(?!user admin ).*", lambda line: _under(line[0], prefix), text)
    path.write_text(text + "\n")
    return path


def _under(line: str, prefix: str) -> str:
    return re.sub(r"(?<=[ (])([~&])", rf"\1{prefix}", line)


def write_tenant(folder: Path, prefix: str) -> Path:
    """Write a file with a user who may do anything under a prefix, and nothing beside it.

    kombu subscribes to patterns, and a server compares a pattern with those of the user letter by
    letter: ``&shop:*`` does not give ``PSUBSCRIBE shop:/0.celeryev/*``.
    """
    path = folder / "users.acl"
    path.write_text(
        "user default on nopass ~* &* +@all\n"
        f"user tenant on >{password('tenant')} resetkeys resetchannels ~{prefix}* &{prefix}* "
        f"&{prefix}/0.celery.pidbox &{prefix}/0.celeryev/* "
        "+@all -flushall -flushdb -keys\n"
    )
    return path


def write_settings(folder: Path, users: Path, port: str = "6379") -> str:
    """Write `deploy/redis.conf` for a server that keeps its data here; return its path."""
    text = (FILE.parent / "redis.conf").read_text()
    for name, place in (("dir", folder), ("aclfile", users), ("port", port)):
        text, replaced = re.subn(rf"^{name} .*$", f"{name} {place}", text, flags=re.MULTILINE)
        assert replaced == 1
    path = folder / "redis.conf"
    path.write_text(text)
    return str(path)


def as_user(url: str, user: str) -> str:
    """Return the address of a store for one of its users."""
    return url.replace("://", f"://{user}:{password(user)}@", 1)


@contextlib.contextmanager
def scripts_loaded(url: str) -> Iterator[None]:
    """Keep the scripts loaded, as `celery_actors load-scripts --watch` does."""
    store = Store(Address.parse(as_user(url, "scripts")), retries=0, patience=5)
    stop, begun = threading.Event(), threading.Event()
    thread = threading.Thread(
        target=script_loader.keep_loaded, args=(store, stop, lambda _: begun.set()), daemon=True
    )
    thread.start()
    try:
        wait_until(begun.is_set, "the scripts are loaded")
        yield
    finally:
        stop.set()
        thread.join()
        store.close()


def refused(client: redis.Redis) -> list[str]:
    """Return what the server has refused, but for what is known and tolerated."""
    entries = client.acl_log()
    return [
        f"{entry['username']}: {entry['reason']} {entry['object']} ({entry['context']})"
        for entry in entries
        if entry["object"] not in _TOLERATED
    ]
