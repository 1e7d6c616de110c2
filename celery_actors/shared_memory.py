"""Files of large buffers in memory that the processes of one host share.

A node run owns a folder that only its user can enter, with one file per buffer. A reader maps the
file read-only, so arrays share its pages and keep them after the file is unlinked. The pages of a
freed file are used again where the kernel says that nobody maps them: a file of 100 MB with fresh
pages costs 33 ms to write, one with pages that are there 20 ms.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import mmap
import os
import re
import secrets
import signal
import stat
import time
import uuid
import weakref
from pathlib import Path
from typing import Any

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
        fd = self._reused(path, size) if size >= SPARE_FROM_BYTES else None
        if fd is None:
            # Shared memory is handed out page by page: say no before the first, not at the last.
            self._check_room(size)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o600)
        return NewFile(path, fd, size)

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
            return _mapped(fd, size)
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
            size = path.stat().st_size
            if size >= SPARE_FROM_BYTES and self._has_spare_room(size):
                path.rename(self._spare / f"{size}-{secrets.token_hex(4)}")
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

    def _spares(self) -> list[tuple[int, str]]:
        return [
            (int(entry.name.partition("-")[0]), entry.name) for entry in os.scandir(self._spare)
        ]

    def _has_spare_room(self, size: int) -> bool:
        spares = self._spares()
        held = sum(kept for kept, _ in spares) + size
        return held <= SPARE_BYTES and len(spares) < SPARE_FILES and self._can_reuse

    def _reused(self, path: Path, size: int) -> int | None:
        """Take over a freed file of about this size that nobody maps any more."""
        near = [spare for spare in self._spares() if size <= 2 * spare[0] <= 3 * size]
        for kept, spare in sorted(near, key=lambda spare: abs(spare[0] - size)):
            try:
                (self._spare / spare).rename(path)  # one process gets it
                fd = os.open(path, os.O_RDWR | _OPEN)
            except FileNotFoundError:
                continue
            try:
                # By its old name it was found no more and by its new one nobody knows it yet, so
                # it stays free once it is.
                if not _is_open_elsewhere(fd):
                    self._check_room(max(0, size - kept))
                    os.ftruncate(fd, size)
                    return fd
            except BaseException:
                _discard(path, fd)
                raise
            _discard(path, fd)
        return None

    @functools.cached_property
    def _can_reuse(self) -> bool:
        """Whether the kernel tells rightly if somebody maps a file: tried once, with one."""
        path = self.path / f"probe-{secrets.token_hex(4)}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, 0o600)
        try:
            os.pwrite(fd, b"probe", 0)
            mapped = self.map(path.name, 5)
            busy = _is_open_elsewhere(fd)
            del mapped
            return busy and not _is_open_elsewhere(fd)
        finally:
            _discard(path, fd)


class NewFile:
    """A file to be filled; a context manager that removes it again when an error leaves it."""

    def __init__(self, path: Path, fd: int, size: int) -> None:
        self._path = path
        self._fd = fd
        self._size = size

    def write(self, offset: int, data: memoryview) -> None:
        """Write a part.

        Raises:
            NoSpaceError: the room went to somebody else meanwhile.
        """
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
        """Return the content, read-only."""
        return _mapped(self._fd, self._size)

    def __enter__(self) -> NewFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            os.close(self._fd)
        else:
            _discard(self._path, self._fd)


def _discard(path: Path, fd: int) -> None:
    os.close(fd)
    _unlink(path)


def _unlink(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def _changed(entry: os.DirEntry[str]) -> float:
    """Return when a file was last written or renamed."""
    try:
        return entry.stat(follow_symlinks=False).st_ctime
    except FileNotFoundError:
        return time.time()


def _is_open_elsewhere(fd: int) -> bool:
    """Tell whether any other open file or mapping of this file exists, or nobody can say.

    The kernel gives a write lease to the only one who has a file open, and a mapping keeps its
    file open.
    """
    try:
        import fcntl  # not on Windows, which has no nodes but imports this

        # Were the lease broken, a signal would come that ends the process by default; this one
        # is ignored by default.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except (ImportError, AttributeError, OSError):
        return True
    return False


@functools.cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                          ctypes.c_int, ctypes.c_long]  # fmt: skip
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc


def _mapped(fd: int, size: int) -> memoryview:
    """Map a file read-only.

    Not by the module ``mmap``: before Python 3.13 it keeps a descriptor per mapping, and a process
    may have 1,024 of them.
    """
    libc = _libc()
    address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if address == ctypes.c_void_p(-1).value:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)}: mapping {size} bytes of shared memory")
    whole = (ctypes.c_ubyte * size).from_address(address)
    # Not at exit: what still uses the pages then would crash.
    weakref.finalize(whole, libc.munmap, address, size).atexit = False
    return memoryview(whole).cast("B").toreadonly()
