"""The command line: ``celery_actors worker``, ``status``, ``doctor``, ``drain``, ``keygen``."""

from __future__ import annotations

import json
import os
import sys

import click

from .config import ADDRESS_VARIABLE, Address, new_key, resolve_keys
from .errors import ClusterUnreachableError, ConfigurationError, NodeDiedError

__all__ = ["main"]


def _address(given: str | None) -> Address:
    if given and given != "auto":
        return Address.parse(given)
    from .embedded import newest_address

    return newest_address()


def _labels(text: str) -> dict[str, str]:
    """Read labels from ``zone=a,disk=ssd`` or from JSON."""
    from .labels import check_labels

    try:
        if text.startswith("{"):
            found: dict[str, str] = json.loads(text)
        else:
            found = dict(pair.split("=", 1) for pair in text.split(",") if pair)
        check_labels("--labels", found)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"--labels {text}: write name=value,… ({error})") from None
    return found


_address_option = click.option(
    "--address", envvar=ADDRESS_VARIABLE, metavar="URL",
    help="redis://host:6379/0, rediss://…, sentinel://host:26379/name/0, unix:///path; default: "
    "your newest local cluster.",
)  # fmt: skip


#: The part of a machine's memory that a node gives to work where it is not told otherwise, as Ray.
MEMORY_SHARE = 0.7


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="celery-actors")
def cli() -> None:
    """Stateful actors and remote functions for Celery."""


@cli.command()
def keygen() -> None:
    """Print a fresh signing key for CELERY_ACTORS_KEYS.

    Put new keys first, old ones after them, separated by commas: nodes sign with the first and
    accept all.
    """
    click.echo("# Set CELERY_ACTORS_KEYS to this on every node and driver:", err=True)
    click.echo(new_key())


@cli.command()
@_address_option
@click.option("--num-cpus", type=click.FloatRange(min=0), help="Default: the processors found.")
@click.option("--num-gpus", type=click.IntRange(min=0), help="Default: the NVIDIA GPUs found.")
@click.option("--memory", type=click.IntRange(min=0), help="Bytes for work; default: 70 % of all.")
@click.option("--resources", default="{}", metavar="JSON", help="Others, like '{\"ssd\": 2}'.")
@click.option("--labels", default="", help="Like zone=a,disk=ssd, for label_selector; or JSON.")
@click.option("-A", "--app", default="", help="Your Celery app: its tasks run here, too.")
@click.option("-n", "--hostname", help="This node's name; default: the machine's.")
@click.option("-E", "--task-events", is_flag=True, help="Send an event for every call.")
@click.option("--preload", multiple=True, metavar="MODULE", help="Import before forking workers.")
@click.option("--key-file", type=click.Path(exists=True, dir_okay=False))
@click.option("--insecure", is_flag=True, help="Run without a key, on loopback only.")
@click.option("--result-seconds", default=24 * 3600, show_default=True)
@click.option("--lifeline-fd", type=int, hidden=True)
@click.option("--ready-fd", type=int, hidden=True)
def worker(
    address: str | None, num_cpus: float | None, num_gpus: int | None, memory: int | None,
    resources: str, labels: str, app: str, hostname: str | None, task_events: bool,
    preload: tuple[str, ...], key_file: str | None, insecure: bool, result_seconds: int,
    lifeline_fd: int | None, ready_fd: int | None,
) -> None:  # fmt: skip
    """Run a node of a cluster until SIGTERM or Ctrl-C.

    Example: celery_actors worker --address redis://10.0.0.5:6379/0 --num-cpus 8
    """
    from . import gpu
    from .machine import available_cpus, available_memory
    from .node.start import run_node
    from .node.supervisor import SupervisorOptions
    from .resource_options import check_resources
    from .store import Store

    try:
        custom = json.loads(resources)
        check_resources("--resources", custom)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"--resources: {error}") from None
    found = _address(address)
    ring = resolve_keys(found, key_file=key_file, insecure=insecure)
    if lifeline_fd is None:
        click.echo(f"node on {found.public} (server {Store.probe(found)})", err=True)
    for fd in (lifeline_fd, ready_fd):
        if fd is not None:
            os.set_inheritable(fd, False)
    # A driver's key must not reach user code's children through the environment.
    os.environ.pop("CELERY_ACTORS_KEYS", None)
    options = SupervisorOptions(
        num_cpus=available_cpus() if num_cpus is None else num_cpus,
        devices=gpu.found() if num_gpus is None else gpu.logical(num_gpus),
        memory=int(available_memory() * MEMORY_SHARE) if memory is None else memory,
        resources=custom, labels=_labels(labels), lifeline=lifeline_fd, ready=ready_fd,
    )  # fmt: skip
    sys.exit(
        run_node(
            found, ring, options, host=hostname, preload=preload, task_events=task_events,
            result_seconds=result_seconds, user_app=app,
        )
    )  # fmt: skip


@cli.command()
@_address_option
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def status(address: str | None, as_json: bool) -> None:
    """Show the nodes of a cluster, their devices and who holds them, and the actors."""
    from .status import collect, show
    from .store import Store

    found = _address(address)
    state = collect(Store(found, retries=0, patience=3))
    if as_json:
        click.echo(json.dumps(state))
        return
    show(state, found.public)


@cli.command()
@_address_option
@click.option("--key-file", type=click.Path(exists=True, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def doctor(address: str | None, key_file: str | None, as_json: bool) -> None:
    """Check a store: does it answer, may it lose anything, is there a key, do the clocks agree?

    The exit status is 1 where something is wrong.
    """
    from . import doctor as checks

    findings = checks.collect(_address(address), key_file)
    if as_json:
        click.echo(json.dumps(checks.as_json(findings)))
    else:
        checks.show(findings)
    sys.exit(not checks.is_well(findings))


@cli.command()
@click.argument("node")
@_address_option
@click.option(
    "--timeout",
    default=600.0,
    show_default=True,
    help="Seconds.",
    type=click.FloatRange(min=0, max=30 * 24 * 3600),
)
@click.option("--wait/--no-wait", default=True, help="Wait until the node has gone.")
def drain(node: str, address: str | None, timeout: float, wait: bool) -> None:
    """Have NODE (its id, or its host) end without losing work.

    It takes no new work and lets running calls finish. Actors with restarts left move to other
    nodes, with the calls that wait for them. An actor that cannot restart serves until the timeout,
    and so may a running call; then both are ended.
    """
    from . import drain as draining
    from .store import Store

    store = Store(_address(address))
    found = draining.find_node(store, node)
    stays = draining.what_stays(store, found.node_id)
    if stays:
        click.echo(
            f"cannot move, and may serve for {timeout:g} s: {', '.join(stays)} (max_restarts)",
            err=True,
        )
    draining.drain(
        store, found.node_id, timeout, wait=wait, say=lambda text: click.echo(text, err=True)
    )
    click.echo(f"{found.node_id} has {'gone' if wait else 'begun to drain'}")


def main() -> None:
    """Run the command line; an expected error is one line and exit status 1."""
    try:
        cli()
    except (ConfigurationError, ClusterUnreachableError, NodeDiedError) as error:
        click.echo(f"celery_actors: {error}", err=True)
        sys.exit(1)
