"""Steps of durable actors' calls: made once, given again, refused where a run differs."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from celery_actors.errors import NonDeterminismError, SerializationError
from celery_actors.recording import Recorder, ctx


def recorder(kept: dict[str, bytes], *, journaled: bool = True) -> Recorder:
    return Recorder(kept.__setitem__, dict(kept), journaled=journaled)


def fail() -> None:
    raise KeyError("outside")


def test_a_call_that_runs_once_more_is_given_what_it_was_given() -> None:
    first = recorder({})
    with first.call("call", (1, 1)):
        given: list[Any] = [ctx.now(), ctx.random(), ctx.uuid4(), ctx.run(len, "four")]
        with pytest.raises(KeyError):
            ctx.run(fail)
        assert ctx.token == (1, 1)

    again = recorder({})
    with again.call("call", (2, 1), past=first.steps):
        assert [ctx.now(), ctx.random(), ctx.uuid4(), ctx.run(len, "other")] == given
        with pytest.raises(KeyError, match="outside"):
            ctx.run(len, "it fails as it did")
    assert again.steps == first.steps


def test_a_run_that_takes_another_way_is_refused() -> None:
    first = recorder({})
    with first.call("call", (1, 1)):
        ctx.now()

    with recorder({}).call("call", (2, 1), past=first.steps):
        with pytest.raises(NonDeterminismError, match="step 0 is random, and was now before"):
            ctx.random()
        ctx.now()
        with pytest.raises(NonDeterminismError, match=r"step 1 \(now\) was not made"):
            ctx.now()


def test_what_was_done_outside_is_not_done_again_before_its_call_commits() -> None:
    kept: dict[str, bytes] = {}
    done: list[int] = []
    with recorder(kept, journaled=False).call("call", (1, 1)):
        assert ctx.run(done.append, 1) is None
        ctx.now()
    assert list(kept) == ["call.0"]

    after = recorder(kept, journaled=False)
    with after.call("call", (2, 1)):
        ctx.run(done.append, 1)
    assert done == [1]
    assert after.left("call") == ["call.0"]
    assert after.left("call") == []


def test_a_step_inside_a_step_is_part_of_it() -> None:
    found = recorder({})
    with found.call("call", (1, 1)):
        ctx.run(ctx.now)
    assert len(found.steps) == 1


def test_what_cannot_be_recorded_is_refused() -> None:
    with (
        recorder({}).call("call", (1, 1)),
        pytest.raises(SerializationError, match="what run gave"),
    ):
        ctx.run(threading.Lock)


def test_elsewhere_the_outside_is_just_that() -> None:
    assert ctx.run(len, "four") == 4
    assert 0 <= ctx.random() < 1
    with pytest.raises(RuntimeError, match="methods of durable actors"):
        _ = ctx.token
