"""``ctx``: what is not deterministic in a durable actor's calls, made once and given again.

A call of a durable actor may run more than once until it commits, and, where its state is kept as a
journal, once more in each recovery. What it takes from outside is a *step*: recorded with the call
when it is made, and given from the record when the call runs again.

The outcome of ``ctx.run`` is stored at once, so a call that runs again after a crash does not do it
again. Steps of the other kinds are recorded in journals only, and committed with their call.
"""

from __future__ import annotations

import pickle
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from .contents import collecting
from .errors import NonDeterminismError, SerializationError
from .pickling import dumps

__all__ = ["Context", "Recorder", "ctx", "step"]

T = TypeVar("T")
Keep = Callable[[str, bytes], None]


class Recorder:
    """Records the steps of one actor's calls, one call at a time.

    Args:
        keep: stores the outcome of an outside step at once, under a name.
        kept: what was stored so of calls that have not committed.
        journaled: every step is recorded, not only those outside.
    """

    def __init__(self, keep: Keep, kept: Mapping[str, bytes], *, journaled: bool) -> None:
        self._keep = keep
        self._kept = dict(kept)
        self.journaled = journaled
        self.token = (0, 0)
        self.steps: list[bytes] = []  # of the running call
        self.things: dict[str, None] = {}  # what they refer to (see ``contents``)
        self._call_id = ""
        self._past: Sequence[bytes] | None = None  # the steps of a call that is run once more
        self._within = False  # a step is being made

    @contextmanager
    def call(
        self, call_id: str, token: tuple[int, int], past: Sequence[bytes] | None = None
    ) -> Iterator[None]:
        """Stand around one run of a call; ``past``: it ran before, and these were its steps."""
        global current  # noqa: PLW0603 - one actor lives in a process
        around = (self._call_id, self.token, self._past), current
        self._call_id, self.token, self._past = call_id, token, past
        current = self
        self.begin()
        try:
            yield
        finally:
            (self._call_id, self.token, self._past), current = around

    def begin(self) -> None:
        """Forget the steps of the run before: the call runs from its beginning."""
        self.steps, self.things = [], {}

    def left(self, call_id: str) -> list[str]:
        """Return the names of what is stored of a call that ends now."""
        names = [name for name in self._kept if name.startswith(f"{call_id}.")]
        for name in names:
            del self._kept[name]
        return names

    def step(self, kind: str, make: Callable[[], T], *, outside: bool = False) -> T:
        """Make a step, or give what it gave when this call ran before.

        Raises:
            NonDeterminismError: the call took another way then. SerializationError: what the step
                gave cannot be recorded.
        """
        if self._within or not (self.journaled or outside):
            return make()
        number = len(self.steps)
        name = f"{self._call_id}.{number}"
        if self._past is not None:
            if number >= len(self._past):
                raise NonDeterminismError(f"step {number} ({kind}) was not made by the first run")
            return cast("T", self._again(kind, self._past[number]))
        if name in self._kept:
            return cast("T", self._again(kind, self._kept[name]))
        self._within = True
        try:
            value: Any = make()
            good = True
        except Exception as error:  # noqa: BLE001 - what it raised is what it gave
            value, good = error, False
        finally:
            self._within = False
        try:
            with collecting() as things:
                data = dumps((kind, good, value))
        except Exception as error:
            raise SerializationError(
                f"what {kind} gave cannot be recorded: {error}. Return what can be pickled"
            ) from error
        self.things.update(things)
        self.steps.append(data)
        if outside and good:  # what failed may be tried again
            self._keep(name, data)
            self._kept[name] = data
        if not good:
            raise value
        return cast("T", value)

    def _again(self, kind: str, data: bytes) -> Any:
        recorded, good, value = pickle.loads(data)  # noqa: S301 - signed by us, verified when read
        if recorded != kind:
            number = len(self.steps)
            raise NonDeterminismError(f"step {number} is {kind}, and was {recorded} before")
        self.steps.append(data)
        if not good:
            raise value
        return value


#: Records what the running call takes from outside; None: nothing does.
current: Recorder | None = None


def step(kind: str, make: Callable[[], T]) -> T:
    """Take something from outside the running call: recorded where its actor keeps a journal."""
    recorder = current
    return make() if recorder is None else recorder.step(kind, make)


class Context:
    """The outside world, as methods of durable actors should see it. Elsewhere it is just that.

    What ``now``, ``random``, ``uuid4`` and ``run`` give is the same when a call of an actor with
    ``durable="journal"`` runs again; ``run`` is so for ``durable="state"``, too.
    """

    def now(self) -> float:
        """Return the time in seconds since 1970, as ``time.time`` does."""
        return step("now", time.time)

    def random(self) -> float:
        """Return a random number from 0 to 1, as ``random.random`` does."""
        return step("random", random.random)

    def uuid4(self) -> uuid.UUID:
        """Return a random UUID."""
        return step("uuid4", uuid.uuid4)

    def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a function that acts outside this actor, and record what it gives or raises.

        In a durable actor that is stored before the call goes on: when the call runs again, the
        function does not. A crash in the middle of the function leaves no record, so it may act
        twice then; give the outside system ``token`` or the call's id to recognise that.

        Raises:
            SerializationError: what it gives cannot be pickled. FencedError: another process has
                taken over the actor.
        """
        recorder = current
        if recorder is None:
            return function(*args, **kwargs)
        return recorder.step("run", lambda: function(*args, **kwargs), outside=True)

    @property
    def token(self) -> tuple[int, int]:
        """The fencing token of the running call: (epoch of the process, number of the call in it).

        Tokens grow. An outside system that keeps the largest one that it has seen and refuses
        smaller ones cannot be changed by a process that has been replaced.

        Raises:
            RuntimeError: no call of a durable actor runs here.
        """
        if current is None:
            raise RuntimeError("ctx.token is for methods of durable actors, while they run")
        return current.token


#: What methods of durable actors use instead of the clock, the dice and the outside world.
ctx = Context()
