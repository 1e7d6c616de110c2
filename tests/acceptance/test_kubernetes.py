"""`deploy/kubernetes` and the Helm chart without a cluster: schemas, and what they promise."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

import celery_actors as ca
from tests.acceptance.deployment import DEPLOY
from tests.acceptance.keda import SCHEMAS
from tests.integration.actors import Counter, double
from tests.integration.support import ROOT, Server, wait_until

CHART = DEPLOY / "helm" / "celery-actors"
BASE = DEPLOY / "kubernetes" / "base"
KEDA = DEPLOY / "kubernetes" / "keda"
#: The oldest and the newest Kubernetes that these are held to.
VERSIONS = ["1.29", "1.37"]

Object = dict[str, Any]


def tool(name: str) -> str:
    """Return a program of `.ci/kube-tools`; skip on a laptop that lacks it, fail in CI."""
    found = shutil.which(name) or shutil.which(name, path=str(ROOT / ".venv" / "bin"))
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is missing (.ci/kube-tools), and in CI nothing is skipped")
        pytest.skip(f"{name} is not installed (.ci/kube-tools installs it)")
    return found


def objects(text: str) -> dict[tuple[str, str], Object]:
    """Return the objects of a manifest by kind and name, without marks of Helm or kustomize."""
    found = {}
    for each in yaml.safe_load_all(text):
        if not each:
            continue
        each["metadata"].pop("namespace", None)
        for mark in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
            each["metadata"].get("labels", {}).pop(mark, None)
        found[each["kind"], each["metadata"]["name"]] = each
    return found


def written(*paths: Path) -> dict[tuple[str, str], Object]:
    return objects("\n---\n".join(path.read_text() for path in paths))


def template(*words: str) -> dict[tuple[str, str], Object]:
    """Render the chart."""
    command = [tool("helm"), "template", "celery-actors", str(CHART), "-n", "celery-actors"]
    done = subprocess.run([*command, *words], check=True, capture_output=True, text=True)
    return objects(done.stdout)


def pods() -> dict[str, Object]:
    """Return the pod of each thing that runs some."""
    return {
        f"{kind} {name}": each["spec"]["template"]["spec"]
        for (kind, name), each in written(BASE / "cluster.yaml").items()
        if "template" in each.get("spec", {})
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_the_schema_of_kubernetes(version: str):
    for each in written(BASE / "namespace.yaml", BASE / "cluster.yaml").values():
        kubernetes_validate.validate(each, version, strict=True)


def test_what_keda_reads_fits_its_specification():
    scaling = written(KEDA / "scaling.yaml")
    assert {kind for kind, _ in scaling} == set(SCHEMAS)
    for (kind, _), each in scaling.items():
        jsonschema.validate(each, SCHEMAS[kind])
    ((_, scaled), *_) = [item for item in scaling.items() if item[0][0] == "ScaledObject"]
    for wrong in ({"triggers": []}, {"minReplicas": 1}, {"cooldownPeriod": "600"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(scaled | {"spec": scaled["spec"] | wrong}, SCHEMAS["ScaledObject"])


def test_a_store_with_a_prefix_is_scaled_by_its_own_keys():
    words = ("--set", "autoscaling.enabled=true", "--set", "autoscaling.keyPrefix=shop:")
    scaled = template(*words)["ScaledObject", "celery-actors-node"]["spec"]
    names = [trigger["metadata"]["listName"] for trigger in scaled["triggers"]]
    assert names == [f"shop:{name}" for name in queues()]


def test_the_base_is_what_the_chart_gives():
    assert written(BASE / "cluster.yaml") == template(), "run deploy/kubernetes/render.py"


def test_the_overlay_with_keda_is_what_the_chart_gives_with_it():
    done = subprocess.run(
        [tool("kubectl"), "kustomize", str(KEDA)], check=True, capture_output=True, text=True
    )
    built = objects(done.stdout)
    del built["Namespace", "celery-actors"]

    assert built == template("--set", "autoscaling.enabled=true")


def test_the_chart_is_sound_and_refuses_what_it_does_not_know():
    subprocess.run([tool("helm"), "lint", "--strict", str(CHART)], check=True, capture_output=True)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(values, schema)
    for wrong in ({"node": {"replicas": -1}}, {"password": "x"}, {"gpu": {"devices": 0}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_no_pod_is_privileged_and_no_secret_is_written_down():
    for name, pod in pods().items():
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }, name
            assert not container.get("env"), f"{name}: by reference to a Secret only"
            assert container["resources"]["limits"]["memory"], name


def test_a_node_is_drained_before_its_pod_ends_and_probed_where_it_tells_its_health():
    found = pods()
    for name in ("Deployment celery-actors-node", "DaemonSet celery-actors-gpu"):
        (node,) = found[name]["containers"]
        (_, _, stop) = node["lifecycle"]["preStop"]["exec"]["command"]
        words = stop.split()
        assert words[:2] == ["celery_actors", "drain"]
        drains = int(words[words.index("--timeout") + 1])
        assert found[name]["terminationGracePeriodSeconds"] >= drains + 60
        port = node["args"][node["args"].index("--metrics-port") + 1]
        (metrics,) = node["ports"]
        assert str(metrics["containerPort"]) == port
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert node[probe]["httpGet"] == {"path": "/healthz", "port": metrics["name"]}
    (budget,) = (each for (kind, _), each in written(BASE / "cluster.yaml").items()
                 if kind == "PodDisruptionBudget")  # fmt: skip
    labels = written(BASE / "cluster.yaml")["Deployment", "celery-actors-node"]
    assert budget["spec"]["selector"] == labels["spec"]["selector"]


def test_a_gpu_node_asks_for_devices_and_bears_their_taint():
    pod = pods()["DaemonSet celery-actors-gpu"]

    (node,) = pod["containers"]
    assert node["resources"]["limits"]["nvidia.com/gpu"] == 1
    taint = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert taint in pod["tolerations"]
    assert pod["nodeSelector"]


def test_the_store_keeps_its_data_and_has_the_settings_of_this_folder():
    found = written(BASE / "cluster.yaml")
    store = found["StatefulSet", "celery-actors-valkey"]["spec"]
    settings = found["ConfigMap", "celery-actors-valkey"]["data"]["redis.conf"]

    assert settings.strip() == (DEPLOY / "redis.conf").read_text().strip()
    assert "\nappendonly yes\n" in settings
    (claim,) = store["volumeClaimTemplates"]
    (server, _) = store["template"]["spec"]["containers"]
    mounts = {each["name"]: each["mountPath"] for each in server["volumeMounts"]}
    assert f"\ndir {mounts[claim['metadata']['name']]}\n" in settings
    assert f"\naclfile {mounts['users']}\n" in settings


def queues() -> Iterable[str]:
    scaled = written(KEDA / "scaling.yaml")["ScaledObject", "celery-actors-node"]["spec"]
    for trigger in scaled["triggers"]:
        assert trigger["type"] == "redis"
        assert trigger["metadata"]["activationListLength"] == "0", "one that waits is enough"
        yield trigger["metadata"]["listName"]


@pytest.mark.debian_redis
def test_what_waits_for_the_first_node_is_what_keda_counts(server: Server):
    with ca.init(server.url, keys=server.key), contextlib.closing(server.client()) as client:
        waiting = [Counter.remote(), Counter.options(num_cpus=1).remote(), double.remote(1)]
        for name in queues():
            wait_until(lambda name=name: client.llen(name) == 1, f"one waits on {name}")
        assert len(waiting) == len(list(queues()))
