"""What becomes of the arguments that Ray's programs give to init."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from celery_actors.address import Address
from celery_actors.init_arguments import (
    job_settings,
    refuse_unknown,
    set_up_logging,
    wanted_address,
)

VARIABLES = ("CELERY_ACTORS_ADDRESS", "RAY_ADDRESS")


@pytest.mark.parametrize(
    ("given", "first", "second", "wanted"),
    [
        (None, None, None, None),
        ("redis://a", "redis://b", "redis://c", "redis://a"),
        (None, "redis://b", "redis://c", "redis://b"),
        (None, None, "redis://c", "redis://c"),
        ("local", "redis://b", None, None),
        ("auto", None, None, "auto"),
        (None, None, "auto", "auto"),
        (None, None, "local", None),
        (None, "", "", None),
    ],
)
def test_the_address_comes_from_the_argument_then_from_our_variable_then_from_rays(
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    first: str | None,
    second: str | None,
    wanted: str | None,
) -> None:
    for name, value in zip(VARIABLES, (first, second), strict=True):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    named = wanted not in (None, "auto")
    assert wanted_address(given, None) == (Address.parse(wanted or "") if named else wanted)


def test_a_celery_app_gives_its_brokers_address() -> None:
    app = Celery(broker="redis://broker", set_as_current=False)
    assert wanted_address(None, app) == Address.parse("redis://broker")
    assert wanted_address("redis://other", app) == Address.parse("redis://other")


def test_a_celery_app_gives_its_sentinels_and_how_to_speak_tls() -> None:
    app = Celery(
        broker="sentinel://:pw@one:26379/2;sentinel://:pw@two:26379/2", set_as_current=False
    )
    app.conf.broker_transport_options = {
        "master_name": "prime", "sentinel_kwargs": {"password": "other"},
    }  # fmt: skip
    app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": "/ca.pem"}

    assert wanted_address(None, app) == Address.parse(
        "sentinels://:pw@one,two/prime/2?sentinel_password=other&ssl_ca_certs=/ca.pem"
    )


def test_what_ray_knows_is_taken_and_what_nobody_knows_is_refused() -> None:
    refuse_unknown({"include_dashboard": False, "object_store_memory": 1, "_temp_dir": "/x"})
    with pytest.raises(TypeError, match="'colour'"):
        refuse_unknown({"colour": "red"})


@pytest.mark.parametrize(
    "config",
    [
        {"ray_namespace": "ours", "runtime_env": {"env_vars": {"A": "1"}}},
        SimpleNamespace(ray_namespace="ours", runtime_env={"env_vars": {"A": "1"}}),
    ],
)
def test_a_job_config_gives_what_the_arguments_do_not(config: Any) -> None:
    assert job_settings(None, None, config) == ("ours", {"env_vars": {"A": "1"}})
    assert job_settings("mine", {"env_vars": {}}, config)[0] == "mine"


@pytest.mark.parametrize(
    ("namespace", "env", "kind"),
    [(1, None, TypeError), ("", None, ValueError), (None, {"pip": ["x"]}, ValueError),
     (None, [1], TypeError)],
)  # fmt: skip
def test_impossible_settings_are_refused(namespace: Any, env: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        job_settings(namespace, env, None)


@pytest.fixture
def bare_logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """The package's logger as in a program that has set up no logging."""
    logger = logging.getLogger("celery_actors")
    level = logger.level
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "handlers", [])
    yield logger
    logger.setLevel(level)


def test_logging_gets_a_handler_once_and_the_level_asked_for(bare_logger: logging.Logger) -> None:
    bare_logger.handlers.clear()  # pytest has put its own here since the fixture
    set_up_logging("warning", "<%(message)s>")
    set_up_logging(logging.ERROR, None)
    assert bare_logger.level == logging.ERROR
    (handler,) = bare_logger.handlers
    record = logging.LogRecord("celery_actors", logging.ERROR, "", 0, "text", None, None)
    assert handler.format(record) == "<text>"
