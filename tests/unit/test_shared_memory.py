"""Files of shared memory: written, mapped, freed, and written again when nobody maps them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from celery_actors import shared_memory
from celery_actors.node.shared_folder import BASE_VARIABLE, open_folder
from celery_actors.shared_memory import NoSpaceError, SharedFolder, host_id

MEGABYTE = 1024 * 1024


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(BASE_VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def folder(base: Path) -> Iterator[SharedFolder]:
    with open_folder("test-1") as found:
        assert found is not None
        yield found
        found.let_go()


def filled(value: int, size: int = 2 * MEGABYTE) -> memoryview:
    return memoryview(bytes([value]) * size)


def write(folder: SharedFolder, name: str, data: memoryview) -> None:
    with folder.new(name, len(data)) as file:
        file.write(0, data)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not read


def inode(folder: SharedFolder, name: str) -> int:
    return (folder.path / name).stat().st_ino


# -- buffers ---------------------------------------------------------------------------------


def test_a_buffer_is_mapped_read_only(folder: SharedFolder) -> None:
    write(folder, "a", filled(7))
    mapped = folder.map("a", 2 * MEGABYTE)
    assert mapped.readonly
    assert mapped == filled(7)
    assert not np.frombuffer(mapped, dtype=np.uint8).flags.writeable


def test_a_file_can_be_entered_by_its_user_alone(folder: SharedFolder) -> None:
    write(folder, "a", filled(7))
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert (folder.path / "a").stat().st_mode & 0o777 == 0o600


def test_two_mappings_share_their_pages(folder: SharedFolder) -> None:
    write(folder, "a", filled(7))
    before = folder.map("a", 2 * MEGABYTE)
    with (folder.path / "a").open("r+b") as file:
        file.write(b"\x09")
    assert before[0] == folder.map("a", 2 * MEGABYTE)[0] == 9


def test_a_mapping_outlives_its_file_and_keeps_no_descriptor(folder: SharedFolder) -> None:
    write(folder, "a", filled(7, 1000))
    descriptors = open_files()
    array = np.frombuffer(folder.map("a", 1000), dtype=np.uint8)
    folder.free("a")
    assert open_files() == descriptors
    assert not folder.has("a")
    assert array.sum() == 7000


def test_a_mapping_ends_with_the_last_array_on_it(folder: SharedFolder) -> None:
    write(folder, "a", filled(7))
    part = np.frombuffer(folder.map("a", 2 * MEGABYTE), dtype=np.uint8)[5:10]
    assert str(folder.path / "a") in Path("/proc/self/maps").read_text()
    assert part.sum() == 35
    del part
    assert str(folder.path / "a") not in Path("/proc/self/maps").read_text()


def test_many_mappings_do_not_use_up_the_descriptors(folder: SharedFolder) -> None:
    write(folder, "a", filled(7, 4096))
    mappings = [folder.map("a", 4096) for _ in range(2000)]
    assert all(mapping[0] == 7 for mapping in mappings)


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", ".hidden", "", "node", "spare", "a/b"])
def test_a_name_that_leads_elsewhere_is_refused(folder: SharedFolder, name: str) -> None:
    with pytest.raises(FileNotFoundError):
        folder.map(name, 6)
    folder.free(name)
    assert not folder.has(name)
    assert (folder.path / "node").read_text() == "test-1"


def test_what_is_no_buffer_of_this_size_is_not_mapped(folder: SharedFolder) -> None:
    write(folder, "a", filled(7, 100))
    (folder.path / "link").symlink_to(folder.path / "a")
    (folder.path / "open").write_bytes(b"x" * 100)
    (folder.path / "open").chmod(0o644)
    for name, size in (("a", 99), ("a", 101), ("a", 0), ("gone", 100), ("open", 100)):
        with pytest.raises(FileNotFoundError):
            folder.map(name, size)
    with pytest.raises(OSError, match="symbolic"):
        folder.map("link", 100)


def test_an_error_while_writing_leaves_no_file(folder: SharedFolder) -> None:
    with pytest.raises(KeyboardInterrupt), folder.new("a", 100):
        raise KeyboardInterrupt
    assert folder.names() == []


def test_a_buffer_without_room_is_refused_before_it_is_written(
    folder: SharedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = os.statvfs(folder.path)
    with pytest.raises(NoSpaceError) as caught:
        folder.new("a", room.f_blocks * room.f_frsize + 1)
    assert caught.value.free <= room.f_blocks * room.f_frsize
    assert folder.names() == []


def test_a_write_that_finds_no_room_leaves_no_file(folder: SharedFolder) -> None:
    import resource
    import signal

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEGABYTE, hard))
    try:
        with pytest.raises(NoSpaceError):
            write(folder, "a", filled(7))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert folder.names() == []


# -- reuse -----------------------------------------------------------------------------------


def test_the_pages_of_a_freed_buffer_are_written_again(folder: SharedFolder) -> None:
    write(folder, "a", filled(7))
    pages = inode(folder, "a")
    folder.free("a")
    write(folder, "b", filled(8))
    assert inode(folder, "b") == pages
    assert folder.map("b", 2 * MEGABYTE) == filled(8)


@pytest.mark.parametrize("size", [int(1.5 * MEGABYTE), int(2.5 * MEGABYTE)])
def test_a_freed_buffer_of_about_the_size_serves_too(folder: SharedFolder, size: int) -> None:
    write(folder, "a", filled(7))
    pages = inode(folder, "a")
    folder.free("a")
    write(folder, "b", filled(8, size))
    assert inode(folder, "b") == pages
    assert folder.map("b", size) == filled(8, size)


def test_a_buffer_in_parts_of_several_copies_is_written_into_the_pages_of_another(
    folder: SharedFolder,
) -> None:
    size = 9 * MEGABYTE + 11
    data = memoryview(bytes(range(251)) * (size // 251 + 1))[:size]
    write(folder, "a", filled(7, size))
    folder.free("a")
    with folder.new("b", size) as file:
        for start, end in ((0, 100), (100, 5 * MEGABYTE), (5 * MEGABYTE, size)):
            file.write(start, data[start:end])
        assert file.map() == data
    assert folder.map("b", size) == data
    folder.free("b")
    pages = [path.stat().st_ino for path in (folder.path / "spare").iterdir()]
    write(folder, "c", filled(8, size))  # nothing is left mapped by the writer
    assert [inode(folder, "c")] == pages


def test_the_pages_of_a_buffer_that_is_mapped_are_not_written(folder: SharedFolder) -> None:
    write(folder, "a", filled(7))
    pages = inode(folder, "a")
    mapped = folder.map("a", 2 * MEGABYTE)
    folder.free("a")
    write(folder, "b", filled(8))
    assert inode(folder, "b") != pages
    assert mapped == filled(7)


def test_a_buffer_that_another_process_maps_is_not_written(folder: SharedFolder) -> None:
    write(folder, "a", filled(7))
    ready, said = os.pipe()
    waits, ends = os.pipe()
    pid = os.fork()
    if pid == 0:
        mapped = folder.map("a", 2 * MEGABYTE)
        os.write(said, b"r")
        os.close(ends)
        os.read(waits, 1)
        os._exit(0 if mapped == filled(7) else 1)
    os.close(waits)
    assert os.read(ready, 1) == b"r"
    folder.free("a")
    write(folder, "b", filled(8))
    os.close(ends)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(ready)
    os.close(said)


def test_a_process_keeps_what_it_wrote_open_for_its_next_buffers(folder: SharedFolder) -> None:
    for _ in range(3):
        write(folder, "a", filled(7))
        descriptors = open_files()
        mapped = folder.map("a", 2 * MEGABYTE)
        folder.free("a")
        write(folder, "b", filled(8))
        assert open_files() <= descriptors + 1  # one file more, and none for the mapping
        assert mapped == filled(7)
        del mapped
        folder.free("b")
    assert len(list((folder.path / "spare").iterdir())) == 2


def test_what_a_process_keeps_open_is_bounded_and_let_go(folder: SharedFolder) -> None:
    before = open_files()
    for number in range(2 * shared_memory.KEPT_FILES):
        write(folder, f"a{number}", filled(number))
    assert open_files() == before + shared_memory.KEPT_FILES
    folder.let_go(after=3600)
    assert open_files() == before + shared_memory.KEPT_FILES
    folder.let_go()
    assert open_files() == before
    assert folder.map("a0", 2 * MEGABYTE) == filled(0)


def test_a_large_file_is_not_kept_open(
    folder: SharedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "SPARE_BYTES", 7 * MEGABYTE)
    before = open_files()
    write(folder, "a", filled(7))
    assert open_files() == before


def test_a_file_that_another_process_keeps_stays_for_that_one(
    folder: SharedFolder, base: Path
) -> None:
    write(folder, "a", filled(7))
    pages = inode(folder, "a")
    other = SharedFolder(folder.path)  # as another process sees it
    other.free("a")
    write(other, "b", filled(8))
    assert inode(folder, "b") != pages
    write(folder, "c", filled(9))
    assert inode(folder, "c") == pages


def test_small_buffers_are_not_kept_for_reuse(folder: SharedFolder) -> None:
    write(folder, "a", filled(7, 1000))
    folder.free("a")
    assert not list((folder.path / "spare").iterdir())


def test_what_is_kept_for_reuse_is_bounded(
    folder: SharedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "SPARE_BYTES", 5 * MEGABYTE)
    for number in range(4):
        write(folder, f"a{number}", filled(7))
    for number in range(4):
        folder.free(f"a{number}")
    assert len(list((folder.path / "spare").iterdir())) == 2


def test_what_nobody_uses_again_is_removed_in_time(folder: SharedFolder) -> None:
    write(folder, "a", filled(7))
    folder.free("a")
    folder.trim(seconds=3600)
    assert len(list((folder.path / "spare").iterdir())) == 1
    folder.trim(seconds=0)
    assert not list((folder.path / "spare").iterdir())


def test_nothing_is_used_again_where_the_kernel_cannot_tell_who_maps_it(
    folder: SharedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "is_open_elsewhere", lambda _fd: False)  # it claims so
    write(folder, "a", filled(7))
    folder.free("a")
    assert not list((folder.path / "spare").iterdir())


def test_freeing_twice_does_nothing(folder: SharedFolder) -> None:
    write(folder, "a", filled(7))
    folder.free("a")
    folder.free("a")
    assert folder.names() == []


def test_buffers_are_listed_by_age(folder: SharedFolder) -> None:
    write(folder, "a", filled(7, 10))
    assert folder.names() == ["a"]
    assert folder.names(older_than=3600) == []


# -- the folder of a node --------------------------------------------------------------------


def test_a_folder_is_found_by_its_path_and_incarnation(folder: SharedFolder) -> None:
    found = SharedFolder.find(str(folder.path), "test-1")
    assert found is not None
    assert found.path == folder.path
    assert SharedFolder.find(str(folder.path), "test-2") is None
    assert SharedFolder.find(str(folder.path.parent / "other"), "test-1") is None


def test_a_folder_that_others_may_enter_is_not_taken(folder: SharedFolder) -> None:
    folder.path.chmod(0o755)
    assert SharedFolder.find(str(folder.path), "test-1") is None


def test_a_folder_behind_a_link_is_not_taken(folder: SharedFolder, base: Path) -> None:
    (base / "link").symlink_to(folder.path)
    assert SharedFolder.find(str(base / "link"), "test-1") is None


def test_a_folder_goes_with_its_node(base: Path) -> None:
    with open_folder("test-1") as folder:
        assert folder is not None
        write(folder, "a", filled(7))
        mapped = folder.map("a", 2 * MEGABYTE)
    assert not list(base.iterdir())
    assert mapped == filled(7)
    with pytest.raises(FileNotFoundError):
        folder.new("b", 2 * MEGABYTE)
    with pytest.raises(FileNotFoundError):
        folder.new("b", 10)


def test_a_starting_node_removes_the_folders_of_dead_nodes_alone(
    folder: SharedFolder, base: Path
) -> None:
    dead = base / "ca-dead-1"
    dead.mkdir(mode=0o700)
    (dead / "node").write_text("dead-1")
    foreign = base / "something"
    foreign.mkdir()
    with open_folder("test-2") as other:
        assert other is not None
    assert sorted(base.iterdir()) == sorted([folder.path, foreign])


def test_a_node_without_a_place_for_its_folder_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(BASE_VARIABLE, str(tmp_path / "missing"))
    with open_folder("test-1") as folder:
        assert folder is None
    assert BASE_VARIABLE in caplog.text


def test_the_host_is_told_by_its_boot_or_by_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(shared_memory.HOST_VARIABLE, raising=False)
    assert host_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    monkeypatch.setenv(shared_memory.HOST_VARIABLE, "here")
    assert host_id() == "here"
