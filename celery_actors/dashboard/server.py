"""Starts Flower against a cluster, with defaults that are safe where others reach the machine."""

from __future__ import annotations

import atexit
import logging
import signal
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

from flower import command
from flower.app import Flower
from flower.options import options
from flower.urls import handlers, settings
from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler, url

from ..broker.app import make_viewer
from ..config import Address
from ..errors import ConfigurationError
from ..store import Store
from .install import add_actors_page
from .pages import GuardedMetrics

__all__ = ["reach_problem", "serve"]

logger = logging.getLogger(__name__)

#: Seconds after which a worker that has gone leaves Flower's list of workers.
PURGE_SECONDS = 60


def serve(
    address: Address, own: Sequence[str], *, logins: Sequence[str] = (), control: bool = False,
    open_metrics: bool = False, hosts: Sequence[str] = (),
) -> None:  # fmt: skip
    """Serve Flower's pages and ours until SIGTERM or Ctrl-C.

    Args:
        address: the cluster's store.
        own: options of Flower's, as ``--name=value``.
        logins: who may see the pages, as ``name:password``.
        control: let the pages stop workers, revoke calls and send tasks.
        hosts: other names by which browsers may reach pages that ask nobody who is there.
        open_metrics: let anybody read ``/metrics``, also where the pages ask who is there.

    Raises:
        ConfigurationError: an option is unknown, or the pages would be open to strangers.
        ClusterUnreachableError: no store answers there.
    """
    _read_options(own, logins, read_only=not control)
    if problem := reach_problem(options):
        raise ConfigurationError(problem)
    if control and not (options.basic_auth or options.auth):
        raise ConfigurationError(
            "--control lets the pages stop workers and send calls, so they must know who asks: "
            "give FLOWER_BASIC_AUTH=name:password, --basic-auth, or Flower's --auth"
        )
    version = Store.probe(address)
    command.extract_settings()
    command.setup_logging()
    add_actors_page(address, keeps=options.purge_offline_workers)
    if not open_metrics:
        handlers.insert(0, url(r"/metrics", GuardedMetrics))
    app = make_viewer(address)
    flower = GuardedFlower(capp=app, options=options, **settings)
    flower.names = {*flower.names, *hosts}
    atexit.register(flower.stop)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    port = flower.start_http_server()
    secure = "s" if "ssl_options" in settings else ""
    prefix = f"/{options.url_prefix.strip('/')}" if options.url_prefix else ""
    host = f"[{options.address}]" if ":" in options.address else options.address
    where = options.unix_socket or f"http{secure}://{host}:{port}{prefix}"
    logger.warning(
        "Flower serves %s (server %s) at %s; the Actors page is %s/actors",
        address.public, version, where, prefix,
    )  # fmt: skip
    try:
        flower.start()
    except (KeyboardInterrupt, SystemExit):
        logger.info("Flower ends")


class GuardedFlower(Flower):
    """Flower that answers only to this machine's own names, as long as it has no password.

    Else a page of a stranger's could have its own name mean 127.0.0.1, and have the browser of
    somebody on this machine read these pages for it.
    """

    names: frozenset[str] | set[str] = frozenset({"127.0.0.1", "localhost", "::1"})

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        """Return what answers a request."""
        name = request.host_name.strip("[]").lower()
        given = self.options
        if given.basic_auth or given.auth or given.unix_socket or name in self.names:
            return super().find_handler(request, **kwargs)
        return self.get_handler_delegate(request, Stranger, {})


class Stranger(RequestHandler):
    """The answer to a browser that came by another name."""

    def prepare(self) -> None:
        """Say why, and what to do."""
        self.set_status(403)
        self.set_header("Content-Type", "text/plain; charset=UTF-8")
        self.finish(
            "Without a password these pages answer to 127.0.0.1 and localhost only. Start "
            "celery_actors flower with --trust-host and this name, or with a password.\n"
        )


def _read_options(own: Sequence[str], logins: Sequence[str], *, read_only: bool) -> None:
    """Take in Flower's options: our defaults, then its environment, its file and its words."""
    for word in own:
        if not word.startswith("-") or not command.is_flower_option(word):
            raise ConfigurationError(
                f"{word!r} is no option of Flower's, in the form --name=value: see its "
                "documentation, and `celery_actors flower --help` for ours"
            )
    options.address = "127.0.0.1"
    options.purge_offline_workers = PURGE_SECONDS
    command.apply_env_options()
    command.apply_options("celery_actors flower", [*own, f"--read_only={read_only}"])
    if logins:
        options.basic_auth = list(logins)  # as they are: Flower's own reading splits at commas
    for login in options.basic_auth or ():
        name, colon, password = login.partition(":")
        if not (name and colon and password):
            raise ConfigurationError("a login of --basic-auth is not of the form name:password")


def reach_problem(given: Any) -> str:
    """Return why pages with these options would be open to other machines; '' if they are not."""
    if given.unix_socket or given.basic_auth or given.auth or _is_loopback(given.address):
        return ""
    return (
        f"Flower on {given.address or 'every address'} would show this cluster to everybody who can"
        " reach it. Give FLOWER_BASIC_AUTH=name:password, --basic-auth, or Flower's --auth; or "
        "leave --host out: then only this machine reaches it"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # '' is every address; a name may come to mean any
        return False
