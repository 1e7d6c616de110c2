"""A node run's folder of shared memory: made at its start, gone at its end, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..shared_memory import OWNER_FILE, SPARE_FOLDER, SharedFolder

__all__ = ["NodeFolder", "open_folder"]

logger = logging.getLogger(__name__)

#: Where the folders are, in place of the system's shared memory.
BASE_VARIABLE = "CELERY_ACTORS_SHARED_MEMORY"
_PREFIX = "ca-"

# $0 is the folder. The pipe closes when the supervisor ends; somebody may still write meanwhile.
_SWEEPER = 'read -r _; rm -rf "$0" || rm -rf "$0"'


class NodeFolder:
    """The folder and what guards it: a lock as long as the node lives, a sweeper for its end."""

    def __init__(self, folder: SharedFolder, lock: int, sweeper: subprocess.Popen[bytes]) -> None:
        self.folder = folder
        self._lock = lock
        self._sweeper = sweeper

    def remove(self) -> None:
        """Remove the folder; what processes have mapped stays readable to them."""
        if self._sweeper.stdin is not None:
            self._sweeper.stdin.close()
        self._sweeper.wait()
        os.close(self._lock)


def open_folder(incarnation: str) -> NodeFolder | None:
    """Make the folder of this node run, and remove those of node runs that are dead.

    None: this host lets us make none, so large values go through the store.
    """
    base = _base()
    try:
        _remove_dead(base)
        # Locked before it has the name under which others look for dead ones.
        path = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=base))
        owner = path / OWNER_FILE
        owner.write_text(incarnation)
        (path / SPARE_FOLDER).mkdir(mode=0o700)
        lock = os.open(owner, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path = path.rename(base / f"{_PREFIX}{incarnation}")
    except OSError as error:
        logger.warning(
            "no shared memory below %s (%s): large values go through the store. Name a folder that "
            "this user may write to in %s", base, error, BASE_VARIABLE,
        )  # fmt: skip
        return None
    sweeper = subprocess.Popen(
        ["/bin/sh", "-c", _SWEEPER, str(path)], stdin=subprocess.PIPE, start_new_session=True
    )
    return NodeFolder(SharedFolder(path), lock, sweeper)


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
