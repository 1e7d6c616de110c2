"""``Actors(app)``: which settings of a Celery app do, and what is said of those that do not."""

from __future__ import annotations

import datetime as dt
import pickle
from typing import Any

import pytest
from celery import Celery

import celery_actors as ca
from celery_actors.app_settings import address_of
from celery_actors.config import Address
from celery_actors.errors import ConfigurationError


def app_with(**settings: Any) -> Celery:
    """Return a Celery app with these settings, which has connected to nothing."""
    app = Celery("settings", set_as_current=False)
    app.conf.update(settings)
    return app


def test_the_broker_is_where_actors_live() -> None:
    app = app_with(broker_url="redis://store:6379/3", result_backend="redis://store:6379/3")
    assert address_of(app).url == "redis://store:6379/3"
    app = app_with(broker_url="redis://store", result_backend="redis://store:6379/0")
    assert address_of(app).hosts == [("store", 6379)]


def test_with_rabbitmq_actors_live_in_the_result_backend() -> None:
    app = app_with(broker_url="amqp://rabbit//", result_backend="rediss://store:6380/0")
    found = address_of(app)
    assert found.is_encrypted
    assert found.hosts == [("store", 6380)]


def test_a_prefix_of_broker_and_results_is_part_of_the_address() -> None:
    options = {"global_keyprefix": "shop:"}
    app = app_with(
        broker_url="redis://store/1", result_backend="redis://store/1",
        broker_transport_options=options, result_backend_transport_options=options,
    )  # fmt: skip
    assert address_of(app) == Address.parse("redis://store/1?global_keyprefix=shop:")
    assert address_of(app).prefix == "shop:"


def test_with_rabbitmq_the_prefix_is_that_of_the_result_backend() -> None:
    app = app_with(
        broker_url="amqp://rabbit//", result_backend="redis://store/1",
        broker_transport_options={"global_keyprefix": "mine:"},  # which RabbitMQ has not got
        result_backend_transport_options={"global_keyprefix": "shop:"},
    )  # fmt: skip
    assert address_of(app).prefix == "shop:"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"broker_url": "amqp://me:secret@rabbit//"},
            r"Set result_backend to a redis:// address beside this broker",
        ),
        (
            {"broker_url": "redis://store/0", "result_backend": "db+sqlite:///results"},
            r"result_backend is db\+sqlite://…, .* Set result_backend to your broker_url",
        ),
        (
            {"broker_url": "amqp://rabbit//", "result_backend": "rpc://"},
            r"result_backend is rpc://….* a redis:// address, where actors will live",
        ),
        (
            {"broker_url": "redis://:secret@a/0", "result_backend": "redis://:secret@b/0"},
            r"results would go to redis://:\*\*\*@b/0, and actors live at the broker, redis://:\*\*\*@a/0",
        ),
        (
            {
                "broker_url": "redis://:secret@store/0",
                "result_backend": "redis://:secret@store/0",
                "broker_transport_options": {"global_keyprefix": "shop:"},
            },
            r"begin with 'shop:', those of results with ''.* result_backend_transport_options",
        ),
        (
            {
                "broker_url": "redis://store/0",
                "broker_transport_options": {"global_keyprefix": "shop"},
            },
            r"global_keyprefix is 'shop', .* Write 'shop:'",
        ),
    ],
    ids=["no store", "a database", "rpc", "two stores", "two prefixes", "an open prefix"],
)
def test_settings_that_do_not_do_are_refused_with_what_to_set(settings: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as raised:
        address_of(app_with(**settings))
    assert "secret" not in str(raised.value)


def test_nothing_is_joined_before_the_first_use() -> None:
    actors = ca.Actors(app_with(broker_url="amqp://rabbit//"))

    class Plain:
        pass

    counter: Any = actors.remote(num_cpus=1)(Plain)

    assert repr(actors) == "Actors(settings)"
    with pytest.raises(ConfigurationError, match="result_backend"):
        counter.remote()


def test_actors_without_an_app_say_what_is_missing() -> None:
    actors = ca.Actors()
    with pytest.raises(ConfigurationError, match=r"init_app\(app\)"):
        actors.put(1)
    app = app_with(broker_url="amqp://rabbit//")
    actors.init_app(app)
    actors.init_app(app)
    with pytest.raises(ConfigurationError, match="have a Celery app already"):
        actors.init_app(app_with())


def test_wrong_arguments_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="namespace"):
        ca.Actors(namespace="")
    with pytest.raises(ConfigurationError):
        ca.Actors(store="mysql://store")
    with pytest.raises(TypeError, match="bare, or with named options"):
        ca.Actors().remote()


def test_in_a_worker_actors_stand_for_the_workers_own_cluster() -> None:
    unpickled = pickle.loads(pickle.dumps(ca.Actors(app_with())))
    assert unpickled.app is None


def test_results_last_as_long_as_the_app_says() -> None:
    from celery_actors.actors import _seconds

    assert _seconds(dt.timedelta(minutes=2)) == 120
    assert _seconds(90) == 90
    assert _seconds(None) == 24 * 3600


def test_a_function_of_one_app_is_no_task_of_another() -> None:
    def twice(number: int) -> int:
        return 2 * number

    apps = [app_with(), app_with()]
    ca.Actors(apps[0]).remote(twice)
    assert [any("twice" in name for name in app.tasks) for app in apps] == [True, False]
