"""What a store has told of itself, and what is to be said of that."""

from __future__ import annotations

import logging

import pytest

from celery_actors.doctor import as_json, is_well, judge_skew
from celery_actors.store import Store
from celery_actors.store_check import Finding, examine, look, warn

GOOD = {
    "redis_version": "7.0.15", "role": "master", "maxmemory_policy": "noeviction",
    "aof_enabled": "1", "aof_last_write_status": "ok", "appendfsync": "always",
    "connected_slaves": "0",
}  # fmt: skip


def states(**changed: str) -> dict[str, str]:
    return {each.name: each.state for each in examine({**GOOD, **changed})}


def one(name: str, **changed: str) -> Finding:
    (found,) = [each for each in examine({**GOOD, **changed}) if each.name == name]
    return found


def test_a_store_that_keeps_everything_is_fine() -> None:
    assert set(states().values()) == {"ok"}
    assert all(each.cure == "" for each in examine(GOOD))


@pytest.mark.parametrize(
    ("name", "changed", "cure"),
    [
        ("server version", {"redis_version": "6.0.20"}, "Redis 6.2 or newer"),
        ("server version", {"redis_version": "5.0"}, "Redis 6.2 or newer"),
        ("role", {"role": "slave"}, "name the primary"),
        ("maxmemory-policy", {"maxmemory_policy": "allkeys-lru"}, "maxmemory-policy noeviction"),
        ("appendonly", {"aof_enabled": "0"}, "appendonly yes"),
        ("appendonly", {"aof_last_write_status": "err"}, "server's disk"),
    ],
)
def test_what_loses_work_is_wrong_and_says_what_to_do(
    name: str, changed: dict[str, str], cure: str
) -> None:
    found = one(name, **changed)
    assert found.state == "wrong"
    assert cure in found.cure


@pytest.mark.parametrize("version", ["6.2.0", "6.2.14", "7.0.15", "8.2", "10.0.0"])
def test_newer_servers_are_fine(version: str) -> None:
    assert one("server version", redis_version=version).state == "ok"


def test_valkey_says_a_redis_version_for_compatibility_and_its_own() -> None:
    assert one("server version", valkey_version="9.1.2").seen == "9.1.2"


def test_what_may_be_meant_so_is_advice() -> None:
    assert "last second" in one("appendfsync", appendfsync="everysec").cure
    assert "last half a minute" in one("appendfsync", appendfsync="no").cure
    replicas = {"connected_slaves": "1", "min-replicas-to-write": "0"}
    assert "min-replicas-to-write 1" in one("replicas", **replicas).cure
    assert one("replicas", **{**replicas, "min-replicas-to-write": "1"}).state == "ok"


def test_what_a_user_may_not_ask_is_not_known_and_not_wrong() -> None:
    findings = examine({})
    assert {each.name for each in findings} == {"server version", "maxmemory-policy", "appendonly"}
    assert {each.state for each in findings} == {"not known"}
    assert is_well(findings)
    without_config = {name: value for name, value in GOOD.items() if name != "appendfsync"}
    (fsync,) = [each for each in examine(without_config) if each.name == "appendfsync"]
    assert fsync.state == "not known"
    (replicas,) = [e for e in examine({**without_config, "connected_slaves": "2"})
                   if e.name == "replicas"]  # fmt: skip
    assert replicas.state == "not known"


def test_a_real_server_tells_what_is_looked_at(store: Store) -> None:
    found = look(store)
    assert set(GOOD) - {"redis_version"} <= set(found)
    assert {each.name for each in examine(found)} >= {"server version", "appendonly"}
    assert store.setting("no-such-setting") == {}


def test_what_is_missing_is_logged_a_line_each_and_of_an_embedded_store_one(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    policy = store.setting("maxmemory-policy")["maxmemory-policy"]
    store.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    caplog.set_level(logging.INFO)
    try:
        warn(store, embedded=False)
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 2
        assert "maxmemory-policy is allkeys-lru: set `maxmemory-policy noeviction`" in lines[0]
        assert "appendonly is no: set `appendonly yes`" in lines[1]
        assert {record.levelname for record in caplog.records} == {"WARNING"}
        caplog.clear()
        warn(store, embedded=True)
        (record,) = caplog.records
        assert (record.levelname, "storage=" in record.getMessage()) == ("INFO", True)
    finally:
        store.run("CONFIG", "SET", "maxmemory-policy", policy)


@pytest.mark.parametrize(
    ("theirs", "state"), [(100.0, "ok"), (99.2, "ok"), (101.3, "ok"), (98.9, "wrong"),
                          (102.1, "wrong")],
)  # fmt: skip
def test_a_clock_counts_as_right_within_a_second_and_the_time_it_took_to_ask(
    theirs: float, state: str
) -> None:
    assert judge_skew(theirs, 100.0, 101.0).state == state


def test_machines_get_the_same_and_whether_all_is_well() -> None:
    wrong = Finding("appendonly", "wrong", "no", "set it")
    found = as_json([Finding("clock", "ok", "+0 s"), wrong])
    assert found["ok"] is False
    assert found["checks"][1] == {
        "name": "appendonly", "state": "wrong", "seen": "no", "cure": "set it",
    }  # fmt: skip
