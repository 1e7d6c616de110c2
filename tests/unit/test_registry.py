from __future__ import annotations

import json
from typing import Any

from celery_actors import registry, routing
from celery_actors.need import UNIT, Need
from celery_actors.placement import Ledger
from celery_actors.store import Store
from tests.unit.needs import grant, of_gpus
from tests.unit.views import announce, end_lease, node


def test_a_node_is_seen_as_it_describes_itself(store: Store) -> None:
    view = node("n1", cpus=4, gpus=3, memory=2**30, custom={"ssd": 2}, kinds=["A", "B", ""],
                labels={"zone": "a"})  # fmt: skip
    grant(view.free, of_gpus(0.25, "B"))
    grant(view.free, Need.of(cpus=1, gpus=1, custom={"ssd": 0.5}))
    announce(store, view)
    (seen,) = registry.views(store)
    assert seen == view
    assert seen.free.gpus == {0: 0, 1: 7_500, 2: UNIT}
    assert seen.free.fits(of_gpus(0.75, "B"))
    assert not seen.free.fits(of_gpus(1, "B"))


def test_a_node_without_devices_is_seen_as_such(store: Store) -> None:
    view = node("n1", cpus=0.5)
    announce(store, view)
    assert registry.views(store) == [view]


def test_a_decision_about_a_view_is_no_decision_of_the_node(store: Store) -> None:
    announce(store, node("n1"))
    (seen,) = registry.views(store)
    grant(seen.free, Need.of(cpus=4, custom={}))
    assert registry.views(store) == [node("n1")]


def test_a_node_that_owes_processors_says_that_none_is_free() -> None:
    # Of one that waits, others have had the CPUs; both run for a moment.
    ledger = Ledger.of(cpus=1, gpus=0, custom={})
    about = json.loads(registry.describe(ledger, {"CPU": -UNIT}, {}, (), host="h"))
    assert about["free"] == {"CPU": 0}
    assert about["total"] == {"CPU": UNIT}


def test_a_node_says_who_has_its_devices_and_what_else_is_known() -> None:
    holder: dict[str, Any] = {"worker": "w", "pid": 7, "gpu_ids": [0], "units": 5_000}
    ledger = Ledger.of(cpus=1, gpus=1, custom={}, kinds=["A"])
    about = json.loads(registry.describe(ledger, ledger.free, {"zone": "a"}, [holder], pid=3))
    assert about["holders"] == [holder]
    assert (about["pid"], about["labels"], about["kinds"]) == (3, {"zone": "a"}, ["A"])


def test_a_node_that_has_fallen_silent_is_known_and_not_among_the_living(store: Store) -> None:
    views = [node("n1"), node("n2")]
    announce(store, *views)
    end_lease(store, views[0])
    listed = {record.node_id: record.alive for record in registry.records(store)}
    assert listed == {"n1": False, "n2": True}
    assert registry.views(store) == [views[1]]


def test_an_empty_cluster_has_no_nodes(store: Store) -> None:
    assert registry.records(store) == []
    assert store.scripts.nodes(routing.NODES, routing.lease_key("")) == []


def test_a_lease_without_a_description_is_no_node(store: Store) -> None:
    store.run("SET", routing.lease_key("n1"), "1")
    assert registry.records(store) == []


def test_every_node_carries_rays_labels() -> None:
    assert registry.default_labels("n1", []) == {"ray.io/node-id": "n1"}
    assert registry.default_labels("n1", ["", "H100", "A100", "H100"]) == {
        "ray.io/node-id": "n1",
        "ray.io/accelerator-type": "A100",
    }


def test_marks_of_a_node_are_not_shown_as_amounts() -> None:
    amounts = {"CPU": 1, "node:10.0.0.1": 1, "accelerator_type:H100": 1, "ssd": 1}
    assert registry.shown(amounts) == {"CPU": 1, "ssd": 1}
