from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from celery_actors.need import ACCELERATOR, UNIT, Need, described, plain_number
from tests.unit.needs import ONE, needs, placed_needs

#: One change of each condition on the place, and of the environment.
PLACES: list[dict[str, Any]] = [
    {"selector": (("zone", "a"),)},
    {"selector": (("zone", "!a"),)},
    {"node": "host-1"},
    {"otherwise": "gone"},
    {"otherwise": "full"},
    {"gpu_ids": (0,)},
    {"gpu_ids": (0, 1)},
    {"bundle": "group"},
    {"bundle": "group.1"},
    {"captures": True},
    {"env": "0123456789abcdef"},
]

# -- amounts ---------------------------------------------------------------------------------


def test_a_need_has_no_zeros_and_one_order() -> None:
    need = Need.of(cpus=1, gpus=0, custom={"z": 1, "a": 2, "none": 0})
    assert need.amounts == (("CPU", UNIT), ("a", 2 * UNIT), ("z", UNIT))
    assert need == Need.of(cpus=1, custom={"a": 2, "z": 1})


def test_amounts_are_counted_in_ten_thousandths() -> None:
    need = Need.of(cpus=0.1, gpus=0.25, memory=2**30, custom={"ssd": 0.0001})
    assert need.amounts == (("CPU", 1_000), ("GPU", 2_500), ("memory", 2**30 * UNIT), ("ssd", 1))
    assert need.plain == {"CPU": 0.1, "GPU": 0.25, "memory": 2**30, "ssd": 0.0001}
    assert (need.cpus, need.gpus, need.amount("ssd"), need.amount("tpu")) == (1_000, 2_500, 1, 0)


def test_a_device_type_is_a_resource_that_never_runs_out() -> None:
    need = Need.of(gpus=1, accelerator="H100", custom={})
    assert need.accelerator == "H100"
    assert dict(need.amounts) == {"GPU": UNIT, f"{ACCELERATOR}H100": 10}
    assert Need.of(gpus=1, custom={}).accelerator == ""


def test_a_device_type_that_is_named_twice_is_counted_once() -> None:
    # Counted twice, it would be taken twice from a ledger that was asked once.
    named = {f"{ACCELERATOR}H100": 0.5}
    need = Need.of(accelerator="H100", custom=named)
    assert need == Need.of(custom=named)
    assert Need.of(accelerator="H100", custom={f"{ACCELERATOR}H100": 0}).accelerator == "H100"


# -- labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "label"),
    [
        (Need(), "none"),
        (ONE, "cpu1"),
        (Need.of(cpus=0.5, gpus=2, custom={}), "cpu0.5-gpu2"),
        (Need.of(cpus=1, gpus=1, accelerator="H100", custom={}), "cpu1-gpu1-is.H100"),
        (Need.of(custom={"ssd": 1}), "ssd1"),
        (replace(ONE, env="0123456789abcdef"), "cpu1-env-0123456789abcdef"),
    ],
)
def test_labels_are_short_and_readable(need: Need, label: str) -> None:
    assert need.label == label


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ({"selector": (("zone", "a"),)}, "cpu1-where-"),
        ({"node": "host-1-0a1b"}, "cpu1-on-host-1-0a1b-"),
        ({"node": "host-1-0a1b", "gpu_ids": (1, 3)}, "cpu1-on-host-1-0a1b-devices1.3-"),
        ({"bundle": "group.2"}, "cpu1-group-group.2-"),
        ({"node": "höst/1"}, "cpu1-on-h_st_1-"),
    ],
)
def test_a_label_says_where_its_work_must_run(place: dict[str, Any], said: str) -> None:
    label = replace(ONE, **place).label
    assert label.startswith(said)
    assert len(label) == len(said) + 16


@given(placed_needs())
def test_a_label_fits_into_a_queue_name(need: Need) -> None:
    assert need.label.isascii()
    assert need.label.replace("-", "").replace(".", "").replace("_", "").isalnum()


