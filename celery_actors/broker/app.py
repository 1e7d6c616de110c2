"""The Celery app of a cluster, and how Celery's own readers open our values."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend, SentinelBackend
from kombu.utils.json import register_type

from ..address import is_store_url
from ..config import Address
from ..serialization import MARKER, Sealer
from ..store import silence_of

#: Settings that say how to reach a broker.
_OF_BROKER = (
    "broker_url", "broker_use_ssl", "broker_transport_options", "broker_login_method",
    "broker_heartbeat", "broker_connection_timeout",
)  # fmt: skip

__all__ = ["SealedValue", "close_app", "make_app", "make_viewer", "on_broker_of"]


class SealedValue:
    """A signed value as kombu's JSON reader meets it: verified and opened later, in its place."""

    marker = MARKER

    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields

    def __repr__(self) -> str:
        return "SealedValue(…)"


class RefMarker:
    """A reference among the arguments of a message: the call id, `+` if its value was stored."""

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id


register_type(SealedValue, MARKER, lambda value: value.fields, SealedValue)
register_type(RefMarker, "ca-ref", lambda value: value.call_id, RefMarker)


def _open(meta: dict[str, Any], sealer: Sealer) -> dict[str, Any]:
    """Open a signed result, for its own call only; an unsigned one is Celery's business."""
    value = meta.get("result")
    if meta.get("status") == "SUCCESS" and isinstance(value, SealedValue):
        place = ("result", meta["task_id"])
        sealed = {"__type__": MARKER, "__value__": value.fields}
        meta["result"] = sealer.open(sealed, place)
    return meta


class ResultBackend(RedisBackend):
    """Celery's Redis backend, which also opens signed values."""

    sealer: Sealer

    def meta_from_decoded(self, meta: dict[str, Any]) -> dict[str, Any]:
        """Return a result with its value open."""
        return dict(super().meta_from_decoded(_open(meta, self.sealer)))


class SentinelResultBackend(SentinelBackend):
    """The same where the address names sentinels."""

    sealer: Sealer

    def meta_from_decoded(self, meta: dict[str, Any]) -> dict[str, Any]:
        """Return a result with its value open."""
        return dict(super().meta_from_decoded(_open(meta, self.sealer)))


class ClusterApp(Celery):
    """A Celery app whose results are this cluster's."""

    sealer: Sealer

    def _get_backend(self) -> ResultBackend | SentinelResultBackend:
        url = str(self.conf.result_backend)
        if "+" in url.partition("://")[0]:
            url = url.partition("+")[2]  # redis+socket:///path, as celery.app.backends.by_url
        kind = SentinelResultBackend if url.startswith("sentinel://") else ResultBackend
        backend = kind(app=self, url=url)
        backend.sealer = self.sealer
        return backend


def _connection_settings(address: Address) -> dict[str, Any]:
    """Return what Celery must be told of the store.

    Its url, how to speak TLS, who is primary, and what stands before every key.
    """
    tls = address.tls_options
    url = address.celery_url
    found: dict[str, Any] = {}
    options: dict[str, Any] = {}
    if tls:
        url = url.partition("?")[0]  # kombu would take its options first, numbers as text
        found |= {"broker_use_ssl": tls, "redis_backend_use_ssl": tls}
    if address.service:
        of_sentinels = {**({"ssl": True, **tls} if tls else {}), **address.sentinel_credentials}
        options |= {
            "master_name": address.service,
            "sentinel_kwargs": {"socket_timeout": 1.0, **of_sentinels},
            # A primary that hangs must not hold up heartbeats after the failover.
            "socket_timeout": silence_of(address),
        }
    if address.prefix:
        options["global_keyprefix"] = address.prefix
    if options:
        found |= {"broker_transport_options": options, "result_backend_transport_options": options}
    return {"broker_url": url, "result_backend": url, **found}


def make_app(address: Address, sealer: Sealer, *, result_seconds: int) -> Celery:
    """Return a Celery app on the cluster's store: for `inspect`, events and `AsyncResult`."""
    app = ClusterApp("celery_actors", set_as_current=False)
    app.sealer = sealer
    return _configured(app, address, result_seconds=result_seconds)


def make_viewer(address: Address) -> Celery:
    """Return a Celery app that sees a cluster and has no key: what is signed stays closed."""
    return _configured(Celery("celery_actors"), address, result_seconds=24 * 3600)


def _configured(app: Celery, address: Address, *, result_seconds: int) -> Celery:
    app.conf.update(
        **_connection_settings(address),
        result_expires=result_seconds,
        accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        broker_connection_retry_on_startup=True,
        worker_redirect_stdouts=False,
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_prefetch_multiplier=1,
    )
    return app


def on_broker_of(user_app: Celery, app: Celery) -> Celery:
    """Return an app for a worker's events and remote control: on the user's broker.

    Where that is the store, or the user's app names none, ``app`` is right as it is.
    """
    conf = user_app.conf
    if not conf.broker_url or is_store_url(str(conf.broker_url)):
        return app
    other = ClusterApp("celery_actors", set_as_current=False)
    other.sealer = app.sealer
    other.conf.update(app.conf.changes)
    other.conf.update({name: conf[name] for name in _OF_BROKER})
    return other


def close_app(app: Celery) -> None:
    """Close what an app of ours keeps open for its next use.

    kombu has one pool for all apps of a process on the same broker: others go on with it.
    """
    app.backend.result_consumer.stop()
    app.backend.client.connection_pool.disconnect()
    for pool in (app.amqp.producer_pool, app.pool):
        pool.force_close_all(close_pool=False)
        pool.setup()
    app.close()
