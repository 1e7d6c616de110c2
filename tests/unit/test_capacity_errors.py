"""What a caller is told of work that no node could ever hold."""

from __future__ import annotations

from typing import Any

import pytest

from celery_actors.capacity import Capacity
from celery_actors.errors import InsufficientResourcesError
from celery_actors.need import Need
from celery_actors.options import FunctionOptions, function_options
from celery_actors.store import Store
from tests.unit.placing import hard, place, refusal, soft
from tests.unit.views import announce, node


def test_the_text_says_what_is_asked_what_there_is_and_how_to_add_it(store: Store) -> None:
    text = refusal(store, node("a", cpus=8, gpus=1), node("b", cpus=2), num_gpus=2)
    assert text == (
        "f() needs 2 GPUs on one node; the largest node has 1: start `celery_actors worker "
        "--num-gpus 2` there. It asks for 2 GPUs, 1 CPU. In total a has 1 GPU, 8 CPUs; b has 2 "
        "CPUs. To wait for such a node instead, give wait_for_resources=True"
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"num_cpus": 16},
            (
                "needs 16 CPUs on one node; the largest node has 4: start `celery_actors worker "
                "--num-cpus 16` there"
            ),
        ),
        (
            {"num_gpus": 0.5, "accelerator_type": "H100", "resources": {"tpu": 1}},
            "needs a device of type H100 on one node, and there is none: start a node that has one",
        ),
        (
            {"resources": {"ssd": 12345678.5}},
            (
                "needs 12345678.5 of ssd on one node; the largest node has 1: start `celery_actors "
                "worker --resources '{\"ssd\": 12345678.5}'` there"
            ),
        ),
        (
            {"memory": 2**40},
            (
                "needs 1024 GiB of memory on one node; the largest node has 1 GiB: start "
                "`celery_actors worker --memory 1099511627776` there"
            ),
        ),
        (
            {"num_cpus": 4, "num_gpus": 1},
            "needs 1 GPU, 4 CPUs together on one node, and no node has all of it",
        ),
        (
            {"scheduling_strategy": hard("b"), "num_gpus": 2},
            "needs 2 GPUs on the node b; it has 1: start `celery_actors worker --num-gpus 2` there",
        ),
        (
            {"scheduling_strategy": hard("b"), "gpu_ids": [7]},
            "needs the devices [7] of the node b, which has no such devices",
        ),
        (
            {"scheduling_strategy": soft("a"), "num_gpus": 2},
            "needs 2 GPUs on one node; the largest node has 1: start",
        ),
        (
            {"scheduling_strategy": soft("gone"), "num_gpus": 2},
            "needs 2 GPUs on one node; the largest node has 1: start",
        ),
        ({"scheduling_strategy": "SPREAD", "num_gpus": 2}, "needs 2 GPUs on one node;"),
        (
            {"label_selector": {"disk": "in(fast,slow)", "zone": "!x"}},
            (
                "needs a node with the labels disk=in(fast,slow),zone=!x, and no node has them: "
                "start `celery_actors worker --labels disk=fast`"
            ),
        ),
        (
            {"label_selector": {"zone": "!in(x,y)"}},
            "needs a node with the labels zone=!in(x,y), and no node has them: start one that has",
        ),
        (
            {"label_selector": {"zone": "x"}, "num_gpus": 1},
            (
                "needs 1 GPU on one node; the largest node has 0: start `celery_actors worker "
                "--num-gpus 1` there"
            ),
        ),
        (
            {"label_selector": {"zone": "x"}, "scheduling_strategy": hard("b")},
            "needs the labels zone=x on the node b, and that does not have them",
        ),
        ({"num_gpus": 0.25, "label_selector": {"zone": "x"}}, "--num-gpus 1"),
    ],
)
def test_each_lack_is_named_with_its_cure(store: Store, given: dict[str, Any], text: str) -> None:
    nodes = [
        node("a", custom={"ssd": 1}, memory=2**30, labels={"zone": "x"}),
        node("b", cpus=2, gpus=1, custom={"tpu": 1}, kinds=["A100"], labels={"zone": "y"}),
    ]
    assert text in refusal(store, *nodes, **given)


def test_work_that_needs_nothing_needs_a_cpu(store: Store) -> None:
    assert "needs a node with a CPU: start" in refusal(store, node("a", cpus=0), num_cpus=0)


def test_a_large_cluster_is_not_listed_to_its_end(store: Store) -> None:
    text = refusal(store, *(node(f"n{number:02}") for number in range(13)), num_gpus=1)
    assert text.count("has 4 CPUs") == 10
    assert "; and 3 more nodes. To wait" in text


def test_work_that_is_to_wait_for_resources_waits(store: Store) -> None:
    need = place(store, node("a"), num_gpus=2, wait_for_resources=True)
    assert need == Need.of(cpus=1, gpus=2, custom={})
    spread = place(store, num_gpus=2, wait_for_resources=True, scheduling_strategy="SPREAD")
    assert spread == need


def test_the_error_names_what_was_to_run(store: Store) -> None:
    announce(store, node("a"))
    options = function_options(FunctionOptions(), {"num_gpus": 1})
    with pytest.raises(InsufficientResourcesError, match=r"^an actor Net needs 1 GPU on one node"):
        Capacity(store).place(options, options.need, "an actor Net")
