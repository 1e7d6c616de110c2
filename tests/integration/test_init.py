"""Joining and leaving: what Ray's programs pass to init, and what they read from its result."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import celery_actors as ca
from tests.integration.support import ROOT, node_on, redis_server, run_script


def test_arguments_of_rays_programs_are_taken(tmp_path: Path):
    done = run_script(
        tmp_path,
        """
import logging
import celery_actors as ray

context = ray.init(
    num_cpus=1, include_dashboard=False, object_store_memory=10**8, logging_level=logging.ERROR,
    configure_logging=True, log_to_driver=False, namespace="ours", dashboard_host="127.0.0.1",
    job_config={"runtime_env": {"env_vars": {"COLOUR": "red"}}}, _temp_dir="/nowhere",
)

@ray.remote
def colour():
    import os
    print("not shown")
    return os.environ["COLOUR"]

with context:
    assert context.dashboard_url == "" and context["webui_url"] == ""
    assert context.address_info["node_id"] == context["node_id"] == context.node_id
    assert context.address_info["gcs_address"] == ray.get_runtime_context().gcs_address
    assert set(context) >= {"address", "gcs_address", "node_ip_address", "session"}
    assert len(context) == len(context.address_info)
    assert context.python_version.count(".") == 2 and not context.ray_commit
    assert isinstance(context.ray_version, str)
    assert ray.get_runtime_context().namespace == "ours"
    assert logging.getLogger("celery_actors").level == logging.ERROR
    assert ray.get(colour.remote()) == "red"
assert not ray.is_initialized()
with ray.init("local", num_cpus=1) as context:
    context.disconnect()
    assert not ray.is_initialized()
print("done")
""",
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_an_unknown_argument_is_refused_and_starts_nothing():
    with pytest.raises(TypeError, match="'colour'"):
        ca.init(colour="red")
    assert not ca.is_initialized()


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"pip": ["x"]}, "not offered"),
        ({"working_dir": "/no/such/folder"}, "/no/such/folder is not a folder"),
    ],
)
def test_an_impossible_environment_is_refused_and_leaves_nothing(env: dict[str, str], words: str):
    with pytest.raises(ValueError, match=words):
        ca.init(num_cpus=1, runtime_env=env)
    assert not ca.is_initialized()


def test_auto_never_starts_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(ConnectionError, match="no local cluster"):
        ca.init("auto")
    assert not ca.is_initialized()


@pytest.mark.debian_redis
@pytest.mark.parametrize("variable", ["CELERY_ACTORS_ADDRESS", "RAY_ADDRESS"])
def test_a_variable_names_the_cluster_to_join(tmp_path: Path, variable: str):
    with redis_server() as server, node_on(server):
        text = (
            "import celery_actors as ray\n"
            "print(ray.init().address)\n"
            "ray.shutdown()\n"
            "print(ray.init('local', num_cpus=1).address)\n"
        )
        done = run_script(tmp_path, text, {**server.environment(), variable: server.url})
    joined, started = done.stdout.splitlines()
    assert joined.endswith(server.url.removeprefix("unix://"))
    assert "celery_actors-" in started


@pytest.mark.parametrize(
    "first",
    [
        "ray.put(1)",
        "ray.wait([f.remote()])",
        "f.remote()",
        "A.remote()",
        "ray.get_runtime_context()",
        "ray.get_gpu_ids()",
        "ray.nodes()",
        "ray.cluster_resources()",
        "lookup()",
    ],
)
def test_the_first_use_joins_a_cluster(tmp_path: Path, first: str):
    done = run_script(
        tmp_path,
        f"""
import celery_actors as ray

@ray.remote
def f():
    return 1

@ray.remote
class A:
    pass

def lookup():
    try:
        ray.get_actor("nobody")
    except ValueError:
        pass

{first}
print(ray.is_initialized())
""",
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_plug_in_gives_clusters_and_costs_nothing_where_none_is_asked_for(tmp_path: Path):
    (tmp_path / "test_plugin.py").write_text(
        """
import sys

def test_nothing_is_imported_before_it_is_needed():
    assert "celery_actors" not in sys.modules

def test_a_cluster_of_ones_own(local_cluster):
    import celery_actors as ray
    assert ray.cluster_resources()["CPU"] == 2.0
    assert ray.get(ray.put(1)) == 1

def test_and_it_is_gone_afterwards():
    import celery_actors as ray
    assert not ray.is_initialized()

def test_a_shared_one(shared_cluster):
    shared_cluster.app
    assert shared_cluster.node_id

def test_is_still_there(shared_cluster):
    import celery_actors as ray
    assert ray.is_initialized()
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "celery_actors_pytest", "-p", "no:randomly",
         "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        # Where the package is installed, pytest would load the plug-in a second time.
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert "5 passed" in done.stdout, done.stdout + done.stderr
