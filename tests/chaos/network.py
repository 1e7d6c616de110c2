"""A small network of this machine's own: a bridge, and a namespace for each node.

A node in its namespace reaches nothing but the store, and can be cut off from it: a port of the
bridge that is disabled drops what comes and what goes, as a pulled cable would, and a blackhole
route drops one direction. Nothing tells either side, and what was sent comes late, after the heal.
Needs root and ``ip`` of iproute2; ``tc netem`` is not needed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["CUTS", "Network", "NoNetworkError", "network"]

#: How a node can be cut off: from everything, from what it is told, from telling others.
CUTS = ("both ways", "deaf", "mute")
_FORWARDING = "3"  # the states of a bridge's port, as the kernel numbers them
_DISABLED = "0"


class NoNetworkError(Exception):
    """Raised when this machine or this user may not make namespaces and bridges."""


@dataclass
class Network:
    """One bridge and the namespaces on it."""

    tag: str
    subnet: str  # the first three parts of its addresses
    places: list[str]

    @property
    def address(self) -> str:
        """The address of this machine on the bridge: where the store listens."""
        return f"{self.subnet}.1"

    def make(self) -> None:
        """Make the bridge and the namespaces."""
        _ip("link", "add", self.tag, "type", "bridge")
        _ip("addr", "add", f"{self.address}/24", "dev", self.tag)
        _ip("link", "set", self.tag, "up")
        for number, place in enumerate(self.places):
            port = self._port(number)
            _ip("netns", "add", place)
            _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", place)
            _ip("link", "set", port, "master", self.tag, "up")
            _ip("-n", place, "addr", "add", f"{self._address_of(number)}/24", "dev", "eth0")
            _ip("-n", place, "link", "set", "eth0", "up")
            _ip("-n", place, "link", "set", "lo", "up")

    def remove(self) -> None:
        """Remove what was made of it, whatever stands of it."""
        words: list[tuple[str, ...]] = []
        for number, place in enumerate(self.places):
            words += [
                ("link", "del", self._port(number)),
                ("netns", "del", place),
                ("route", "del", "blackhole", f"{self._address_of(number)}/32"),
            ]
        for each in [*words, ("link", "del", self.tag)]:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                _ip(*each)

    def words(self, number: int) -> list[str]:
        """Return what stands before a command that is to run in a namespace."""
        return ["ip", "netns", "exec", self.places[number]]

    def cut(self, number: int, how: str) -> None:
        """Cut a namespace off: see ``CUTS``."""
        self._change(number, how, _DISABLED, "add")

    def heal(self, number: int, how: str) -> None:
        """Undo a cut."""
        self._change(number, how, _FORWARDING, "del")

    def _change(self, number: int, how: str, state: str, verb: str) -> None:
        if how == "both ways":
            _ip("link", "set", "dev", self._port(number), "type", "bridge_slave", "state", state)
        elif how == "deaf":
            _ip("route", verb, "blackhole", f"{self._address_of(number)}/32")
        else:
            _ip("-n", self.places[number], "route", verb, "blackhole", f"{self.address}/32")

    def _port(self, number: int) -> str:
        return f"{self.tag}p{number}"

    def _address_of(self, number: int) -> str:
        return f"{self.subnet}.{number + 2}"


@contextlib.contextmanager
def network(places: int) -> Iterator[Network]:
    """Make a bridge that nobody else has, with namespaces on it; remove all of it at the end.

    Raises:
        NoNetworkError: it cannot be made here.
    """
    tag = f"ca{os.getpid()}"
    found = Network(tag, f"10.213.{os.getpid() % 250}", [f"{tag}n{n}" for n in range(places)])
    try:
        try:
            found.make()
        except (OSError, subprocess.SubprocessError) as error:
            told = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
            raise NoNetworkError(f"no network of one's own: {str(told).strip()}") from None
        yield found
    finally:
        found.remove()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=10)
