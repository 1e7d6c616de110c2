"""A local cluster's folder, store and node: what is found, refused, cleaned and told."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_actors import embedded
from celery_actors.config import Address
from celery_actors.errors import ClusterUnreachableError, ConfigurationError


@pytest.fixture
def base(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of local clusters of a user who has none."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    return embedded.base_folder()


@pytest.fixture
def ended() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen(["/bin/true"])
    process.wait()
    return process.pid


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A socket that is not bound yet."""
    with socket.socket(socket.AF_UNIX) as found:
        yield found


def cluster_folder(base: Path, name: str) -> Path:
    folder = base / name
    folder.mkdir()
    described = {"address": f"redis+socket://{folder}/store.sock", "pid": 1, "node_id": "here"}
    (folder / "cluster.json").write_text(json.dumps(described))
    return folder


def test_the_folder_of_clusters_is_private_to_its_user(base: Path) -> None:
    assert base.stat().st_mode & 0o777 == 0o700
    assert embedded.base_folder() == base


def test_a_folder_that_others_may_enter_is_refused(base: Path) -> None:
    base.chmod(0o755)

    with pytest.raises(ConfigurationError, match=r"mode 0700.*signing keys"):
        embedded.base_folder()


def test_without_a_running_cluster_auto_says_how_to_start_one(base: Path) -> None:
    cluster_folder(base, "1-stale")

    with pytest.raises(ClusterUnreachableError, match=r"celery_actors\.init\(\)"):
        embedded.newest_address()


def test_the_newest_cluster_that_answers_is_found(base: Path, listener: socket.socket) -> None:
    running, stale = cluster_folder(base, "1-running"), cluster_folder(base, "1-stale")
    os.utime(running / "cluster.json", (1, 1))
    listener.bind(str(running / "store.sock"))
    listener.listen()

    assert embedded.newest_address().url == f"unix://{running}/store.sock"
    assert stale.exists()


def test_all_clusters_that_answer_are_found_the_newest_first(base: Path) -> None:
    with contextlib.ExitStack() as stack:
        for name, when in (("1-old", 1), ("1-new", 2)):
            folder = cluster_folder(base, name)
            os.utime(folder / "cluster.json", (when, when))
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(folder / "store.sock"))
            listener.listen()

        found = [address.socket_path for address in embedded.local_addresses()]

    assert found == [base / "1-new" / "store.sock", base / "1-old" / "store.sock"]


def test_a_local_clusters_folder_is_told_from_that_of_another_server(base: Path) -> None:
    local = Address.parse(f"unix://{base}/1-mine/store.sock")

    assert embedded.folder_of(local) == base / "1-mine"
    assert embedded.folder_of(Address.parse("unix:///run/redis/redis.sock")) is None
    assert embedded.folder_of(Address.parse("redis://localhost:6379/0")) is None


def test_a_start_removes_folders_of_killed_clusters_and_no_others(
    base: Path, ended: int, listener: socket.socket
) -> None:
    dead = cluster_folder(base, f"{ended}-dead")
    outlived = cluster_folder(base, f"{ended}-outlived")  # its store still answers
    listener.bind(str(outlived / "store.sock"))
    listener.listen()
    others = [cluster_folder(base, name) for name in (f"{os.getpid()}-mine", "1-init", "no-number")]

    with pytest.raises(ClusterUnreachableError):
        embedded.start_local(["--num-cpus", "none"], storage=None)

    assert not dead.exists()
    assert all(folder.exists() for folder in [outlived, *others])


def test_a_node_that_does_not_start_is_told_with_its_log_and_leaves_nothing(base: Path) -> None:
    with pytest.raises(ClusterUnreachableError, match=r"local node did not start(.|\n)*--num-cpus"):
        embedded.start_local(["--num-cpus", "none"], storage=None)

    assert list(base.iterdir()) == []


def test_a_store_that_does_not_start_is_told_at_once_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / ("long" * 25)  # the name of a Unix socket has room for 107 bytes
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    began = time.monotonic()

    with pytest.raises(ClusterUnreachableError, match=r"Valkey server did not start(.|\n)*socket"):
        embedded.start_local([], storage=None)

    assert time.monotonic() - began < embedded.START_SECONDS / 2
    assert list(embedded.base_folder().iterdir()) == []


def test_a_store_that_cannot_read_its_storage_says_so(base: Path, tmp_path: Path) -> None:
    records = tmp_path / "storage" / "appendonlydir"
    records.mkdir(parents=True)
    (records / "appendonly.aof.manifest").write_text("this is no manifest")

    # It answers for a moment, so it may be the node that misses it.
    with pytest.raises(ClusterUnreachableError, match=r"did not start(.|\n)*AOF MANIFEST"):
        embedded.start_local([], storage=tmp_path / "storage")

    assert list(base.iterdir()) == []


def test_storage_that_cannot_be_written_is_refused_by_name(base: Path, tmp_path: Path) -> None:
    occupied = tmp_path / "occupied"
    occupied.touch()

    with pytest.raises(ConfigurationError, match=r"storage='.*occupied/below' cannot be used"):
        embedded.start_local([], storage=occupied / "below")

    assert list(base.iterdir()) == []


def test_storage_keeps_its_key(tmp_path: Path) -> None:
    first = embedded._persistent_key(tmp_path / "storage")

    assert embedded._persistent_key(tmp_path / "storage") == first
    assert (tmp_path / "storage" / "key").stat().st_mode & 0o777 == 0o600
