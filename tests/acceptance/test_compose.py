"""`deploy/compose.yaml`: its commands, run as plain processes, are a cluster."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

import celery_actors as ca
from tests.acceptance.deployment import Containers, compose, make_secrets, read_environment
from tests.integration.actors import Counter
from tests.integration.support import family, wait_all_gone, wait_until


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    """The services of the compose file, none of which has been started."""
    found = Containers(tmp_path)
    try:
        yield found
    finally:
        found.kill()


def test_its_services_are_a_cluster_that_outlives_its_store_and_drains(containers: Containers):
    store = containers.start("valkey")
    wait_until(lambda: "Ready to accept" in containers.log("valkey").read_text(), "the store runs")
    containers.start("scripts")
    node = containers.start("node")
    containers.wait_healthy("node")

    address, key = (containers.node[f"CELERY_ACTORS_{word}"] for word in ("ADDRESS", "KEYS"))
    with ca.init(address, keys=key):
        counter = Counter.options(max_restarts=1).remote()
        assert ca.get([counter.add.remote(1) for _ in range(20)], timeout=30)[-1] == 20

        store.kill()
        store.wait()
        containers.start("valkey")
        assert ca.get(counter.add.remote(1), timeout=30) == 21, "the log was read again"

        below = family(node.pid)
        node.terminate()
        assert node.wait(60) == 0, containers.logs()
        wait_all_gone(below, "nothing of the node runs")
    said = containers.log("scripts").read_text()
    assert len(re.findall("loaded [0-9]+ scripts", said)) == 2, "after the restart, too"
    containers.running["scripts"].terminate()
    assert containers.running["scripts"].wait(10) == 0
    logs = containers.logs()
    # The workers' Celery side may need kombu's script just before the loader has seen the restart.
    too_early = logs.count("no permissions to run the 'script|load' command")
    assert logs.count("Traceback") == too_early, logs


def test_its_flower_asks_who_is_there(containers: Containers):
    containers.start("valkey")
    wait_until(lambda: "Ready to accept" in containers.log("valkey").read_text(), "the store runs")
    containers.start("scripts")
    flower = containers.start("flower")
    containers.wait_healthy("flower")

    page = urllib.request.Request(f"http://127.0.0.1:{containers.ports['5555']}/workers")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(page, timeout=10)
    login = read_environment(containers.secrets / "flower.env")["FLOWER_BASIC_AUTH"]
    page.add_header("Authorization", f"Basic {b64encode(login.encode()).decode()}")
    with urllib.request.urlopen(page, timeout=10) as answer:
        assert answer.status == 200
    flower.terminate()
    assert flower.wait(20) == 0, containers.logs()


def test_no_service_runs_as_root_or_shows_its_store_outside():
    found = compose()
    for name, service in found["services"].items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service.get("privileged") is None, name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
        for network in service["networks"]:
            assert network in found["networks"], name
        for other in service.get("depends_on", {}):
            assert other in found["services"], name
    assert found["networks"]["store"]["internal"] is True
    assert found["services"]["valkey"]["networks"] == ["store"]


def test_secrets_are_made_once_and_no_password_is_in_the_file_of_users(tmp_path: Path):
    folder = tmp_path / "secrets"

    first, second = (make_secrets(folder, "store:6379") for _ in range(2))

    assert (first.returncode, second.returncode) == (0, 1)
    assert "is there already" in second.stderr
    assert folder.stat().st_mode & 0o777 == 0o700
    users = (folder / "users.acl").read_text()
    assert "CHANGE-ME" not in users
    assert ">" not in users
    for name, who in (("node", "celery-actors"), ("scripts", "scripts"), ("flower", "flower")):
        path = folder / f"{name}.env"
        assert path.stat().st_mode & 0o777 == 0o600
        address = read_environment(path)["CELERY_ACTORS_ADDRESS"]
        password = re.fullmatch(f"redis://{who}:([^@]+)@store:6379/0", address)
        assert password, name
        assert password[1] not in users
        assert password[1] not in first.stdout
