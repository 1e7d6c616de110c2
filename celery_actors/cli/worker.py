"""``celery_actors worker``."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from .. import log_format
from ..config import KEYS_VARIABLE, Address, resolve_keys
from ..errors import ConfigurationError
from ..watching import Watching
from .examples import examples
from .identity import take_identity
from .node_options import check_queues, cpus, labels, memory_size, node_name
from .pidfile import pidfile
from .reach import address_option, checked, find_address, given_app, is_local, key_file_option
from .watching_options import watching_options

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["worker"]

#: The part of a machine's memory that a node gives to work where it is not told otherwise, as Ray.
MEMORY_SHARE = 0.7
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


@click.command(
    epilog=examples(
        "celery_actors worker --address redis://10.0.0.5:6379/0 --num-cpus 8",
        "celery_actors worker -A proj -Q celery,mail --concurrency 4 -E -l info",
        "celery -A proj actors worker --num-gpus 1",
        "celery_actors worker --max-memory-per-actor 2G --pidfile /run/actors/node.pid",
    )
)
@address_option
@click.option("--num-cpus", type=click.FloatRange(min=0), help="Default: the processors found.")
@click.option(
    "-c", "--concurrency", type=click.IntRange(min=0), metavar="N",
    help="The same as --num-cpus N: so many calls of one CPU run at a time, each in a process. "
    "With -Q also the processes of that Celery worker; they are not counted among the node's CPUs, "
    "which --num-cpus may say apart.",
)  # fmt: skip
@click.option("--num-gpus", type=click.IntRange(min=0), help="Default: the NVIDIA GPUs found.")
@click.option("--memory", type=click.IntRange(min=0), help="Bytes for work; default: 70 % of all.")
@click.option("--resources", default="{}", metavar="JSON", help="Others, like '{\"ssd\": 2}'.")
@click.option("--labels", "label_text", default="", metavar="LABELS",
              help="Like zone=a,disk=ssd, for label_selector; or JSON.")  # fmt: skip
@click.option(
    "-A", "--app", default="",
    help="Your Celery app: its tasks run here, too, where they are sent to queues of "
    "celery_actors. Without --address its broker is the address.",
)  # fmt: skip
@click.option(
    "-Q", "--queues", default="", metavar="NAMES",
    help="Queues of your Celery app to serve, too, with commas between them. A Celery worker of "
    "the app runs beside the node for them, and ends with it: retries, chains and eta are "
    "Celery's own.",
)  # fmt: skip
@click.option(
    "-n", "--hostname", metavar="NAME",
    help="This node's name; default: the machine's. %h, %n and %d are as in Celery.",
)  # fmt: skip
@click.option("-E", "--task-events", is_flag=True, help="Send an event for every call.")
@click.option(
    "--hide-arguments",
    is_flag=True,
    envvar="CELERY_ACTORS_HIDE_ARGUMENTS",
    help="Leave arguments and results out of these events.",
)
@click.option(
    "-l", "--loglevel", default="INFO", show_default=True,
    type=click.Choice(_LEVELS, case_sensitive=False), help="What the node and its workers log.",
)  # fmt: skip
@watching_options
@click.option("--preload", multiple=True, metavar="MODULE", help="Import before forking workers.")
@click.option(
    "--max-memory-per-actor", metavar="SIZE",
    help="Bytes, or like 512M or 2G: an actor whose process has more memory of its own (shared "
    "memory does not count) is ended, and restarts by its max_restarts. It is looked at each "
    "second.",
)  # fmt: skip
@click.option(
    "--pidfile", "pid_path", type=click.Path(dir_okay=False), metavar="FILE",
    help="Holds the node's process id while it runs. Refused where it names one that runs.",
)  # fmt: skip
@click.option("--uid", metavar="USER", help="Run as this user (name or number); root only.")
@click.option("--gid", metavar="GROUP", help="Run as this group; default: the user's.")
@key_file_option
@click.option("--insecure", is_flag=True, help="Run without a key, on loopback only.")
@click.option("--result-seconds", default=24 * 3600, show_default=True)
@click.option("--lifeline-fd", type=int, hidden=True)
@click.option("--ready-fd", type=int, hidden=True)
def worker(
    address: str | None, num_cpus: float | None, concurrency: int | None, num_gpus: int | None,
    memory: int | None, resources: str, label_text: str, app: str, queues: str,
    hostname: str | None, task_events: bool, hide_arguments: bool, loglevel: str,
    preload: tuple[str, ...],
    max_memory_per_actor: str | None, pid_path: str | None, uid: str | None, gid: str | None,
    key_file: str | None, insecure: bool, result_seconds: int, lifeline_fd: int | None,
    ready_fd: int | None, watching: Watching,
) -> None:  # fmt: skip
    """Run a node of a cluster until SIGTERM or Ctrl-C.

    It starts a process for each actor and each running function, as far as its resources go.
    """
    from ..resource_options import check_resources

    try:
        custom = json.loads(resources)
        check_resources("--resources", custom)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"--resources: {error}") from None
    level, app = loglevel.upper(), app or _app_of_celery()
    names = check_queues(queues, app)
    total, name = cpus(num_cpus, concurrency, has_queues=bool(names)), node_name(hostname)
    limit = memory_size("--max-memory-per-actor", max_memory_per_actor)
    take_identity(uid, gid)
    found = _address(address, app, has_queues=bool(names))
    ring = resolve_keys(found, key_file=key_file, insecure=insecure)
    if lifeline_fd is None:
        _say(f"node on {found.public} (server {checked(found)})", watching, name)
    from .. import gpu
    from ..embedded import folder_of
    from ..machine import available_memory
    from ..node.start import run_node
    from ..node.supervisor import SupervisorOptions

    for fd in (lifeline_fd, ready_fd):
        if fd is not None:
            os.set_inheritable(fd, False)
    environ = dict(os.environ)
    # A driver's key must not reach user code's children through the environment.
    os.environ.pop(KEYS_VARIABLE, None)
    options = SupervisorOptions(
        num_cpus=total, devices=gpu.found() if num_gpus is None else gpu.logical(num_gpus),
        memory=int(available_memory() * MEMORY_SHARE) if memory is None else memory,
        resources=custom, labels=labels(label_text), lifeline=lifeline_fd, ready=ready_fd,
        memory_per_actor=limit, beside_environ=environ, folder=folder_of(found),
        beside=_beside(app, names, name, level, concurrency, task_events),
    )  # fmt: skip
    with pidfile(pid_path) if pid_path else contextlib.nullcontext():
        status = run_node(
            found, ring, options, host=name, preload=preload, task_events=task_events,
            result_seconds=result_seconds, user_app=app, level=level, watching=watching,
            show_arguments=not hide_arguments,
        )  # fmt: skip
    sys.exit(status)


def _say(text: str, watching: Watching, name: str) -> None:
    """Tell where the node is: a line of the log where every line is to be JSON."""
    if watching.log_format == "text":
        click.echo(text, err=True)
        return
    log_format.set_up("json", {"node": name}, (), level="INFO")
    logging.getLogger(__name__).info(text)


def _app_of_celery() -> str:
    """Return the name of the app in ``celery -A app actors worker``; '' for none."""
    app: Any = click.get_current_context().find_root().params.get("app")
    return app if isinstance(app, str) and given_app() is not None else ""


def _address(given: str | None, app: str, *, has_queues: bool) -> Address:
    """Return the store's address: as told, else the broker of the app, else the local cluster's.

    Raises:
        ConfigurationError: the app cannot be imported, or its broker is no store.
        ClusterUnreachableError: nothing was named, and no local cluster runs.
    """
    from ..broker.app_address import address_of_app

    needed = is_local(given) and not given
    if not app or given_app() is not None or not (needed or has_queues):
        return find_address(given, sure=True)
    of_app = address_of_app(app, needed=needed)
    return of_app if needed and of_app is not None else find_address(given, sure=True)


def _beside(
    app: str, queues: Sequence[str], name: str, level: str, concurrency: int | None,
    task_events: bool,
) -> list[str]:  # fmt: skip
    from ..broker.beside import celery_command

    return celery_command(
        app, queues, parent=os.getpid(), host=name, level=level, concurrency=concurrency,
        task_events=task_events,
    ) if queues else []  # fmt: skip
