"""A node run's folder of shared memory: made at its start, gone at its end, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..shared_memory import OWNER_FILE, SPARE_FOLDER, SharedFolder

__all__ = ["open_folder"]

logger = logging.getLogger(__name__)

#: Where the folders are, in place of the system's shared memory.
BASE_VARIABLE = "CELERY_ACTORS_SHARED_MEMORY"
_PREFIX = "ca-"

# $0 is the folder. The pipe closes when the supervisor ends; somebody may still write meanwhile.
_SWEEPER = 'read -r _; rm -rf "$0" || rm -rf "$0"'


@contextlib.contextmanager
def open_folder(incarnation: str) -> Iterator[SharedFolder | None]:
    """Give this node run its folder, and remove those of node runs that are dead.

    None: this host lets us make none, so large values go through the store. What processes have
    mapped stays readable to them after the end.
    """
    base = _base()
    try:
        path, lock = _make(base, incarnation)
    except OSError as error:
        logger.warning(
            "no shared memory below %s (%s): large values go through the store. Name a folder that "
            "this user may write to in %s", base, error, BASE_VARIABLE,
        )  # fmt: skip
        yield None
        return
    with subprocess.Popen(
        ["/bin/sh", "-c", _SWEEPER, str(path)], stdin=subprocess.PIPE, start_new_session=True
    ):  # at the end, its input is closed and it is waited for
        yield SharedFolder(path)
    os.close(lock)


def _make(base: Path, incarnation: str) -> tuple[Path, int]:
    """Make a folder; return its path and the open file that is locked for as long as it lives."""
    _remove_dead(base)
    # Locked before it has the name under which others look for dead ones.
    path = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=base))
    owner = path / OWNER_FILE
    owner.write_text(incarnation)
    (path / SPARE_FOLDER).mkdir(mode=0o700)
    lock = os.open(owner, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return path.rename(base / f"{_PREFIX}{incarnation}"), lock


def _base() -> Path:
    given = os.environ.get(BASE_VARIABLE)
    if given:
        return Path(given)
    shared = Path("/dev/shm")  # noqa: S108 - the folder in it is made with mode 0700
    return shared if os.access(shared, os.W_OK) else Path(tempfile.gettempdir())


def _remove_dead(base: Path) -> None:
    """Remove this user's folders whose node run holds its lock no more."""
    for path in base.glob(f"{_PREFIX}*/{OWNER_FILE}"):
        with contextlib.suppress(OSError):  # another user's; gone meanwhile; its node lives
            if path.parent.stat().st_uid != os.geteuid():
                continue
            lock = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.parent, ignore_errors=True)
            finally:
                os.close(lock)
