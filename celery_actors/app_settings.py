"""What the settings of a Celery app say of where its actors live."""

from __future__ import annotations

from typing import Any

from .address import Address, is_store_url
from .errors import ConfigurationError

__all__ = ["address_of"]


def address_of(app: Any) -> Address:
    """Return where the actors of a Celery deployment live: its broker, or its result backend.

    Actors, their state and their results are in Redis or Valkey. Where the broker is one, that is
    it; with another broker, such as RabbitMQ, it is the result backend.

    Raises:
        ConfigurationError: neither is one, results go elsewhere, or keys have a prefix.
    """
    conf = app.conf
    broker, backend = str(conf.broker_url or ""), str(conf.result_backend or "")
    options = conf.broker_transport_options or {}
    if options.get("global_keyprefix"):
        raise ConfigurationError(
            "broker_transport_options['global_keyprefix'] is set, and celery_actors does not put "
            "prefixes before its keys yet: actors and Celery would not find each other. Give this "
            "deployment a database of its own (redis://host:6379/1) instead of a prefix"
        )
    of_broker, of_backend = is_store_url(broker), is_store_url(backend)
    if backend and not of_backend and not backend.startswith("disabled"):
        raise ConfigurationError(
            f"result_backend is {_scheme(backend)}, and the results of actors are stored with "
            "their state in one step, in Redis or Valkey. Set result_backend to "
            + ("your broker_url" if of_broker else "a redis:// address, where actors will live")
        )
    if of_broker:
        store = Address.of_celery(broker, options, conf.broker_use_ssl)
        if of_backend and store.place != _of_backend(conf, backend).place:
            raise ConfigurationError(
                f"results would go to {_of_backend(conf, backend).public}, and actors live at the "
                f"broker, {store.public}. Set result_backend to your broker_url"
            )
        return store
    if of_backend:
        return _of_backend(conf, backend)
    raise ConfigurationError(
        f"broker_url is {_scheme(broker)}: actors, their state and their results live in Redis or "
        "Valkey. Set result_backend to a redis:// address beside this broker"
    )


def _of_backend(conf: Any, url: str) -> Address:
    options = conf.result_backend_transport_options or {}
    return Address.of_celery(url, options, conf.redis_backend_use_ssl)


def _scheme(url: str) -> str:
    return f"{url.partition(':')[0]}://…" if url else "not set"
