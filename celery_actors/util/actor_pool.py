"""``ActorPool``: a fixed set of actors that share a stream of work."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from ..errors import ActorDiedError, RayTaskError
from ..handle import ActorHandle
from ..object_ref import ObjectRef
from ..objects import get, wait

__all__ = ["ActorPool"]

A = TypeVar("A")
V = TypeVar("V")

_Result = ObjectRef[Any] | list[ObjectRef[Any]]
_Work = tuple[Callable[[Any, Any], _Result], Any]


class ActorPool(Generic[A]):
    """Gives each piece of work to an actor that is free.

    ``fn(actor, value)`` starts the work and returns its reference, or the list of references of a
    method with several results: ``lambda actor, value: actor.double.remote(value)``.
    """

    def __init__(self, actors: Iterable[ActorHandle[A]]) -> None:
        self._idle: list[ActorHandle[A]] = list(actors)
        self._running: dict[int, tuple[ActorHandle[A], _Result]] = {}
        self._waiting: deque[_Work] = deque()
        self._submitted = 0  # the number of the next piece of work that gets an actor
        self._returned = 0  # the number of the next one in order to return

    # -- work ------------------------------------------------------------------------------

    def submit(self, fn: Callable[[Any, V], Any], value: V) -> None:
        """Start ``fn(actor, value)`` on a free actor, or as soon as one becomes free."""
        self._waiting.append((fn, value))
        self._dispatch()

    def map(self, fn: Callable[[Any, V], Any], values: Iterable[V]) -> Iterator[Any]:
        """Submit all the values now; return an iterator of the results in their order.

        Results of earlier submissions that nobody has fetched are dropped first.
        """
        self._submit_all(fn, values)
        return self._drain(self.get_next)

    def map_unordered(self, fn: Callable[[Any, V], Any], values: Iterable[V]) -> Iterator[Any]:
        """Submit all the values now; return an iterator of the results as they become ready.

        Results of earlier submissions that nobody has fetched are dropped first.
        """
        self._submit_all(fn, values)
        return self._drain(self.get_next_unordered)

    def _submit_all(self, fn: Callable[[Any, V], Any], values: Iterable[V]) -> None:
        while self._running:
            actor, _result = self._running.pop(min(self._running))
            self._free(actor)
        self._returned = self._submitted
        for value in values:
            self.submit(fn, value)

    def _drain(self, take: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield take()

    # -- results ---------------------------------------------------------------------------

    def has_next(self) -> bool:
        """Tell whether there are results that nobody has fetched."""
        return bool(self._running)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Return the next result in the order of submission.

        Args:
            timeout: seconds; None waits as long as it takes.
            ignore_if_timedout: give up a result that is late: it is skipped from then on.

        Raises:
            StopIteration: nothing is left. TimeoutError: the result is late. ValueError: later
                results were taken out of order before. What ``get`` raises for a failed call.
        """
        self._check_left()
        if self._returned >= self._submitted:
            raise ValueError(
                "get_next() after get_next_unordered() has no order to follow: go on with "
                "get_next_unordered() until has_next() is False"
            )
        number = self._returned
        late = timeout is not None and not _is_ready(self._running[number][1], timeout)
        if late and not ignore_if_timedout:
            raise TimeoutError("Timed out waiting for result")
        return self._take(number, late)

    def get_next_unordered(
        self, timeout: float | None = None, ignore_if_timedout: bool = False
    ) -> Any:
        """Return the result that is ready first.

        Args:
            timeout: seconds; None waits as long as it takes.
            ignore_if_timedout: give up the oldest result when none is ready in time.

        Raises:
            StopIteration: nothing is left. TimeoutError: no result is ready. What ``get`` raises
                for a failed call.
        """
        self._check_left()
        numbers = {_first(result): number for number, (_, result) in self._running.items()}
        ready, rest = wait(list(numbers), timeout=timeout)
        if not ready and not ignore_if_timedout:
            raise TimeoutError("Timed out waiting for result")
        return self._take(numbers[(ready or rest)[0]], late=not ready)

    def _check_left(self) -> None:
        if not self.has_next():
            raise StopIteration("No more results to get")

    def _take(self, number: int, late: bool) -> Any:
        """Return one result and let its actor go on."""
        actor, result = self._running[number]
        if not late:
            _is_ready(result, None)
        del self._running[number]
        self._returned = max(self._returned, number + 1)
        if not late and _has_died(actor, result):
            self._bury(actor)
        else:
            self._free(actor)
        if late:
            raise TimeoutError(f"Timed out waiting for result. The task {result} has been ignored.")
        return get(result)

    # -- actors ----------------------------------------------------------------------------

    def has_free(self) -> bool:
        """Tell whether an actor is idle and no work waits for one."""
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> ActorHandle[A] | None:
        """Take an idle actor out of the pool; None where all are busy."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: ActorHandle[A]) -> None:
        """Add an actor to the pool; it begins with work that waits.

        Raises:
            ValueError: the pool has it already.
        """
        if actor in self._idle or any(actor == busy for busy, _ in self._running.values()):
            raise ValueError("Actor already belongs to current ActorPool")
        self._free(actor)

    def _free(self, actor: ActorHandle[A]) -> None:
        self._idle.append(actor)
        self._dispatch()

    def _dispatch(self) -> None:
        while self._idle and self._waiting:
            self._start(self._idle.pop(), self._waiting.popleft())

    def _bury(self, actor: ActorHandle[A]) -> None:
        """Drop a dead actor. The last one takes what waits with it: each fails as its call did."""
        if self._waiting and not self._running:
            self._free(actor)

    def _start(self, actor: ActorHandle[A], work: _Work) -> None:
        fn, value = work
        try:
            result = fn(actor, value)
            _first(result)
        except BaseException:
            self._idle.append(actor)  # it has done nothing: the error is the caller's to see
            raise
        self._running[self._submitted] = (actor, result)
        self._submitted += 1


def _refs(result: _Result) -> list[ObjectRef[Any]]:
    return result if isinstance(result, list) else [result]


def _first(result: _Result) -> ObjectRef[Any]:
    """Return the reference that stands for a call: all of a call's results come together."""
    refs = _refs(result)
    if not refs or not all(isinstance(ref, ObjectRef) for ref in refs):
        raise TypeError(
            f"the function of an ActorPool returns an ObjectRef, or a list of them, not {result!r}:"
            " let it return actor.method.remote(value)"
        )
    return refs[0]


def _is_ready(result: _Result, timeout: float | None) -> bool:
    refs = _refs(result)
    return not wait(refs, num_returns=len(refs), timeout=timeout)[1]


def _has_died(actor: ActorHandle[Any], result: _Result) -> bool:
    """Tell whether a call failed because this actor is dead, not because of another one."""
    failed = [ref for ref in _refs(result) if ref.failed]
    try:
        get(failed)
    except ActorDiedError as error:
        mine = error.actor_id == actor._identity.actor_id  # noqa: SLF001 - no user asks for it
        return mine and not isinstance(error, RayTaskError)
    except Exception:  # noqa: BLE001 - whatever the user's method raised: the actor lives
        return False
    return False
