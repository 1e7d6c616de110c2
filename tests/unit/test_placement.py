from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_actors.need import UNIT, Need
from celery_actors.placement import Allocation, Grant, Ledger, NodeView, shared_out
from tests.unit.needs import GPU, ONE, gpu_amounts, grant, of_gpus
from tests.unit.views import node

# -- amounts ---------------------------------------------------------------------------------


def test_fractions_add_up_exactly() -> None:
    ledger = Ledger.of(cpus=1, gpus=1, custom={})
    tenth = Need.of(cpus=0.1, gpus=0.1, custom={})
    granted = [grant(ledger, tenth) for _ in range(10)]
    assert ledger.free == {"CPU": 0, "GPU": 0}
    assert ledger.acquire(tenth) is None
    for allocation in granted:
        ledger.release(allocation)
    assert ledger == Ledger.of(cpus=1, gpus=1, custom={})


def test_a_refused_need_takes_nothing() -> None:
    ledger = Ledger.of(cpus=4, gpus=1, custom={"ssd": 1})
    assert ledger.acquire(Need.of(cpus=1, custom={"ssd": 2})) is None
    assert ledger.acquire(replace(GPU, gpu_ids=(7,))) is None
    assert ledger == Ledger.of(cpus=4, gpus=1, custom={"ssd": 1})


def test_an_unknown_resource_never_fits() -> None:
    ledger = Ledger.of(cpus=4, gpus=0, custom={})
    need = Need.of(custom={"ssd": 1})
    assert ledger.acquire(need) is None
    assert not ledger.could_hold(need)


def test_what_fits_an_empty_node_does_not_fit_a_full_one_until_it_is_free_again() -> None:
    ledger = Ledger.of(cpus=1, gpus=0, custom={})
    granted = grant(ledger, ONE)
    assert ledger.acquire(ONE) is None
    assert (ledger.fits(ONE), ledger.could_hold(ONE)) == (False, True)
    ledger.release(granted)
    assert ledger.fits(ONE)
    assert ledger.acquire(ONE) is not None


def test_what_is_short_is_named() -> None:
    ledger = Ledger.of(cpus=1, gpus=1, custom={"ssd": 1})
    assert ledger.short(Need.of(cpus=2, gpus=1, custom={"ssd": 1, "tpu": 1})) == {"CPU", "tpu"}
    assert ledger.short(ONE) == set()


def test_one_who_waits_lends_its_cpus_and_takes_them_back_though_others_have_them() -> None:
    ledger = Ledger.of(cpus=1, gpus=1, custom={})
    waiting = grant(ledger, Need.of(cpus=1, gpus=1, custom={}))
    ledger.lend_cpus(waiting)
    assert ledger.free == {"CPU": UNIT, "GPU": 0}
    guest = grant(ledger, ONE)
    ledger.take_cpus(waiting)
    assert ledger.free["CPU"] == -UNIT
    assert not ledger.fits(Need.of(cpus=0.1, custom={}))
    Grant(ledger, guest).release()
    Grant(ledger, waiting).release()
    assert ledger == Ledger.of(cpus=1, gpus=1, custom={})


# -- devices ---------------------------------------------------------------------------------


def test_the_fullest_device_that_has_room_comes_first() -> None:
    ledger = Ledger.of(cpus=0, gpus=3, custom={})
    assert grant(ledger, of_gpus(0.5)).gpu_ids == (0,)
    assert grant(ledger, of_gpus(0.75)).gpu_ids == (1,)
    assert grant(ledger, of_gpus(0.25)).gpu_ids == (1,)
    assert grant(ledger, of_gpus(0.5)).gpu_ids == (0,)
    assert grant(ledger, of_gpus(0.5)).gpu_ids == (2,)


def test_whole_gpus_are_devices_that_nobody_else_uses() -> None:
    ledger = Ledger.of(cpus=0, gpus=3, custom={})
    grant(ledger, of_gpus(0.1))
    assert grant(ledger, of_gpus(2)).gpu_ids == (1, 2)


