"""``get``, ``put``, ``wait``, ``cancel``: checks of a user's arguments before the work."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, TypeVar, overload

from . import runtime
from .cancellation import ACKNOWLEDGE_SECONDS
from .errors import GetTimeoutError
from .object_ref import ObjectRef
from .object_ref_generator import ObjectRefGenerator
from .recording import step

__all__ = ["cancel", "get", "put", "wait"]

R = TypeVar("R")
Ref = TypeVar("Ref", bound="ObjectRef[Any] | ObjectRefGenerator[Any]")


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout must not be negative, got {timeout}")


@overload
def get(refs: ObjectRef[R], *, timeout: float | None = None, progress: bool = False) -> R: ...
@overload
def get(
    refs: ObjectRefGenerator[R], *, timeout: float | None = None, progress: bool = False
) -> ObjectRefGenerator[R]: ...
@overload
def get(
    refs: Sequence[ObjectRef[R]], *, timeout: float | None = None, progress: bool = False
) -> list[R]: ...
def get(refs: Any, *, timeout: float | None = None, progress: bool = False) -> Any:
    """Return the value of a reference, or of each in a list, in order.

    Args:
        refs: one ``ObjectRef`` or a list of them; the same one may appear more than once. An
            ``ObjectRefGenerator`` is returned as it is: it gives references.
        timeout: seconds; 0 means "only what is here now". None waits as long as it takes.
        progress: show a bar on a terminal while a long list comes in.

    Raises:
        RayTaskError: a call failed; also an instance of the user's own exception type.
        GetTimeoutError: not everything was ready in time. ActorDiedError, WorkerCrashedError, …:
            a value that will never come. ValueError, TypeError: ``refs`` is not what it should be.
    """
    if timeout is not None:
        _check_timeout(timeout)
    if isinstance(refs, ObjectRef):
        return runtime.holder((refs,)).get([refs], timeout)[0]
    if isinstance(refs, ObjectRefGenerator):
        return refs
    if not isinstance(refs, list):
        raise ValueError(  # noqa: TRY004 - Ray raises ValueError here
            f"Invalid type of object refs: get() takes an ObjectRef or a list of them, not "
            f"{type(refs).__name__}"
        )
    for ref in refs:
        if not isinstance(ref, ObjectRef):
            raise TypeError(
                f"get() takes a list of ObjectRef, and it holds a {type(ref).__name__}: {ref!r:.80}"
            )
    if not refs:
        return []
    if progress and sys.stderr.isatty():
        return _get_with_bar(refs, timeout)
    return runtime.holder(refs).get(refs, timeout)


def _get_with_bar(refs: list[ObjectRef[Any]], timeout: float | None) -> list[Any]:
    from rich.console import Console
    from rich.progress import Progress

    context = runtime.holder(refs)
    deadline = None if timeout is None else time.monotonic() + timeout
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("waiting for results", total=len(refs))
        while True:
            ready = sum(ref.ready for ref in refs)
            bar.update(task, completed=ready)
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            step = 0.2 if left is None else min(0.2, left)
            if context.results.wait(refs, len(refs), step, fail_fast=True):
                return context.get(refs, 0)
    raise GetTimeoutError(
        f"{len(refs) - ready} of {len(refs)} values were not ready after {timeout} s. The calls go "
        "on: get them again, or wait longer"
    )


def put(value: R) -> ObjectRef[R]:
    """Store a value and return its reference.

    Raises:
        TypeError: the value is itself an ``ObjectRef``. SerializationError: it cannot be pickled.
    """
    if isinstance(value, ObjectRef):
        raise TypeError("put() of an ObjectRef is not allowed: pass the reference itself")
    return runtime.current().put(value)


def wait(
    refs: list[Ref],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,  # noqa: ARG001 - Ray's signature; there is one store
) -> tuple[list[Ref], list[Ref]]:
    """Return ``(ready, rest)``: at most ``num_returns`` ready ones, both in the order given.

    A failed call is ready, and so is a generator whose next reference, or end, is here. Without
    ``timeout`` (seconds) exactly ``num_returns`` are ready.

    Raises:
        TypeError: not a list of ``ObjectRef``. ValueError: duplicates, or an impossible number.
    """
    if not isinstance(refs, list):
        raise TypeError(f"wait() takes a list of ObjectRef, not {type(refs).__name__}")
    for ref in refs:
        if not isinstance(ref, ObjectRef | ObjectRefGenerator):
            raise TypeError(f"wait() takes a list of ObjectRef, and it holds {type(ref).__name__}")
    _check_timeout(timeout)
    if len(set(refs)) != len(refs):
        raise ValueError("wait() takes each ObjectRef once; the list holds duplicates")
    if not refs:
        return [], []
    if not isinstance(num_returns, int):
        raise TypeError(f"num_returns must be an integer, not {type(num_returns).__name__}")
    if not 0 < num_returns <= len(refs):
        raise ValueError(f"num_returns must be 1 to {len(refs)} for this list, got {num_returns}")

    def wait_now() -> list[bool]:
        runtime.holder(refs).results.wait(refs, num_returns, timeout, fail_fast=False)
        return [ref.ready for ref in refs]

    ready: list[Ref] = []
    rest: list[Ref] = []
    for ref, is_ready in zip(refs, step("wait", wait_now), strict=True):
        (ready if is_ready and len(ready) < num_returns else rest).append(ref)
    return ready, rest


def cancel(
    ref: ObjectRef[Any] | ObjectRefGenerator[Any], *, force: bool = False, recursive: bool = True
) -> None:
    """Cancel a call: ``get`` of its reference raises ``TaskCancelledError``, or what it came to.

    A waiting call never runs, and no longer holds up those behind it. In a running function or
    method ``KeyboardInterrupt`` is raised; the task of an ``async`` one is cancelled. A call that
    is over is left alone. Cancelled calls are not run again.

    Args:
        ref: the reference of the call, one of several, or the generator of its values.
        force: end the process that runs the function, at once: for code that cannot be interrupted.
        recursive: cancel the calls that it made and that are not over, too.

    Raises:
        TypeError: not a reference. ValueError: ``force`` for an actor's call; use ``kill``.
    """
    if isinstance(ref, ObjectRefGenerator):
        ref = ref.completed()
    if not isinstance(ref, ObjectRef):
        raise TypeError(f"cancel() takes an ObjectRef, not {type(ref).__name__}")
    chosen, canceller = ref, runtime.holder((ref,)).canceller
    words: dict[str, Any] = {"force": force, "recursive": recursive}
    step("cancel", lambda: canceller.cancel(chosen, patience=ACKNOWLEDGE_SECONDS, **words))
