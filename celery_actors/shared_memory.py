"""Files of large buffers in memory that the processes of one host share.

A node run owns a folder that only its user can enter, with one file per buffer. A reader maps the
file read-only, so arrays share its pages and keep them after the file is unlinked. The pages of a
freed file are used again where the kernel says that nobody maps them: 100 MB cost 33 ms to write
into fresh pages, 20 ms into pages that are there, 12 ms if the writer has kept them mapped.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import secrets
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from .mappings import is_open_elsewhere, mapped

__all__ = ["NewFile", "NoSpaceError", "SharedFolder", "copy_name", "host_id"]

HOST_VARIABLE = "CELERY_ACTORS_HOST_ID"
#: Holds the incarnation of the folder's node run, which keeps a lock on it for as long as it lives.
OWNER_FILE = "node"
#: Freed files that may be written again.
SPARE_FOLDER = "spare"
#: Smaller files are made as quickly as they are found again.
SPARE_FROM_BYTES = 1024 * 1024
#: What is kept for reuse at most, and for how long.
SPARE_BYTES = 512 * 1024 * 1024
SPARE_FILES = 32
SPARE_SECONDS = 5.0
#: Files that a process keeps mapped after it has written them: as spares they cost it least.
KEPT_FILES = 4

#: What is copied at once: other threads get the interpreter between two copies.
_COPY_BYTES = 4 * 1024 * 1024

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]*", re.ASCII)
_OPEN = getattr(os, "O_NOFOLLOW", 0)


class NoSpaceError(Exception):
    """Raised when a folder has no room; ``free`` is what was left, in bytes."""

    def __init__(self, free: int) -> None:
        super().__init__(free)
        self.free = free


def host_id() -> str:
    """Return what tells this host from others: one boot of one kernel."""
    given = os.environ.get(HOST_VARIABLE)
    if given:
        return given
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{uuid.getnode():x}"


def copy_name(node: str, name: str) -> str:
    """Return the name of the copy of another host's buffer."""
    return f"{node}~{name}"


class SharedFolder:
    """The folder of one node run, as any process of its user on its host sees it. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._spare = path / SPARE_FOLDER
        self._kept: dict[int, NewFile] = {}  # by inode, oldest first
        self._lock = threading.Lock()

    @classmethod
    def find(cls, path: str, incarnation: str) -> SharedFolder | None:
        """Return the folder of a node run, if it is on this host and this user's own.

        The path alone proves nothing: other containers have their own folder of shared memory.
        """
        folder = Path(path)
        try:
            found = folder.lstat()
            private = stat.S_ISDIR(found.st_mode) and not stat.S_IMODE(found.st_mode) & 0o077
            if not private or found.st_uid != os.geteuid():
                return None
            if (folder / OWNER_FILE).read_text() != incarnation:
                return None
        except OSError:
            return None
        return cls(folder)

    def new(self, name: str, size: int) -> NewFile:
        """Return a new file of this size, to be filled.

        Raises:
            NoSpaceError: there is no room. FileNotFoundError: the folder is gone with its node.
        """
        path = self._file(name)
        reused = self._reused(path, size) if size >= SPARE_FROM_BYTES else None
        if reused is not None:
            return reused
        # Shared memory is handed out page by page: say no before the first, not at the last.
        self._check_room(size)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o600)
        return NewFile(path, fd, size, self._keep)

    def _check_room(self, size: int) -> None:
        room = os.statvfs(self.path)
        free = room.f_bavail * room.f_frsize
        if size > free:
            raise NoSpaceError(free)

    def map(self, name: str, size: int) -> memoryview:
        """Return a file's content, read-only and not copied; it outlives the file's name.

        Raises:
            FileNotFoundError: no such file, or not one of this user's with this size.
        """
        fd = os.open(self._file(name), os.O_RDONLY | _OPEN)
        try:
            found = os.fstat(fd)
            ours = found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077
            if not ours or found.st_size != size or size == 0:
                raise FileNotFoundError(errno.ENOENT, "not a buffer of this user and size", name)
            return mapped(fd, size, writable=False)
        finally:
            os.close(fd)

    def has(self, name: str) -> bool:
        """Tell whether a file is there."""
        try:
            return self._file(name).exists()
        except FileNotFoundError:
            return False

    def rename(self, name: str, wanted: str) -> None:
        """Give a file another name, in place of one that has it."""
        with contextlib.suppress(FileNotFoundError):
            self._file(name).rename(self._file(wanted))

    def free(self, name: str) -> None:
        """Give a file up. What is mapped stays readable; a second call does nothing."""
        with contextlib.suppress(FileNotFoundError):
            path = self._file(name)
            found = path.stat()
            if found.st_size >= SPARE_FROM_BYTES and self._has_spare_room(found.st_size):
                path.rename(self._spare / f"{found.st_size}-{found.st_ino}")
            else:
                path.unlink()

    def names(self, older_than: float = 0.0) -> list[str]:
        """Return the names of the buffers that were written so many seconds ago."""
        limit = time.time() - older_than
        return [
            entry.name
            for entry in os.scandir(self.path)
            if _NAME.fullmatch(entry.name)
            and entry.name not in (OWNER_FILE, SPARE_FOLDER)
            and _changed(entry) <= limit
        ]

    def renew(self, name: str) -> None:
        """Keep a buffer from expiring: it is held."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._file(name))

    def trim(self, seconds: float = SPARE_SECONDS) -> None:
        """Remove what was kept for reuse and has not been used for so many seconds."""
        limit = time.time() - seconds
        for entry in os.scandir(self._spare):
            if _changed(entry) <= limit:
                _unlink(Path(entry.path))

    def _file(self, name: str) -> Path:
        if not _NAME.fullmatch(name) or name in (OWNER_FILE, SPARE_FOLDER):
            raise FileNotFoundError(errno.ENOENT, "not the name of a buffer", name)
        return self.path / name

    # -- reuse -----------------------------------------------------------------------------

    def _spares(self) -> list[tuple[int, int]]:
        """Return size and inode of each freed file: that is its name."""
        names = [entry.name.partition("-") for entry in os.scandir(self._spare)]
        return [(int(size), int(inode)) for size, _, inode in names]

    def _has_spare_room(self, size: int) -> bool:
        spares = self._spares()
        held = sum(spare for spare, _ in spares) + size
        return held <= SPARE_BYTES and len(spares) < SPARE_FILES and self._can_reuse

    def _reused(self, path: Path, size: int) -> NewFile | None:
        """Take over a freed file of about this size that nobody maps any more."""
        near = [spare for spare in self._spares() if size <= 2 * spare[0] <= 3 * size]
        near.sort(key=lambda spare: (spare[1] not in self._kept, abs(spare[0] - size)))
        for there, inode in near:
            spare = self._spare / f"{there}-{inode}"
            try:
                spare.rename(path)  # one process gets it
            except FileNotFoundError:
                continue
            with self._lock:
                kept = self._kept.pop(inode, None)
            file = kept or NewFile(path, os.open(path, os.O_RDWR | _OPEN), there, self._keep)
            # By its old name it was found no more and by its new one nobody knows it yet, so
            # it stays free once it is.
            if file.is_shared:
                path.rename(spare)  # perhaps another process keeps it, for its own next buffer
                if kept is None:
                    file.close()
                else:
                    self._kept[inode] = kept
                continue
            with file.undone_by_errors():
                self._check_room(max(0, size - there))
                file.resize(path, size)
            return file
        return None

    def _keep(self, file: NewFile) -> None:
        """Keep a file that was written open for a while: it may come back as a spare."""
        most = SPARE_BYTES // KEPT_FILES
        if not SPARE_FROM_BYTES <= file.size <= most or not self._can_reuse:
            file.close()
            return
        with self._lock:
            self._kept[file.inode] = file
        self.let_go(after=SPARE_SECONDS)

    def let_go(self, after: float = 0.0) -> None:
        """Close what this process has kept for so many seconds, and what is too much."""
        if not self._kept:
            return
        limit = time.monotonic() - after
        with self._lock:
            kept = list(self._kept.items())
            old = [inode for inode, file in kept if file.finished <= limit]
            for inode in {*old, *(inode for inode, _ in kept[:-KEPT_FILES])}:
                self._kept.pop(inode).close()

    @functools.cached_property
    def _can_reuse(self) -> bool:
        """Whether the kernel tells rightly if somebody maps a file: tried once, with one."""
        path = self.path / f"probe-{secrets.token_hex(4)}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o600)
        try:
            os.pwrite(fd, b"probe", 0)
            content = self.map(path.name, 5)
            busy = is_open_elsewhere(fd)
            del content
            return busy and not is_open_elsewhere(fd)
        finally:
            os.close(fd)
            _unlink(path)


