"""The address of this machine, as programs hand it to what they start themselves."""

from __future__ import annotations

from .. import runtime
from ..network import own_ip

__all__ = ["get_node_ip_address"]


def get_node_ip_address(address: str = "") -> str:  # noqa: ARG001 - Ray's signature
    """Return this machine's address on the way to the store; a loopback one where that is local.

    ``address`` is what Ray's function tries to reach, and has no use here.
    """
    return own_ip(runtime.current().address)
