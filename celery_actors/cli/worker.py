"""``celery_actors worker``."""

from __future__ import annotations

import json
import os
import sys

import click

from ..config import resolve_keys
from ..errors import ConfigurationError
from .reach import address_option, find_address, key_file_option

__all__ = ["worker"]

#: The part of a machine's memory that a node gives to work where it is not told otherwise, as Ray.
MEMORY_SHARE = 0.7


@click.command()
@address_option
@click.option("--num-cpus", type=click.FloatRange(min=0), help="Default: the processors found.")
@click.option("--num-gpus", type=click.IntRange(min=0), help="Default: the NVIDIA GPUs found.")
@click.option("--memory", type=click.IntRange(min=0), help="Bytes for work; default: 70 % of all.")
@click.option("--resources", default="{}", metavar="JSON", help="Others, like '{\"ssd\": 2}'.")
@click.option("--labels", default="", help="Like zone=a,disk=ssd, for label_selector; or JSON.")
@click.option("-A", "--app", default="", help="Your Celery app: its tasks run here, too.")
@click.option("-n", "--hostname", help="This node's name; default: the machine's.")
@click.option("-E", "--task-events", is_flag=True, help="Send an event for every call.")
@click.option("--preload", multiple=True, metavar="MODULE", help="Import before forking workers.")
@key_file_option
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
    from .. import gpu
    from ..machine import available_cpus, available_memory
    from ..node.start import run_node
    from ..node.supervisor import SupervisorOptions
    from ..resource_options import check_resources
    from ..store import Store

    try:
        custom = json.loads(resources)
        check_resources("--resources", custom)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"--resources: {error}") from None
    found = find_address(address)
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


def _labels(text: str) -> dict[str, str]:
    """Read labels from ``zone=a,disk=ssd`` or from JSON."""
    from ..labels import check_labels

    try:
        if text.startswith("{"):
            found: dict[str, str] = json.loads(text)
        else:
            found = dict(pair.split("=", 1) for pair in text.split(",") if pair)
        check_labels("--labels", found)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"--labels {text}: write name=value,… ({error})") from None
    return found
