"""Serialisers that a process registers, on the way to workers and back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import celery_actors as ca
from celery_actors.util import deregister_serializer, register_serializer
from tests.integration.support import Cluster


class Connection:
    """Holds what no process can give to another."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lock = threading.Lock()


@pytest.fixture
def registered() -> Iterator[None]:
    scheme = "made by a closure"

    def deserializer(url: str) -> Connection:
        connection = Connection(url)
        connection.scheme = scheme
        return connection

    register_serializer(Connection, serializer=lambda c: c.url, deserializer=deserializer)
    yield
    deregister_serializer(Connection)


def test_an_instance_travels_to_a_task(cluster: Cluster, registered: None):
    @ca.remote
    def use(connection: Connection, nested: list[Connection]) -> list[str]:
        with connection.lock:
            return [connection.url, connection.scheme, nested[0].url]

    found = ca.get(use.remote(Connection("here"), [Connection("there")]), timeout=10)

    assert found == ["here", "made by a closure", "there"]


def test_an_instance_travels_in_a_closure_a_constructor_and_put(cluster: Cluster, registered: None):
    connection = Connection("anywhere")

    @ca.remote
    class User:
        def __init__(self, given: Connection) -> None:
            self.urls = [given.url, connection.url]

        def seen(self, stored: Connection) -> list[str]:
            return [*self.urls, stored.url]

    user = User.remote(connection)

    assert ca.get(user.seen.remote(ca.put(connection)), timeout=10) == ["anywhere"] * 3


def test_a_registration_holds_for_its_own_process(cluster: Cluster, registered: None):
    @ca.remote
    def give(connection: Connection) -> Connection:
        return connection

    with pytest.raises(ca.SerializationError, match="lock"):
        ca.get(give.remote(Connection("x")), timeout=10)

    @ca.remote
    class Giver:
        def give(self, connection: Connection) -> Connection:
            register_serializer(
                Connection, serializer=lambda c: c.url + "!", deserializer=Connection
            )
            return connection

    assert ca.get(Giver.remote().give.remote(Connection("x")), timeout=10).url == "x!"


def test_without_a_registration_the_error_names_the_member(cluster: Cluster):
    with pytest.raises(ca.SerializationError, match=r"\.lock \(lock\) cannot be pickled"):
        ca.put(Connection("x"))
