"""The fork server: one clean process, without threads and connections, from which workers fork.

It imports Celery and everything a worker needs once; a fork then costs milliseconds and shares the
memory. It dies with its supervisor and its workers die with it (``PR_SET_PDEATHSIG``).
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import gc
import importlib
import json
import os
import pickle
import random
import select
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace

from ..assignment import NodeSettings

__all__ = ["ZygoteLink", "start_zygote"]

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_MESSAGE_BYTES = 256 * 1024
_FDS = 4  # control socket, stdout, stderr, progress page


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends (Linux; elsewhere nothing)."""
    if sys.platform != "linux":  # pragma: no cover - the tests' nodes run on Linux
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # pragma: no cover - it ended in the microseconds before we asked
        os._exit(1)


def set_title(title: str) -> None:
    """Name the process for ``ps -o comm`` and ``top``, at most 15 bytes."""
    if sys.platform == "linux":
        name = title.encode()[:15]
        ctypes.CDLL(None).prctl(_PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0)


class ZygoteLink:
    """The supervisor's end: asks for workers, hears of their deaths."""

    def __init__(self, sock: socket.socket, pid: int) -> None:
        self.sock = sock
        self.pid = pid

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self.sock.fileno()

    def spawn(self, assignment: object, fds: Sequence[int]) -> None:
        """Ask for a worker with these four descriptors."""
        payload = pickle.dumps(assignment)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        self.sock.sendmsg([payload], ancillary)

    def receive(self) -> dict[str, int | str] | None:
        """Return the next word: ``started`` with a pid, or ``ended`` with a status; None: gone."""
        try:
            data = self.sock.recv(4096)
        except ConnectionResetError:  # it died with requests of ours unread
            return None
        return json.loads(data) if data else None


def start_zygote(settings: NodeSettings, modules: Sequence[str]) -> ZygoteLink:
    """Fork the fork server from this process, which must not have threads yet."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _MESSAGE_BYTES)
    parent = os.getpid()
    pid = os.fork()
    if pid:
        theirs.close()
        return ZygoteLink(ours, pid)
    ours.close()
    status = 1
    try:
        die_with_parent(parent)
        _keep_only(theirs)
        status = _Zygote(theirs, settings, modules).serve()
    finally:
        os._exit(status)


def _keep_only(sock: socket.socket) -> None:
    """Close what the supervisor had open: its pipes must end when it does."""
    os.closerange(3, sock.fileno())
    os.closerange(sock.fileno() + 1, 4096)


class _Zygote:
    def __init__(self, sock: socket.socket, settings: NodeSettings, modules: Sequence[str]) -> None:
        self._sock = sock
        self._workers: dict[int, str] = {}
        set_title("ca-zygote")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # It ends when its supervisor does. Blocked, not ignored: a worker that is told to stop
        # while it starts must find the signal waiting.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        from .. import worker  # noqa: F401 - so that every fork has it
        from ..broker.app import make_app
        from ..broker.celery_worker import preload
        from ..serialization import Sealer
        from ..store.wire import remember_library_version

        remember_library_version()

        for name in modules:
            importlib.import_module(name)
        app = make_app(
            settings.address, Sealer(settings.ring), result_seconds=settings.result_seconds
        )
        preload(app)
        self._settings = replace(settings, app=app)
        gc.collect()
        gc.freeze()  # keeps the collector from touching, and so copying, the shared pages

    def serve(self) -> int:
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(wake_read, select.POLLIN)
        while True:
            for fd, _event in poll.poll():
                if fd == wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 512)
                    self._reap()
                elif not self._spawn():
                    return 0

    def _reap(self) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            worker_id = self._workers.pop(pid, None)
            if worker_id is not None:
                code = os.waitstatus_to_exitcode(status)
                self._say(ended=worker_id, status=code)

    def _say(self, **words: int | str) -> None:
        self._sock.send(json.dumps(words).encode())

    def _spawn(self) -> bool:
        data, ancillary, _flags, _address = self._sock.recvmsg(
            _MESSAGE_BYTES, socket.CMSG_SPACE(_FDS * array.array("i").itemsize)
        )
        if not data:
            return False
        fds = array.array("i")
        for _level, _kind, payload in ancillary:
            fds.frombytes(payload)
        assignment = pickle.loads(data)  # noqa: S301 - from our own supervisor, over a socketpair
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become_worker(assignment, parent, list(fds))
        for fd in fds:
            os.close(fd)
        self._workers[pid] = assignment.worker_id
        self._say(started=assignment.worker_id, pid=pid)
        return True

    def _become_worker(self, assignment: object, parent: int, fds: list[int]) -> None:
        status = 1
        try:
            die_with_parent(parent)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._sock.close()
            control, out, err, progress = fds
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.close(out)
            os.close(err)
            for fd in (control, progress):
                os.set_inheritable(fd, False)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - lives with the process
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - lives with the process
            sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr  # type: ignore[misc] # a new process
            random.seed()
            gc.enable()
            from ..worker import run_worker

            set_title(assignment.label)  # type: ignore[attr-defined] # an Assignment
            link = socket.socket(fileno=control)
            status = run_worker(self._settings, assignment, link, progress)  # type: ignore[arg-type] # as above
        except SystemExit as exit_request:
            status = exit_request.code if isinstance(exit_request.code, int) else 1
        except BaseException:  # noqa: BLE001 # pragma: no cover - the last frame: report, then end
            sys.excepthook(*sys.exc_info())
        finally:
            _leave(status)


def _leave(status: int) -> None:
    """End a forked process: its own exit handlers and output, nothing of its parent's."""
    import atexit

    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()  # noqa: SLF001 - os._exit, which a fork must use, runs none
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)