@given(needs(), needs())
@example(Need.of(cpus=1, custom={}), Need.of(custom={"cpu": 1}))
@example(Need.of(custom={"ssd": 1}), Need.of(custom={"SSD": 1}))
@example(Need.of(custom={"a": 12}), Need.of(custom={"a1": 2}))
@example(Need.of(custom={"a": 1, "b": 1}), Need.of(custom={"a1-b": 1}))
@example(Need.of(cpus=123.4566, custom={}), Need.of(cpus=123.4567, custom={}))
@example(Need.of(accelerator="A", custom={}), Need.of(custom={f"{ACCELERATOR}A": 1}))
@example(Need.of(accelerator="A", custom={}), Need.of(custom={"is.A": 1}))
def test_different_amounts_have_different_labels(need: Need, other: Need) -> None:
    # Two needs with one label would share a queue, and a node would hold back the wrong amounts.
    assert (need.label == other.label) is (need == other)


@given(placed_needs(), placed_needs())
@example(replace(ONE, node="a-b"), replace(ONE, node="a_b"))
@example(replace(ONE, node="a/b"), replace(ONE, node="a_b"))
@example(replace(ONE, bundle="g"), replace(ONE, bundle="g", captures=True))
@example(replace(ONE, node="a", otherwise="gone"), replace(ONE, node="a", otherwise="full"))
@example(replace(ONE, node="a", gpu_ids=(1, 2)), replace(ONE, node="a", gpu_ids=(12,)))
@example(replace(ONE, otherwise="full"), ONE)
@example(replace(ONE, captures=True), ONE)
def test_different_needs_have_different_labels(need: Need, other: Need) -> None:
    assert (need.label == other.label) is (need == other)


@given(placed_needs(), st.sampled_from(PLACES))
def test_every_condition_counts_in_the_label(need: Need, place: dict[str, Any]) -> None:
    other = replace(need, **place)
    assert (need.label == other.label) is (need == other)


# -- the store -------------------------------------------------------------------------------


@given(placed_needs())
def test_a_need_survives_the_store(need: Need) -> None:
    found = Need.decode(need.encode())
    assert found == need
    assert found.label == need.label
    assert hash(found) == hash(need)
    assert Need.decode(need.encode().encode()) == need


def test_a_need_of_more_than_any_machine_has_survives_the_store() -> None:
    need = Need.of(cpus=1e17, memory=2**70, custom={})
    assert Need.decode(need.encode()) == need


# -- places ----------------------------------------------------------------------------------


def test_what_was_meant_for_one_node_keeps_all_but_the_node() -> None:
    need = replace(ONE, node="host-1", otherwise="full", selector=(("zone", "a"),), env="e")
    assert need.anywhere == replace(ONE, selector=(("zone", "a"),), env="e")
    assert ONE.anywhere == ONE


@pytest.mark.parametrize(
    ("bundle", "group"), [("", ("", -1)), ("g", ("g", -1)), ("g.0", ("g", 0)), ("g.12", ("g", 12))]
)
def test_a_bundle_names_its_group_and_its_index(bundle: str, group: tuple[str, int]) -> None:
    assert replace(ONE, bundle=bundle).group == group


@pytest.mark.parametrize(
    ("place", "welcome"),
    [
        ({}, True),
        ({"node": "host-1"}, True),
        ({"node": "host-2"}, False),
        ({"selector": (("zone", "a"),)}, True),
        ({"selector": (("zone", "b"),)}, False),
        ({"node": "host-1", "selector": (("zone", "b"),)}, False),
    ],
)
def test_a_node_is_welcome_by_its_name_and_its_labels(place: dict[str, Any], welcome: bool) -> None:
    assert replace(ONE, **place).welcomes("host-1", {"zone": "a"}) is welcome


# -- for people ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("need", "text"),
    [
        (Need(), "no resource"),
        (ONE, "1 CPU"),
        (Need.of(cpus=0.5, gpus=2, custom={}), "2 GPUs, 0.5 CPU"),
        (Need.of(gpus=1, memory=4 * 2**30, custom={"ssd": 1}), "1 GPU, 4 GiB of memory, 1 of ssd"),
        (Need.of(accelerator="H100", custom={}), "a device of type H100"),
        (Need.of(memory=1.5 * 2**30, custom={}), "1.5 GiB of memory"),
        (Need.of(memory=2**40, custom={}), "1024 GiB of memory"),
        (Need.of(memory=2**20, custom={}), "1 MiB of memory"),
    ],
)
def test_amounts_are_described_for_people(need: Need, text: str) -> None:
    assert described(need.amounts) == text


@given(st.integers(0, 10**18))
def test_a_plain_number_is_exact(units: int) -> None:
    whole, _, part = plain_number(units).partition(".")
    assert int(whole) * UNIT + int(part.ljust(4, "0")) == units
