"""The handlers: each page, and the JSON that it asks for while somebody looks at it.

They ask who is there as Flower's own do, and read the store in a thread: Flower's loop never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from flower.api.tasks import GetQueueLengths
from flower.utils.tasks import iter_tasks
from flower.views import BaseHandler
from flower.views.broker import BrokerView
from flower.views.monitor import Metrics
from tornado import web

from .. import routing
from ..errors import ClusterUnreachableError
from ..store import StoreError
from .board import Board

__all__ = [
    "ActorData",
    "ActorPage",
    "ActorsData",
    "ActorsPage",
    "Asset",
    "BrokerPage",
    "GuardedMetrics",
    "QueueLengths",
]

#: Calls on the page of one actor.
RECENT_CALLS = 20


async def _in_thread(step: Callable[..., Any], *words: Any) -> Any:
    """Run a step that waits for the store.

    Raises:
        HTTPError: 503, the store does not answer.
    """
    try:
        return await asyncio.get_running_loop().run_in_executor(None, step, *words)
    except (ClusterUnreachableError, StoreError) as error:
        raise web.HTTPError(503, str(error)) from None


class Asset(web.StaticFileHandler):
    """A script or style of ours; a browser asks whether it is still the same."""

    def set_extra_headers(self, path: str) -> None:  # noqa: ARG002 - Tornado's signature
        """Let nobody use an old one after an upgrade."""
        self.set_header("Cache-Control", "no-cache")
        self.set_header("X-Content-Type-Options", "nosniff")


class _Page(BaseHandler):
    """A handler that knows the board."""

    board: Board

    def initialize(self, board: Board) -> None:
        """Take what the list of handlers gives."""
        self.board = board


class _Data(_Page):
    """One that answers with JSON, also when it fails."""

    def prepare(self) -> None:
        """Say that nobody may keep the answer."""
        self.set_header("Cache-Control", "no-store")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Tell the page what is wrong."""
        error = kwargs.get("exc_info", (None, None))[1]
        if status_code == 401:
            super().write_error(status_code, **kwargs)  # asks for the name and the password
            return
        message = getattr(error, "log_message", None) or "this page has failed; see Flower's log"
        self.set_status(status_code)
        self.finish({"error": message})


class ActorsPage(_Page):
    """The list of actors, and the nodes."""

    @web.authenticated
    def get(self) -> None:
        """Send the page; what is on it comes by ActorsData."""
        self.render("actors.html")


class ActorsData(_Data):
    """What is on the list."""

    @web.authenticated
    async def get(self) -> None:
        """Send every actor and every node."""
        look = await _in_thread(self.board.look)
        self.write({"actors": list(look.actors.values()), "nodes": look.nodes})


class ActorPage(_Page):
    """One actor."""

    @web.authenticated
    async def get(self, actor_id: str) -> None:
        """Send the page; what is on it comes by ActorData."""
        row = await _in_thread(self.board.actor, actor_id)
        if row is None:
            raise web.HTTPError(404, f"Unknown actor '{actor_id}'")
        self.render("actor.html", actor=row)


class ActorData(_Data):
    """What is on the page of one actor."""

    @web.authenticated
    async def get(self, actor_id: str) -> None:
        """Send what is known of the actor, and its recent calls as Flower has heard of them."""
        row = await _in_thread(self.board.actor, actor_id)
        if row is None:
            raise web.HTTPError(404, f"no actor {actor_id} is known here any more")
        details = await _in_thread(self.board.details, row)
        events = self.application.events
        calls = []
        if row["worker"]:
            words = {"worker": row["worker"], "limit": RECENT_CALLS, "sort_by": "-received"}
            calls = [self._call(task_id, task) for task_id, task in iter_tasks(events, **words)]
        self.write({"actor": details, "calls": calls})

    def _call(self, task_id: str, task: Any) -> dict[str, Any]:
        return {
            "id": task_id, "url": self.reverse_url("task", task_id), "name": task.name,
            "state": task.state, "args": task.args, "kwargs": task.kwargs, "result": task.result,
            "exception": task.exception, "received": task.received, "runtime": task.runtime,
        }  # fmt: skip


class _Lengths:
    """Stands where Flower keeps its client of the broker: our queues are looked up in our store."""

    def __init__(self, board: Board, others: Any) -> None:
        self._board = board
        self._others = others

    async def queues(self, names: Iterable[str]) -> list[dict[str, Any]]:
        """Return name and length of each queue, by name."""
        others = [name for name in names if not routing.is_ours(name)]
        lengths = await _in_thread(self._board.lengths, [*filter(routing.is_ours, names)])
        found = [{"name": name, "messages": length} for name, length in lengths.items()]
        if others:
            found += await self._others.queues(others)
        return sorted(found, key=lambda queue: str(queue["name"]))


class _EveryQueue(BaseHandler):
    """Flower asks its workers once, at its start; this adds the queues that exist at present."""

    def initialize(self, board: Board) -> None:
        """Take what the list of handlers gives."""
        self.board = board
        self.queues: list[str] = []

    async def _find_queues(self) -> None:
        self.queues = (await _in_thread(self.board.look)).queues

    def get_active_queue_names(self) -> list[str]:
        """Return the names of the queues."""
        return sorted({*super().get_active_queue_names(), *self.queues})

    def get_broker(self) -> _Lengths:
        """Return what knows the lengths of queues."""
        return _Lengths(self.board, super().get_broker())


class BrokerPage(_EveryQueue, BrokerView):
    """Flower's broker page with the queues of actors."""

    @web.authenticated
    async def get(self) -> None:
        """Send the page."""
        await self._find_queues()
        await super().get()


class QueueLengths(_EveryQueue, GetQueueLengths):
    """Flower's answer of the same."""

    @web.authenticated
    async def get(self) -> None:
        """Send the lengths."""
        await self._find_queues()
        await super().get()


class GuardedMetrics(Metrics):
    """Flower's metrics, for those only who may see its pages: they name actors and methods."""

    @web.authenticated
    async def get(self) -> None:
        """Send the metrics."""
        await super().get()
