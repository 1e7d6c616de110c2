"""Large values: shared on one host, streamed between hosts, gone with their last holder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import celery_actors as ca
from celery_actors.shared_memory import NoSpaceError, SharedFolder
from tests.integration.actors import double, echo
from tests.integration.large import MEGABYTE, Keeper, buffers, folders, mapped_inode
from tests.integration.support import Cluster, wait_empty, wait_until

Buffers = Callable[[], list[str]]
LARGE = [
    np.arange(MEGABYTE, dtype=np.int64), b"bytes" * MEGABYTE, bytearray(b"x") * MEGABYTE,
    "text ✓" * 100_000, list(range(100_000)), {"words": ["word"] * 100_000},
    {"arrays": [np.ones(50_000), (np.zeros(30_000), 1)]}, [b"a" * MEGABYTE] * 2,
]  # fmt: skip


def same(found: Any, value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return np.array_equal(found, value)
    if isinstance(value, dict):
        return found.keys() == value.keys() and all(same(found[key], value[key]) for key in value)
    if isinstance(value, (list, tuple)) and any(isinstance(v, (np.ndarray, tuple)) for v in value):
        return all(map(same, found, value))
    return bool(found == value)


# -- one host --------------------------------------------------------------------------------


@pytest.fixture
def new_buffers(cluster: Cluster) -> Callable[[], list[str]]:
    """What the cluster holds beside messages since the test began."""
    before = {*buffers(cluster.address)}
    return lambda: sorted({*buffers(cluster.address)} - before)


@pytest.mark.parametrize("value", LARGE, ids=[
    "array", "bytes", "bytearray", "text", "numbers", "words", "nested arrays", "bytes in a list",
])  # fmt: skip
def test_a_large_value_comes_back_as_it_went(new_buffers: Buffers, value: Any):
    there_and_back = ca.get(echo.remote(value), timeout=30)[0]
    put_and_got = ca.get(ca.put(value), timeout=30)

    for found in (there_and_back, put_and_got):
        assert type(found) is type(value)
        assert same(found, value)
    assert not [name for name in new_buffers() if name.startswith("ca:blob")]


def test_arrays_are_read_only_wherever_they_come_out(cluster: Cluster):
    array = np.ones(MEGABYTE)
    keeper = Keeper.remote()
    ref = ca.put({"nested": [array]})

    assert not ca.get(ref)["nested"][0].flags.writeable
    assert not ca.get(echo.remote(array), timeout=30)[0].flags.writeable
    assert ca.get(keeper.keep.remote(array), timeout=30)[0] is False
    assert array.flags.writeable


def test_processes_of_one_host_share_the_memory_of_an_array(cluster: Cluster):
    keepers = [Keeper.remote() for _ in range(2)]
    ref = ca.put(np.ones(MEGABYTE))
    mine = mapped_inode(ca.get(ref))

    found = ca.get([keeper.keep.remote(ref) for keeper in keepers], timeout=30)

    assert mine
    assert found == [(False, mine)] * 2


def test_a_large_value_is_gone_with_its_last_reference(new_buffers: Buffers):
    ref = ca.put(np.ones(MEGABYTE))
    result = double.remote(np.ones(MEGABYTE))
    kept = ca.get(result, timeout=30)
    assert len(new_buffers()) >= 2

    del ref, result

    wait_empty(new_buffers, "no buffer is left")
    assert kept.sum() == 2 * MEGABYTE


def test_an_argument_is_gone_after_its_call_and_readable_where_it_is_kept(
    new_buffers: Buffers,
):
    keeper = Keeper.remote()
    writeable, inode = ca.get(keeper.keep.remote(np.ones(MEGABYTE)), timeout=30)
    assert not writeable
    assert inode

    wait_empty(new_buffers, "the argument's buffer is gone")
    for number in range(5):  # what is written next must not go where the actor looks
        assert ca.get(ca.put(np.full(MEGABYTE, number)), timeout=30)[0] == number
    assert ca.get(keeper.total.remote(), timeout=30) == MEGABYTE


def test_an_argument_of_a_constructor_is_gone_with_the_actor(new_buffers: Buffers):
    keeper = Keeper.remote(np.ones(MEGABYTE))
    assert ca.get(keeper.total.remote(), timeout=30) == MEGABYTE

    ca.kill(keeper)

    wait_empty(new_buffers, "the constructor's buffer is gone")


def test_a_large_exception_arrives_and_leaves_nothing(new_buffers: Buffers):
    @ca.remote
    def fail() -> None:
        raise ValueError(np.ones(MEGABYTE))

    ref = fail.remote()
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - its argument is looked at
        ca.get(ref, timeout=30)
    assert caught.value.cause.args[0].sum() == MEGABYTE

    del ref, caught
    wait_empty(new_buffers, "the exception's buffer is gone")


def test_an_argument_that_cannot_be_pickled_leaves_nothing_of_those_before_it(new_buffers: Buffers):
    with pytest.raises(ca.SerializationError):
        echo.remote(np.ones(MEGABYTE), iter([1]).__next__, (number for number in [1]))

    assert not new_buffers()


def test_what_is_kept_for_reuse_goes_back_in_time(cluster: Cluster):
    ca.get(ca.put(np.ones(MEGABYTE)))
    [folder] = folders(cluster.address)

    wait_until(lambda: list((folder / "spare").iterdir()), "a freed file is kept")
    wait_until(lambda: not list((folder / "spare").iterdir()), "it is removed", 20)


def test_a_value_goes_through_the_store_where_shared_memory_is_full(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
):
    def full(_folder: SharedFolder, _size: int) -> None:
        raise NoSpaceError(0)

    monkeypatch.setattr(SharedFolder, "_check_room", full)
    monkeypatch.setattr(SharedFolder, "_reused", lambda *_: None)
    ref = ca.put(np.ones(MEGABYTE))
    key = f"ca:blob:{ref.id}*"
    with cluster.client() as client:
        assert list(client.scan_iter(key))
    assert ca.get(double.remote(ref), timeout=30).sum() == 2 * MEGABYTE
    assert not ca.get(ref).flags.writeable

    del ref  # it was passed on, so it stays until it expires; what was not passed on goes
    owned = ca.put(np.ones(MEGABYTE))
    key = f"ca:blob:{owned.id}*"
    with cluster.client() as client:
        assert list(client.scan_iter(key))
        del owned
        wait_until(lambda: not list(client.scan_iter(key)), "the chunks are gone")
