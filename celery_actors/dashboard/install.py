"""Puts the Actors page into Flower: into the list of handlers from which it builds its server."""

from __future__ import annotations

from pathlib import Path

from flower.urls import handlers, settings
from tornado.web import url

from ..config import Address
from ..embedded import newest_address
from ..store import Store
from . import pages
from .board import Board
from .templating import Templates

__all__ = ["add_actors_page"]

_STATIC = Path(__file__).parent / "static"


def add_actors_page(address: str | Address = "auto", *, keeps: float = 60.0) -> None:
    """Add the Actors page to the Flower that this process is about to start.

    Args:
        address: the cluster's store; ``"auto"``: your newest local cluster.
        keeps: seconds for which an actor that has ended stays in the list.

    Raises:
        ConfigurationError: it is no address. ClusterUnreachableError: no local cluster runs.
    """
    if not isinstance(address, Address):
        address = newest_address() if address == "auto" else Address.parse(address)
    known = {"board": Board(Store(address, retries=0, patience=3), keeps=keeps)}
    settings["template_loader"] = Templates(settings["template_path"])
    ours = [
        url(r"/actors", pages.ActorsPage, known, name="actors"),
        url(r"/actors/data", pages.ActorsData, known, name="actors-data"),
        url(r"/actors/static/(.*)", pages.Asset, {"path": _STATIC}, name="actors-static"),
        url(r"/actor/([^/]+)", pages.ActorPage, known, name="actor"),
        url(r"/actor/([^/]+)/data", pages.ActorData, known, name="actor-data"),
        url(r"/api/queues/length", pages.QueueLengths, known),
    ]
    # Named handlers of Flower's are replaced in place: a name is there once.
    for number, handler in enumerate(handlers):
        if getattr(handler, "name", None) == "broker":
            handlers[number] = url(r"/broker", pages.BrokerPage, known, name="broker")
    handlers[:0] = ours
