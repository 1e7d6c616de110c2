from __future__ import annotations

import random

from hypothesis import example, given
from hypothesis import strategies as st

from celery_actors.need import UNIT, Need
from celery_actors.placement import Allocation, Ledger

NAMES = st.sampled_from(["ssd", "a", "a1", "b", "b-c", "tpu.v4", "Ssd", "größe"])
AMOUNTS = st.one_of(
    st.integers(0, 12), st.floats(0, 12).map(lambda amount: round(amount, 4)), st.integers(1, 10**9)
)


def gpu_amounts(most: int) -> st.SearchStrategy[float]:
    shares = st.integers(1, UNIT - 1).map(lambda units: units / UNIT)
    return st.one_of(st.just(0), shares, st.integers(1, most))


@st.composite
def needs(draw: st.DrawFn) -> Need:
    custom = draw(st.dictionaries(NAMES, AMOUNTS, max_size=3))
    return Need.of(cpus=draw(AMOUNTS), gpus=draw(gpu_amounts(8)), custom=custom)


def grant(ledger: Ledger, need: Need) -> Allocation:
    allocation = ledger.acquire(need)
    assert allocation is not None
    return allocation


def test_a_need_has_no_zeros_and_one_order() -> None:
    need = Need.of(cpus=1, gpus=0, custom={"z": 1, "a": 2, "none": 0})
    assert need.amounts == (("CPU", UNIT), ("a", 2 * UNIT), ("z", UNIT))
    assert need == Need.of(cpus=1, custom={"a": 2, "z": 1})


def test_labels_are_short_and_readable() -> None:
    assert Need().label == "none"
    assert Need.of(cpus=1, custom={}).label == "cpu1"
    assert Need.of(cpus=0.5, gpus=2, custom={}).label == "cpu0.5-gpu2"


@given(needs())
def test_a_label_fits_into_a_queue_name(need: Need) -> None:
    assert need.label.isascii()
    assert need.label.replace("-", "").replace(".", "").replace("_", "").isalnum()


@given(needs(), needs())
@example(Need.of(cpus=1, custom={}), Need.of(custom={"cpu": 1}))
@example(Need.of(custom={"ssd": 1}), Need.of(custom={"SSD": 1}))
@example(Need.of(custom={"a": 12}), Need.of(custom={"a1": 2}))
@example(Need.of(custom={"a": 1, "b": 1}), Need.of(custom={"a1-b": 1}))
@example(Need.of(cpus=123.4566, custom={}), Need.of(cpus=123.4567, custom={}))
def test_different_needs_have_different_labels(need: Need, other: Need) -> None:
    # Two needs with one label would share a queue, and a node would hold back the wrong amounts.
    assert (need.label == other.label) is (need == other)


def test_fractions_add_up_exactly() -> None:
    ledger = Ledger.of(cpus=1, gpus=1, custom={})
    tenth = Need.of(cpus=0.1, gpus=0.1, custom={})
    granted = [grant(ledger, tenth) for _ in range(10)]
    assert ledger.free == {"CPU": 0, "GPU": 0}
    assert ledger.acquire(tenth) is None
    for allocation in granted:
        ledger.release(allocation)
    assert ledger == Ledger.of(cpus=1, gpus=1, custom={})


def test_the_fullest_device_that_has_room_comes_first() -> None:
    ledger = Ledger.of(cpus=0, gpus=3, custom={})
    assert grant(ledger, Need.of(gpus=0.5, custom={})).gpu_ids == (0,)
    assert grant(ledger, Need.of(gpus=0.75, custom={})).gpu_ids == (1,)
    assert grant(ledger, Need.of(gpus=0.25, custom={})).gpu_ids == (1,)
    assert grant(ledger, Need.of(gpus=0.5, custom={})).gpu_ids == (0,)
    assert grant(ledger, Need.of(gpus=0.5, custom={})).gpu_ids == (2,)


def test_whole_gpus_are_devices_that_nobody_else_uses() -> None:
    ledger = Ledger.of(cpus=0, gpus=3, custom={})
    grant(ledger, Need.of(gpus=0.1, custom={}))
    assert grant(ledger, Need.of(gpus=2, custom={})).gpu_ids == (1, 2)


def test_shares_on_several_devices_do_not_make_a_whole_one() -> None:
    ledger = Ledger.of(cpus=0, gpus=2, custom={})
    for _ in range(2):
        grant(ledger, Need.of(gpus=0.6, custom={}))
    assert ledger.free["GPU"] == 8_000
    assert ledger.acquire(Need.of(gpus=0.8, custom={})) is None


def test_a_refused_need_takes_nothing() -> None:
    ledger = Ledger.of(cpus=4, gpus=0, custom={"ssd": 1})
    assert ledger.acquire(Need.of(cpus=1, custom={"ssd": 2})) is None
    assert ledger == Ledger.of(cpus=4, gpus=0, custom={"ssd": 1})


def test_an_unknown_resource_never_fits() -> None:
    ledger = Ledger.of(cpus=4, gpus=0, custom={})
    need = Need.of(custom={"ssd": 1})
    assert ledger.acquire(need) is None


def test_what_fits_an_empty_node_does_not_fit_a_full_one_until_it_is_free_again() -> None:
    ledger = Ledger.of(cpus=1, gpus=0, custom={})
    need = Need.of(cpus=1, custom={})
    granted = grant(ledger, need)
    assert ledger.acquire(need) is None
    ledger.release(granted)
    assert ledger.acquire(need) is not None


@given(st.data(), st.integers(0, 4), st.integers(0, 2**32))
def test_a_ledger_is_never_over_committed(data: st.DataObject, gpus: int, seed: int) -> None:
    ledger = Ledger.of(cpus=8, gpus=gpus, custom={"ssd": 4})
    whole = Ledger.of(cpus=8, gpus=gpus, custom={"ssd": 4})
    held: list[Allocation] = []
    order = random.Random(seed)
    for _ in range(data.draw(st.integers(1, 30))):
        give_back = data.draw(st.booleans())
        if held and give_back:
            ledger.release(held.pop(order.randrange(len(held))))
        else:
            cpus, share = data.draw(st.integers(0, 4)), data.draw(gpu_amounts(4))
            custom = {"ssd": data.draw(st.integers(0, 30_000)) / UNIT}
            allocation = ledger.acquire(Need.of(cpus=cpus, gpus=share, custom=custom))
            if allocation is not None:
                held.append(allocation)
        check_books(ledger, held)
    for allocation in held:
        ledger.release(allocation)
    assert ledger == whole


def check_books(ledger: Ledger, held: list[Allocation]) -> None:
    """Count what is held from the allocations alone, and compare with the ledger."""
    used = dict.fromkeys(ledger.total, 0)
    devices = [0] * len(ledger.gpus)
    for allocation in held:
        for name, amount in allocation.need.amounts:
            used[name] += amount
        units = allocation.need.gpus
        assert len(set(allocation.gpu_ids)) == len(allocation.gpu_ids)
        assert len(allocation.gpu_ids) == -(-units // UNIT)
        for device in allocation.gpu_ids:
            devices[device] += min(units, UNIT)
    assert all(0 <= used[name] <= ledger.total[name] for name in used)
    assert all(ledger.free[name] == ledger.total[name] - used[name] for name in used)
    assert all(0 <= units <= UNIT for units in devices)
    assert ledger.gpus == {number: UNIT - units for number, units in enumerate(devices)}
