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
        ConfigurationError: neither is one, results go elsewhere, or to keys of another prefix.
    """
    conf = app.conf
    broker, backend = str(conf.broker_url or ""), str(conf.result_backend or "")
    options = conf.broker_transport_options or {}
    of_broker, of_backend = is_store_url(broker), is_store_url(backend)
    if backend and not of_backend and not backend.startswith("disabled"):
        raise ConfigurationError(
            f"result_backend is {_scheme(backend)}, and the results of actors are stored with "
            "their state in one step, in Redis or Valkey. Set result_backend to "
            + ("your broker_url" if of_broker else "a redis:// address, where actors will live")
        )
    if of_broker:
        store = Address.of_celery(broker, options, conf.broker_use_ssl)
        if of_backend:
            _check_same(store, _of_backend(conf, backend))
        return store
    if of_backend:
        return _of_backend(conf, backend)
    raise ConfigurationError(
        f"broker_url is {_scheme(broker)}: actors, their state and their results live in Redis or "
        "Valkey. Set result_backend to a redis:// address beside this broker"
    )


def _check_same(store: Address, results: Address) -> None:
    if store.place != results.place:
        raise ConfigurationError(
            f"results would go to {results.public}, and actors live at the broker, {store.public}. "
            "Set result_backend to your broker_url"
        )
    if store.prefix != results.prefix:
        raise ConfigurationError(
            f"the keys of the broker begin with {store.prefix!r}, those of results with "
            f"{results.prefix!r}, and the results of actors are stored with their state in one "
            "step. Set global_keyprefix to the same in broker_transport_options and in "
            "result_backend_transport_options"
        )


def _of_backend(conf: Any, url: str) -> Address:
    options = conf.result_backend_transport_options or {}
    return Address.of_celery(url, options, conf.redis_backend_use_ssl)


def _scheme(url: str) -> str:
    return f"{url.partition(':')[0]}://…" if url else "not set"
