from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from celery_actors.machine import available_cpus, available_memory

GIB = 2**30


class Groups:
    """A tree of control groups and the place of this process in it."""

    def __init__(self, folder: Path) -> None:
        self.mount = folder / "mount"
        self.membership = folder / "cgroup"

    def join(self, *lines: str) -> None:
        self.membership.write_text("".join(f"{line}\n" for line in lines))

    def write(self, name: str, text: str) -> None:
        file = self.mount / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def cpus(self, processors: int = 16) -> int:
        return available_cpus(processors, membership=self.membership, mount=self.mount)

    def memory(self, physical: int = 64 * GIB) -> int:
        return available_memory(physical, membership=self.membership, mount=self.mount)


@pytest.fixture
def groups(tmp_path: Path) -> Groups:
    return Groups(tmp_path)


def test_without_control_groups_the_machine_is_the_limit(groups: Groups) -> None:
    assert groups.cpus(16) == 16
    assert groups.memory(64 * GIB) == 64 * GIB


def test_a_group_without_limits_changes_nothing(groups: Groups) -> None:
    groups.join("0::/user.slice")
    groups.write("user.slice/cpu.max", "max 100000")
    groups.write("user.slice/memory.max", "max")
    assert groups.cpus(16) == 16
    assert groups.memory(64 * GIB) == 64 * GIB


def test_a_quota_limits_the_processors(groups: Groups) -> None:
    groups.join("0::/job")
    groups.write("job/cpu.max", "400000 100000")
    assert groups.cpus(16) == 4


def test_the_affinity_mask_counts_where_it_is_smaller_than_the_quota(groups: Groups) -> None:
    groups.join("0::/job")
    groups.write("job/cpu.max", "400000 100000")
    assert groups.cpus(2) == 2


@pytest.mark.parametrize(
    ("quota", "cpus"), [("350000 100000", 3), ("199999 100000", 1), ("50000 100000", 1)]
)
def test_a_part_of_a_processor_is_left_out_but_one_remains(
    groups: Groups, quota: str, cpus: int
) -> None:
    groups.join("0::/job")
    groups.write("job/cpu.max", quota)
    assert groups.cpus(16) == cpus


def test_the_smallest_limit_on_the_way_up_counts(groups: Groups) -> None:
    groups.join("0::/kubepods/pod/container")
    groups.write("kubepods/pod/container/cpu.max", "800000 100000")
    groups.write("kubepods/pod/cpu.max", "100000 50000")
    groups.write("kubepods/cpu.max", "max 100000")
    groups.write("kubepods/pod/container/memory.max", "max")
    groups.write("kubepods/memory.max", str(8 * GIB))
    groups.write("memory.max", str(16 * GIB))
    assert groups.cpus(16) == 2
    assert groups.memory() == 8 * GIB


def test_the_limits_of_a_neighbour_do_not_count(groups: Groups) -> None:
    groups.join("0::/pod/mine")
    groups.write("pod/other/cpu.max", "100000 100000")
    groups.write("pod/other/memory.max", str(GIB))
    assert groups.cpus(16) == 16
    assert groups.memory(64 * GIB) == 64 * GIB


@pytest.mark.parametrize("path", ["/", "/docker/0123", "/../../system.slice"])
def test_in_a_container_the_root_is_its_own_group(groups: Groups, path: str) -> None:
    groups.join(f"0::{path}")
    groups.write("cpu.max", "300000 100000")
    groups.write("memory.max", str(2 * GIB))
    groups.write("../cpu.max", "100000 100000")
    assert groups.cpus(16) == 3
    assert groups.memory() == 2 * GIB


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_version_1_limits_processors_by_two_files(groups: Groups, folder: str) -> None:
    groups.join("4:memory:/", "3:cpu,cpuacct:/docker/0123", "1:name=systemd:/")
    groups.write(f"{folder}/docker/0123/cpu.cfs_quota_us", "250000")
    groups.write(f"{folder}/docker/0123/cpu.cfs_period_us", "50000")
    groups.write(f"{folder}/cpu.cfs_quota_us", "-1")
    groups.write(f"{folder}/cpu.cfs_period_us", "100000")
    assert groups.cpus(16) == 5


def test_version_1_limits_memory_by_one_file(groups: Groups) -> None:
    groups.join("4:memory:/docker/0123", "3:cpu,cpuacct:/")
    groups.write("memory/docker/0123/memory.limit_in_bytes", str(4 * GIB))
    groups.write("memory/memory.limit_in_bytes", "9223372036854771712")
    assert groups.memory() == 4 * GIB


def test_the_huge_number_of_version_1_means_no_limit(groups: Groups) -> None:
    groups.join("4:memory:/")
    groups.write("memory/memory.limit_in_bytes", "9223372036854771712")
    assert groups.memory(64 * GIB) == 64 * GIB


def test_both_versions_count_where_both_are_mounted(groups: Groups) -> None:
    groups.join("4:memory:/job", "1:cpu:/", "0::/job")
    groups.write("unified/job/cpu.max", "200000 100000")
    groups.write("memory/job/memory.limit_in_bytes", str(4 * GIB))
    assert groups.cpus(16) == 2
    assert groups.memory() == 4 * GIB


def test_a_path_may_contain_colons(groups: Groups) -> None:
    groups.join("0::/system.slice:docker:0123")
    groups.write("system.slice:docker:0123/cpu.max", "200000 100000")
    assert groups.cpus(16) == 2


def test_this_machine_has_processors_and_memory() -> None:
    assert 1 <= available_cpus() <= (os.cpu_count() or 1)
    assert 0 < available_memory() <= psutil.virtual_memory().total
