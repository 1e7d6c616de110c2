"""What the options of a node say: checked before anything is started."""

from __future__ import annotations

import json
import re
import socket

from ..errors import ConfigurationError

__all__ = ["check_queues", "cpus", "labels", "memory_size", "node_name"]

_SIZES = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def check_queues(text: str, app: str) -> list[str]:
    """Read the names of Celery queues.

    Raises:
        ConfigurationError: there is no app that they could be of; or they are ours.
    """
    found = [name for name in (each.strip() for each in text.split(",")) if name]
    if found and not app:
        raise ConfigurationError("-Q names queues of a Celery app: say which app with -A")
    if ours := [name for name in found if name.startswith("ca.")]:
        raise ConfigurationError(
            f"-Q {', '.join(ours)}: queues of celery_actors are served by every node that has what "
            "their calls need. -Q is for those of your Celery app"
        )
    return found


def cpus(num_cpus: float | None, concurrency: int | None, *, has_queues: bool) -> float:
    """Return the CPUs of a node.

    Raises:
        ConfigurationError: both are given, and differ, and there is no Celery worker for the other.
    """
    from ..machine import available_cpus

    if None not in (num_cpus, concurrency) and num_cpus != concurrency and not has_queues:
        raise ConfigurationError(
            f"--concurrency {concurrency} is the same as --num-cpus {concurrency}, and --num-cpus "
            f"{num_cpus:g} is given, too: leave one out"
        )
    given = concurrency if num_cpus is None else num_cpus
    return available_cpus() if given is None else given


def labels(text: str) -> dict[str, str]:
    """Read labels from ``zone=a,disk=ssd`` or from JSON.

    Raises:
        ConfigurationError: they are neither.
    """
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


def memory_size(option: str, text: str | None) -> int:
    """Read a size in bytes from ``1000000``, ``512M`` or ``2GiB``; 0 for none.

    Raises:
        ConfigurationError: it is none of these, or less than a megabyte.
    """
    if text is None:
        return 0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    size = int(float(match[1]) * _SIZES[match[2].upper()]) if match else 0
    if size < 2**20:
        raise ConfigurationError(f"{option} {text}: write bytes, or a size like 512M or 2G")
    return size


def node_name(text: str | None) -> str:
    """Return a node's name from what Celery's ``-n`` takes: ``%h`` is this machine's name.

    ``%n`` is its first part, ``%d`` the rest; of ``a@b`` the node is called ``a.b``.
    """
    host = socket.gethostname()
    if not text:
        return host
    first, _, domain = host.partition(".")
    for mark, meant in (("%h", host), ("%n", first), ("%d", domain)):
        text = text.replace(mark, meant)
    return text.replace("@", ".")