class NewFile:
    """A file to be filled; a context manager that removes it again when an error leaves it."""

    def __init__(self, path: Path, fd: int, size: int, keep: Callable[[NewFile], None]) -> None:
        self._path = path
        self._fd = fd
        self._keep = keep
        self._pages: memoryview | None = None  # mapped, where every page is there already
        self.size = size
        self.finished = 0.0

    @property
    def inode(self) -> int:
        """What the kernel knows it by, whatever its name."""
        return os.fstat(self._fd).st_ino

    @property
    def is_shared(self) -> bool:
        """True where others may have it open or mapped."""
        return is_open_elsewhere(self._fd)

    def resize(self, path: Path, size: int) -> None:
        """Begin again under another name, with the pages that are there."""
        self._path = path
        os.ftruncate(self._fd, size)
        if size != self.size:
            self._pages = None
        if size <= self.size and self._pages is None:
            self._pages = mapped(self._fd, size, writable=True)
        self.size = size

    def write(self, offset: int, data: memoryview) -> None:
        """Write a part.

        Raises:
            NoSpaceError: the room went to somebody else meanwhile.
        """
        if self._pages is not None:
            for start in range(0, len(data), _COPY_BYTES):
                part = data[start : start + _COPY_BYTES]
                self._pages[offset + start : offset + start + len(part)] = part
            return
        try:
            while data:
                count = os.pwrite(self._fd, data, offset)
                offset, data = offset + count, data[count:]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                room = os.fstatvfs(self._fd)
                raise NoSpaceError(room.f_bavail * room.f_frsize) from None
            raise

    def map(self) -> memoryview:
        """Return the content, read-only; it keeps the file in use."""
        fd = os.open(self._path, os.O_RDONLY | _OPEN)
        try:
            return mapped(fd, self.size, writable=False)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go of the file; its name and what others have mapped stay."""
        self._pages = None
        os.close(self._fd)

    @contextlib.contextmanager
    def undone_by_errors(self) -> Iterator[None]:
        """Remove the file when an error comes out of the block."""
        try:
            yield
        except BaseException:
            self.close()
            _unlink(self._path)
            raise

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finished = time.monotonic()
            self._keep(self)
        else:
            self.close()
            _unlink(self._path)


def _unlink(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _changed(entry: os.DirEntry[str]) -> float:
    """Return when a file was last written or renamed."""
    try:
        return entry.stat(follow_symlinks=False).st_ctime
    except FileNotFoundError:
        return time.time()
