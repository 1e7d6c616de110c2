"""What a node's options say, and how they are refused."""

from __future__ import annotations

import os
import socket

import pytest

from celery_actors.cli import node_options
from celery_actors.cli.identity import take_identity
from celery_actors.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (None, 0),
        ("2000000", 2_000_000),
        ("512M", 512 * 2**20),
        ("1.5g", 3 * 2**29),
        ("2GiB", 2 * 2**30),
        ("1024 KB", 2**20),
    ],
)
def test_a_size_is_bytes_or_has_a_unit(text: str | None, size: int) -> None:
    assert node_options.memory_size("--max-memory-per-actor", text) == size


@pytest.mark.parametrize("text", ["", "512", "lots", "-1G", "1P", "0.5M"])
def test_a_size_that_is_none_or_next_to_nothing_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--max-memory-per-actor .*512M or 2G"):
        node_options.memory_size("--max-memory-per-actor", text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (None, "gpu-3.example.org"),
        ("worker1@%h", "worker1.gpu-3.example.org"),
        ("w@%n", "w.gpu-3"),
        ("%d", "example.org"),
        ("plain", "plain"),
    ],
)
def test_a_node_s_name_is_written_as_in_celery(
    text: str | None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu-3.example.org")

    assert node_options.node_name(text) == name


def test_queues_are_those_of_an_app() -> None:
    assert node_options.check_queues(" mail, celery,", "proj") == ["mail", "celery"]
    assert node_options.check_queues("", "") == []
    with pytest.raises(ConfigurationError, match="say which app with -A"):
        node_options.check_queues("celery", "")
    with pytest.raises(ConfigurationError, match=r"ca\.tasks\.cpu1.*served by every node"):
        node_options.check_queues("celery,ca.tasks.cpu1", "proj")


def test_concurrency_is_another_word_for_cpus_and_with_queues_also_for_celery_s() -> None:
    assert node_options.cpus(None, 3, has_queues=False) == 3
    assert node_options.cpus(2.5, None, has_queues=False) == 2.5
    assert node_options.cpus(3, 3, has_queues=False) == 3
    assert node_options.cpus(None, None, has_queues=False) >= 1
    assert node_options.cpus(2, 3, has_queues=True) == 2
    with pytest.raises(ConfigurationError, match="leave one out"):
        node_options.cpus(2, 3, has_queues=False)


def test_a_user_that_is_not_there_is_refused_and_one_s_own_changes_nothing() -> None:
    before = (os.geteuid(), os.getegid())

    take_identity(None, None)
    take_identity(str(before[0]), str(before[1]))

    assert (os.geteuid(), os.getegid()) == before
    with pytest.raises(ConfigurationError, match="nobody-of-this-name"):
        take_identity("nobody-of-this-name", None)
    with pytest.raises(ConfigurationError, match="no-such-group"):
        take_identity(None, "no-such-group")


def test_only_root_becomes_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)

    with pytest.raises(ConfigurationError, match="need root"):
        take_identity("0", None)