def test_shares_on_several_devices_do_not_make_a_whole_one() -> None:
    ledger = Ledger.of(cpus=0, gpus=2, custom={})
    for _ in range(2):
        grant(ledger, of_gpus(0.6))
    assert ledger.free["GPU"] == 8_000
    assert not ledger.fits(of_gpus(0.8))
    assert ledger.acquire(of_gpus(0.8)) is None


def test_a_device_type_gives_devices_of_that_type_alone() -> None:
    ledger = Ledger.of(cpus=0, gpus=4, custom={}, kinds=["A", "B", "A", ""])
    assert grant(ledger, of_gpus(1, "B")).gpu_ids == (1,)
    assert ledger.acquire(of_gpus(0.5, "B")) is None
    assert ledger.could_hold(of_gpus(2, "A"))
    assert not ledger.could_hold(of_gpus(3, "A"))
    assert not ledger.could_hold(of_gpus(1, "C"))
    assert grant(ledger, of_gpus(2, "A")).gpu_ids == (0, 2)
    assert grant(ledger, of_gpus(1)).gpu_ids == (3,)


def test_a_device_type_can_be_asked_for_a_thousand_times_without_a_device() -> None:
    ledger = Ledger.of(cpus=0, gpus=1, custom={}, kinds=["A"])
    there = Need.of(accelerator="A", custom={})
    assert [grant(ledger, there).gpu_ids for _ in range(1000)] == [()] * 1000
    assert ledger.acquire(there) is None


def test_pinned_devices_are_granted_or_nothing_is() -> None:
    ledger = Ledger.of(cpus=0, gpus=4, custom={})
    assert grant(ledger, of_gpus(2, gpu_ids=[1, 3])).gpu_ids == (1, 3)
    assert ledger.acquire(of_gpus(2, gpu_ids=[0, 1])) is None
    assert grant(ledger, of_gpus(0.5, gpu_ids=[2])).gpu_ids == (2,)
    assert ledger.acquire(of_gpus(1, gpu_ids=[2])) is None
    assert grant(ledger, of_gpus(0.5, gpu_ids=[2])).gpu_ids == (2,)
    assert ledger.gpus == {0: UNIT, 1: 0, 2: 0, 3: 0}


def test_devices_that_are_not_there_can_never_be_held() -> None:
    ledger = Ledger.of(cpus=0, gpus=2, custom={})
    assert ledger.could_hold(of_gpus(1, gpu_ids=[1]))
    assert not ledger.could_hold(of_gpus(1, gpu_ids=[2]))
    assert not ledger.could_hold(of_gpus(2, gpu_ids=[1, 2]))


# -- books that are never over-committed ------------------------------------------------------


@given(st.data(), st.integers(0, 4), st.integers(0, 2**32))
def test_a_ledger_is_never_over_committed(data: st.DataObject, gpus: int, seed: int) -> None:
    kinds = data.draw(st.lists(st.sampled_from(["A", "B"]), min_size=gpus, max_size=gpus))
    ledger, whole = (Ledger.of(cpus=8, gpus=gpus, custom={"ssd": 4}, kinds=kinds) for _ in range(2))
    held: list[Allocation] = []
    order = random.Random(seed)
    for _ in range(data.draw(st.integers(1, 30))):
        give_back = data.draw(st.booleans())
        if held and give_back:
            ledger.release(held.pop(order.randrange(len(held))))
        else:
            need = data.draw(asked_of_devices())
            fitted = ledger.fits(need)
            allocation = ledger.acquire(need)
            assert (allocation is not None) is fitted
            assert not fitted or ledger.could_hold(need)
            if allocation is not None:
                held.append(allocation)
        check_books(ledger, held)
    for allocation in held:
        ledger.release(allocation)
    assert ledger == whole


