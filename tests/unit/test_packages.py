"""Packing, storing and unpacking folders."""

from __future__ import annotations

import io
import os
import stat
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_actors import packages
from celery_actors.config import Address
from celery_actors.errors import ConfigurationError, RuntimeEnvSetupError
from celery_actors.packages import fetch, pack, package_cache, refresh, store_package
from celery_actors.store import Store


@pytest.fixture
def store(valkey_address: str) -> Iterator[Store]:
    store = Store(Address.parse(valkey_address))
    store.run("FLUSHALL")
    yield store
    store.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "code"
    for name in ("a.py", "sub/b.py", "sub/c.log", "build/x.bin", "__pycache__/a.pyc", ".git/HEAD"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def names(data: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(data)).namelist()


def test_a_folder_is_packed_without_what_never_is_of_use(folder: Path) -> None:
    assert names(pack(folder, [], keep_name=False)) == [
        "a.py", "build/x.bin", "sub/b.py", "sub/c.log",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("excludes", "left"),
    [
        (["*.log"], ["a.py", "build/x.bin", "sub/b.py"]),
        (["build/"], ["a.py", "sub/b.py", "sub/c.log"]),
        (["a.py/"], ["a.py", "build/x.bin", "sub/b.py", "sub/c.log"]),
        (["/sub/*.py"], ["a.py", "build/x.bin", "sub/c.log"]),
        (["**/b.py"], ["a.py", "build/x.bin", "sub/c.log"]),
        (["*.py", "!a.py"], ["a.py", "build/x.bin", "sub/c.log"]),
    ],
)
def test_patterns_leave_files_out(folder: Path, excludes: list[str], left: list[str]) -> None:
    assert names(pack(folder, excludes, keep_name=False)) == left


def test_equal_contents_give_equal_bytes(folder: Path) -> None:
    first = pack(folder, [], keep_name=True)
    os.utime(folder / "a.py", (1, 1))
    assert pack(folder, [], keep_name=True) == first
    (folder / "a.py").write_text("other")
    assert pack(folder, [], keep_name=True) != first


def test_a_module_keeps_its_name(folder: Path) -> None:
    assert "code/sub/b.py" in names(pack(folder, [], keep_name=True))
    assert names(pack(folder / "a.py", [], keep_name=True)) == ["a.py"]


def test_a_zip_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "given.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "1")
    assert pack(path, [], keep_name=False) == path.read_bytes()


def test_a_link_that_leads_back_up_is_followed_once(folder: Path) -> None:
    (folder / "sub" / "up").symlink_to(folder)
    assert "sub/b.py" in names(pack(folder, [], keep_name=False))


@pytest.mark.parametrize("name", ["nowhere", "a.py"])
def test_what_cannot_be_a_working_folder_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="not a folder"):
        pack(folder / name, [], keep_name=False)


def test_what_is_too_large_is_refused_with_a_way_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "LIMIT_BYTES", 50)
    (folder / "large").write_bytes(os.urandom(100))
    with pytest.raises(ConfigurationError, match="excludes"):
        pack(folder, [], keep_name=False)


def test_a_package_is_stored_once_and_unpacked_as_it_was(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    (folder / "run.sh").write_text("#!/bin/sh")
    (folder / "run.sh").chmod(0o755)
    data = pack(folder, [], keep_name=False)
    name = store_package(store, data, 60)
    assert store_package(store, data, 120) == name
    assert store.run("DBSIZE") == 1
    (key,) = store.texts("KEYS", "*")
    assert 60 < int(store.run("TTL", key)) <= 120

    unpacked = fetch(store, name, tmp_path)
    assert (unpacked / "sub" / "b.py").read_text() == "sub/b.py"
    assert (unpacked / "run.sh").stat().st_mode & stat.S_IXUSR
    assert not (unpacked / "a.py").stat().st_mode & stat.S_IXUSR
    store.run("FLUSHALL")
    assert fetch(store, name, tmp_path) == unpacked
    assert not refresh(store, name, 60)


def test_many_at_once_unpack_it_once(store: Store, folder: Path, tmp_path: Path) -> None:
    name = store_package(store, pack(folder, [], keep_name=False), 60)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(store, name, tmp_path)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_package_that_is_gone_or_changed_is_not_unpacked(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    name = store_package(store, pack(folder, [], keep_name=False), 60)
    (key,) = store.texts("KEYS", "*")
    store.run("SETRANGE", key, 0, b"XX")
    with pytest.raises(RuntimeEnvSetupError, match="changed in the store"):
        fetch(store, name, tmp_path)
    store.run("UNLINK", key)
    with pytest.raises(RuntimeEnvSetupError, match="not in the store"):
        fetch(store, name, tmp_path)


@pytest.mark.parametrize("name", ["../out.py", "/abs.py", "a/../../out.py", "..\\out.py"])
def test_nothing_is_written_outside_the_folder(store: Store, tmp_path: Path, name: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, "x")
    stored = store_package(store, packed.getvalue(), 60)
    cache = tmp_path / "inner" / "cache"
    cache.mkdir(parents=True)
    with pytest.raises(RuntimeEnvSetupError, match="leads out"):
        fetch(store, stored, cache)
    assert [path.name for path in tmp_path.rglob("*") if path.suffix == ".py"] == []


def test_a_link_in_a_package_is_refused(store: Store, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(RuntimeEnvSetupError, match="leads out"):
        fetch(store, store_package(store, packed.getvalue(), 60), tmp_path)


def test_what_is_no_archive_is_refused(store: Store, tmp_path: Path) -> None:
    data = b"not a zip file"
    with pytest.raises(RuntimeEnvSetupError, match="cannot be unpacked"):
        fetch(store, store_package(store, data, 60), tmp_path)


def test_a_cache_is_private_and_gone_at_the_end_and_the_dead_ones_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = tmp_path / "celery_actors-packages-dead"
    dead.mkdir()
    (dead / "alive").touch()
    with package_cache() as first:
        assert stat.S_IMODE(first.stat().st_mode) == 0o700
        with package_cache() as second:
            assert first.exists()
            assert second != first
            assert not dead.exists()
        assert not second.exists()
    assert list(tmp_path.iterdir()) == []
