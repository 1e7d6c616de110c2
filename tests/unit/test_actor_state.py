"""A state in the store as others see it."""

from __future__ import annotations

import pytest

from celery_actors.actor_state import ActorState, ties_of
from celery_actors.serialization import SIGNATURE_BYTES, Sealer


class Counter:
    count = 0


def test_the_ties_of_a_state_are_read_without_unpickling_it(sealer: Sealer) -> None:
    state = ActorState(Counter, "id", "actor Counter", sealer)

    assert ties_of(state.sign(b"no pickle", ["thing a:id:"])) == ["thing a:id:"]


@pytest.mark.parametrize(
    "header",
    [b"", b"{", b"[]", b'{"h":7}', b'{"h":["\xff"]}', b'{"x":' + b"[" * 100_000],
    ids=["empty", "cut", "a list", "no ties", "no text", "deep"],
)
def test_what_a_stranger_has_written_has_no_ties(header: bytes) -> None:
    """Its actor is buried all the same."""
    assert ties_of(b"0" * SIGNATURE_BYTES + header + b"\npickle") == []