@st.composite
def asked_of_devices(draw: st.DrawFn) -> Need:
    """Return a need whose devices may be pinned or of a type."""
    pinned = tuple(sorted(draw(st.sets(st.integers(0, 3), max_size=2))))
    share = float(len(pinned)) if len(pinned) > 1 else draw(gpu_amounts(1 if pinned else 4))
    custom = {"ssd": draw(st.integers(0, 30_000)) / UNIT}
    kind = draw(st.sampled_from(["", "", "A", "B"])) if share else ""
    need = Need.of(cpus=draw(st.integers(0, 4)), gpus=share, accelerator=kind, custom=custom)
    return replace(need, gpu_ids=pinned if share else ())


def check_books(ledger: Ledger, held: list[Allocation]) -> None:
    """Count what is held from the allocations alone, and compare with the ledger."""
    used = dict.fromkeys(ledger.total, 0)
    devices = [0] * len(ledger.gpus)
    for allocation in held:
        need = allocation.need
        for name, amount in need.amounts:
            used[name] += amount
        assert len(set(allocation.gpu_ids)) == len(allocation.gpu_ids)
        assert len(allocation.gpu_ids) == -(-need.gpus // UNIT)
        assert not need.gpu_ids or allocation.gpu_ids == need.gpu_ids
        for device in allocation.gpu_ids:
            devices[device] += min(need.gpus, UNIT)
            assert need.accelerator in ("", ledger.kinds[device])
    assert all(0 <= used[name] <= ledger.total[name] for name in used)
    assert all(ledger.free[name] == ledger.total[name] - used[name] for name in used)
    assert all(0 <= units <= UNIT for units in devices)
    assert ledger.gpus == {number: UNIT - units for number, units in enumerate(devices)}


# -- nodes -----------------------------------------------------------------------------------


def test_a_node_could_hold_what_it_has_in_total_and_welcomes() -> None:
    view = node("n1", cpus=2, gpus=1, labels={"zone": "a"})
    grant(view.free, Need.of(cpus=2, gpus=1, custom={}))
    assert view.could_hold(Need.of(cpus=2, gpus=1, custom={}))
    assert not view.could_hold(Need.of(cpus=3, custom={}))
    assert view.could_hold(replace(ONE, node="n1"))
    assert not view.could_hold(replace(ONE, node="n2"))
    assert view.could_hold(replace(ONE, selector=(("zone", "a"),)))
    assert not view.could_hold(replace(ONE, selector=(("zone", "!a"),)))
    assert view.could_hold(replace(GPU, gpu_ids=(0,)))
    assert not view.could_hold(replace(GPU, gpu_ids=(1,)))


@pytest.mark.parametrize(("cpus", "could"), [(0, False), (0.5, True), (4, True)])
def test_what_needs_nothing_goes_to_a_node_with_a_cpu(cpus: float, could: bool) -> None:
    assert node(cpus=cpus, gpus=1).could_hold(Need()) is could


def turns(views: Sequence[NodeView], need: Need, count: int) -> list[str]:
    found = [shared_out(views, need, turn) for turn in range(count)]
    return [view.node_id for view in found if view is not None]


def test_nodes_take_turns_in_one_order() -> None:
    views = [node("c"), node("a"), node("b")]
    assert turns(views, ONE, 5) == ["a", "b", "c", "a", "b"]


def test_a_node_that_could_never_hold_the_need_has_no_turn() -> None:
    views = [node("a", cpus=1), node("b"), node("c", labels={"zone": "a"})]
    assert turns(views, Need.of(cpus=2, custom={}), 2) == ["b", "c"]
    assert turns(views, replace(ONE, selector=(("zone", "!a"),)), 2) == ["a", "b"]
    assert turns(views, Need.of(cpus=5, custom={}), 2) == []
    assert turns([], ONE, 1) == []


def test_a_full_node_has_its_turn_too_for_it_passes_the_work_on() -> None:
    views = [node("a"), node("b")]
    grant(views[1].free, Need.of(cpus=4, custom={}))
    assert turns(views, ONE, 3) == ["a", "b", "a"]
