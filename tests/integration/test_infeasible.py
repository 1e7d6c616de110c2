"""What no node could ever hold."""

from __future__ import annotations

from typing import Any

import pytest

import celery_actors as ca
from tests.integration.devices import Holder, told
from tests.integration.support import Cluster


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"num_gpus": 5},
            (
                r"needs 5 GPUs on one node; the largest node has 4: start `celery_actors worker "
                r"--num-gpus 5` there.* has 4 GPUs, 4 CPUs.*wait_for_resources=True"
            ),
        ),
        ({"num_cpus": 64}, r"needs 64 CPUs .*the largest node has 4: .*--num-cpus 64`"),
        ({"resources": {"ssd": 1}}, r"needs 1 of ssd .*has 0: .*--resources '\{\"ssd\": 1\}'`"),
        ({"memory": 2**60}, r"GiB of memory on one node; the largest node has .* GiB: .*--memory"),
        (
            {"accelerator_type": "H200"},
            "needs a device of type H200 on one node, and there is",
        ),
        ({"label_selector": {"zone": "b"}}, r"no node has them: .*worker --labels zone=b`"),
    ],
)
def test_what_no_node_could_ever_hold_is_refused_before_anything_is_sent(
    with_gpus: Cluster, options: dict[str, Any], said: str
):
    with with_gpus.client() as client:
        before = {key for key in client.scan_iter("ca:*") if b":tok:" not in key}
        for remote in (Holder.options(**options), told.options(**options)):
            with pytest.raises(ca.InsufficientResourcesError, match=said):
                remote.remote()
        after = {key for key in client.scan_iter("ca:*") if b":tok:" not in key}
    codes = {key for key in after - before if key.startswith(b"ca:code:")}
    assert after - before == codes, "nothing but code was stored"
