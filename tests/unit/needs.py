"""Needs for tests: by name, and at random, with and without a place to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from celery_actors.labels import selector_of
from celery_actors.need import UNIT, Need
from celery_actors.placement import Allocation, Ledger

ONE = Need.of(cpus=1, custom={})
GPU = Need.of(gpus=1, custom={})

NAMES = st.sampled_from(["ssd", "a", "a1", "b", "b-c", "tpu.v4", "Ssd", "größe", "on", "x", "env"])
AMOUNTS = st.one_of(
    st.integers(0, 12), st.floats(0, 12).map(lambda amount: round(amount, 4)), st.integers(1, 10**9)
)


def grant(ledger: Ledger, need: Need) -> Allocation:
    allocation = ledger.acquire(need)
    assert allocation is not None
    return allocation


def of_gpus(amount: float, accelerator: str = "", gpu_ids: Sequence[int] = ()) -> Need:
    need = Need.of(gpus=amount, accelerator=accelerator, custom={})
    return replace(need, gpu_ids=tuple(gpu_ids))


def gpu_amounts(most: int) -> st.SearchStrategy[float]:
    """Return shares of one device and whole ones."""
    shares = st.integers(1, UNIT - 1).map(lambda units: units / UNIT)
    return st.one_of(st.just(0), shares, st.integers(1, most))


@st.composite
def needs(draw: st.DrawFn) -> Need:
    """Return amounts that may be met anywhere."""
    custom = draw(st.dictionaries(NAMES, AMOUNTS, max_size=3))
    return Need.of(
        cpus=draw(AMOUNTS), gpus=draw(gpu_amounts(8)), memory=draw(st.sampled_from([0, 2**30])),
        accelerator=draw(st.sampled_from(["", "", "A100", "RTX-4090", "H100"])), custom=custom,
    )  # fmt: skip


_SELECTORS = st.dictionaries(
    st.sampled_from(["zone", "disk"]), st.sampled_from(["a", "!a", "in(a,b)", "b"]), max_size=2
)
_NODES = st.sampled_from(["", "host-1", "host-1-2", "höst-1", "host_1"])
_GPU_IDS = st.sets(st.integers(0, 12), max_size=3).map(lambda ids: tuple(sorted(ids)))
_BUNDLES = st.sampled_from(["", "group", "group.0", "group.1", "group.10", "other.0"])
_ENVS = st.sampled_from(["", "0123456789abcdef", "fedcba9876543210"])


@st.composite
def placed_needs(draw: st.DrawFn) -> Need:
    """Return a need with conditions on where it may be met."""
    return replace(
        draw(needs()), env=draw(_ENVS), selector=selector_of(draw(_SELECTORS)),
        node=draw(_NODES), otherwise=draw(st.sampled_from(["wait", "gone", "full"])),
        gpu_ids=draw(_GPU_IDS), bundle=draw(_BUNDLES), captures=draw(st.booleans()),
    )  # fmt: skip
