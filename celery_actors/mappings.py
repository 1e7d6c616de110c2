"""What the kernel does for shared memory: mappings, and who else has a file open."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import signal
import weakref
from typing import Any

__all__ = ["is_open_elsewhere", "mapped"]


def is_open_elsewhere(fd: int) -> bool:
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


def mapped(fd: int, size: int, *, writable: bool) -> memoryview:
    """Map a file: to be read as far as it is used, or to be written as a whole.

    Not by the module ``mmap``: before Python 3.13 it keeps a descriptor per mapping, and a process
    may have 1,024 of them.
    """
    libc = _libc()
    # Asked for one by one, pages cost more than what is written to them.
    mode, flags = mmap.PROT_READ, mmap.MAP_SHARED
    if writable:
        mode, flags = mode | mmap.PROT_WRITE, flags | getattr(mmap, "MAP_POPULATE", 0)
    address = libc.mmap(None, size, mode, flags, fd, 0)
    if address == ctypes.c_void_p(-1).value:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)}: mapping {size} bytes of shared memory")
    whole = (ctypes.c_ubyte * size).from_address(address)
    # Not at exit: what still uses the pages then would crash.
    weakref.finalize(whole, libc.munmap, address, size).atexit = False
    content = memoryview(whole).cast("B")
    return content if writable else content.toreadonly()
