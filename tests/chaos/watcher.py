"""Looks at the records of the actors all the while: who owns them, in which epoch."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import redis

from celery_actors import routing

from .history import Writer
from .stage import StoreServer

__all__ = ["Watcher"]

_EVERY_SECONDS = 0.5
_FIELDS = ("ep", "own", "st", "restarts")


class Watcher(threading.Thread):
    """Writes down what it sees, as often as the store answers."""

    def __init__(self, store: StoreServer, writer: Writer) -> None:
        super().__init__(name="watcher")
        self._store = store
        self._writer = writer
        self._over = threading.Event()
        self._known: dict[str, Any] = {}

    def run(self) -> None:
        """Look until told to stop."""
        with contextlib.closing(self._store.client()) as client:
            while not self._over.wait(_EVERY_SECONDS):
                with contextlib.suppress(redis.RedisError):
                    self._look(client)

    def stop(self) -> None:
        """Stop."""
        self._over.set()
        self.join()

    def _look(self, client: redis.Redis) -> None:
        actors = client.hgetall(routing.ACTORS)
        pipe = client.pipeline(transaction=False)
        for actor, queue in actors.items():
            pipe.hmget(routing.ActorKeys(queue.decode(), actor.decode()).meta, *_FIELDS)
        for actor, found in zip(actors, pipe.execute(), strict=True):
            words = [(word or b"").decode() for word in found]
            if self._known.get(actor) != words:
                self._known[actor] = words
                self._writer.write("seen", actor.decode(), "record", words)
