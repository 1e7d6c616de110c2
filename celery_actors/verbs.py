"""Celery's own verbs on methods and functions: ``delay``, ``apply_async``, ``s``, ``si``.

They send plain Celery messages, so they do what Celery does: results are ``AsyncResult``, links,
chains, groups and chords work with tasks on both sides, and arguments are what JSON can say.
``remote`` is faster, takes any argument, and keeps its caller's order through every failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .runtime import Runtime

__all__ = ["CeleryVerbs", "Place"]

#: What would take a call out of its actor's queue.
_PLACES = ("queue", "routing_key", "exchange", "routing_type")


class Place(NamedTuple):
    """Where calls of one method or function go, for Celery."""

    runtime: Runtime
    what: str  # for messages to the user
    task: str
    queue: str
    headers: Mapping[str, Any]


class CeleryVerbs:
    """The verbs of a Celery task. A subclass says where its calls go."""

    __slots__ = ()

    def _place_for_celery(self) -> Place:
        """Return where calls go."""
        raise NotImplementedError

    def _app_for_celery(self) -> Any:
        """Return the app that sends."""
        return self._place_for_celery().runtime.find_app()

    def _check_for_celery(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Refuse arguments that do not fit."""
        raise NotImplementedError

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send one call as a Celery message; return its ``AsyncResult``.

        Raises:
            TypeError: the arguments do not fit. kombu's EncodeError: one is not JSON.
        """
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send one call with Celery's options; return its ``AsyncResult``.

        ``countdown``, ``eta``, ``expires``, ``headers``, ``link``, ``link_error``, ``time_limit``,
        ``soft_time_limit``, ``task_id``, ``ignore_result`` and ``shadow`` are as in Celery. The
        calls that this process has made before are with the store when it returns.

        Raises:
            TypeError: the arguments do not fit. ValueError: an option that cannot be kept.
            kombu's EncodeError: an argument is not JSON.
        """
        self._check_for_celery(args, kwargs or {})
        place = self._place_for_celery()
        place.runtime.calls.settle()
        app = place.runtime.find_app()
        return app.send_task(
            place.task, args=list(args), kwargs=dict(kwargs or {}),
            **_options(place, options),
        )  # fmt: skip

    def signature(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Return a Celery signature, for chains, groups, chords, links and beat.

        Raises:
            ValueError: an option that cannot be kept.
        """
        place = self._place_for_celery()
        immutable = bool(options.pop("immutable", False))
        return place.runtime.find_app().signature(
            place.task, args=tuple(args), kwargs=dict(kwargs or {}), immutable=immutable,
            options=_options(place, options),
        )  # fmt: skip

    def s(self, *args: Any, **kwargs: Any) -> Any:
        """Return a signature with these arguments; in a chain, the result before comes first."""
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Any:
        """Return a signature that takes no result of what comes before it."""
        return self.signature(args, kwargs, immutable=True)

    def map(self, items: Iterable[Any]) -> Any:
        """Return a group with one call for each item: ``method.map([1, 2])().get()``.

        Celery's own ``map`` runs in one task; here each call is one, so an actor answers them in
        order, and others may come between.
        """
        return self.starmap((item,) for item in items)

    def starmap(self, items: Iterable[Sequence[Any]]) -> Any:
        """Do the same with several arguments for each call."""
        from .broker.canvas import group_of  # few programs need Celery for more than its names

        return group_of(map(self.signature, items), self._app_for_celery())


def _options(place: Place, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return Celery's options for a call.

    Raises:
        ValueError: one of them cannot be kept.
    """
    if elsewhere := [name for name in _PLACES if given.get(name) is not None]:
        raise ValueError(
            f"{', '.join(elsewhere)}: calls of {place.what} go to {place.queue}, the queue that "
            "its worker serves. Leave it out"
        )
    if given.get("priority"):
        raise ValueError(
            f"priority={given['priority']}: on Redis, Celery puts each priority in a queue of its "
            f"own, and the worker of {place.what} serves one, in order. Leave it out"
        )
    if given.get("serializer") not in (None, "json"):
        raise ValueError(
            f"serializer={given['serializer']!r}: only JSON is read, because other formats can run "
            "code. Leave it out; .remote() takes any argument, signed"
        )
    headers = {**(given.get("headers") or {}), **place.headers}
    return {
        **given, "queue": place.queue, "serializer": "json", "priority": 0,
        **({"headers": headers} if headers else {}),
    }  # fmt: skip
