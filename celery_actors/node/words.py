"""What others say to a node on its channels, read with care: anybody may publish there."""

from __future__ import annotations

import logging
import math

import msgspec

from .. import routing
from ..unreadable import UNREADABLE

__all__ = ["Cancellation", "cancellation", "drain_seconds"]

logger = logging.getLogger(__name__)


class Cancellation(msgspec.Struct):
    """A call that is to be stopped."""

    queues: list[str]  # where the call may be
    cancel: str  # the call's id
    force: bool
    recursive: bool
    channel: str  # where to answer
    once: str = ""  # the same where it is only said again


_decode_cancellation = msgspec.json.Decoder(Cancellation).decode


def cancellation(word: bytes) -> Cancellation | None:
    """Read the request to stop a call; None where it is none."""
    try:
        return _decode_cancellation(word)
    except UNREADABLE as error:
        logger.warning("a word to this node is not what belongs there: %s", error)
        return None


def drain_seconds(word: bytes) -> float | None:
    """Read the request to drain: the patience in seconds; None where it is none."""
    try:
        seconds = float(word.removeprefix(routing.DRAIN.encode()))
    except ValueError:
        seconds = math.nan
    if not 0.0 <= seconds < math.inf:
        logger.warning("a word to this node is not what belongs there: %r", word[:100])
        return None
    return seconds
