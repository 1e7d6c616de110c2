"""``as_completed`` and ``map_unordered``: results in the order in which they become ready."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar, overload

from ..object_ref import ObjectRef
from ..objects import get, wait

__all__ = ["as_completed", "map_unordered"]

R = TypeVar("R")

_CHUNK = 10
_BACKPRESSURE = 100


@overload
def as_completed(
    refs: Sequence[ObjectRef[R]], *, chunk_size: int = ..., yield_obj_refs: Literal[False] = False
) -> Iterator[R]: ...
@overload
def as_completed(
    refs: Sequence[ObjectRef[R]], *, chunk_size: int = ..., yield_obj_refs: Literal[True]
) -> Iterator[ObjectRef[R]]: ...
def as_completed(
    refs: Sequence[ObjectRef[Any]], *, chunk_size: int = _CHUNK, yield_obj_refs: bool = False
) -> Iterator[Any]:
    """Return an iterator over the results of ``refs``, first ready, first out.

    Args:
        refs: references, each once.
        chunk_size: how many ready results are taken at a time; a result that is ready never waits
            for one that is not.
        yield_obj_refs: give the references of the ready results in place of their values.

    Raises:
        ValueError: ``chunk_size`` is below 1. While iterating: what ``get`` raises for a failed
            call, and ``wait`` for a reference given twice.
    """
    _check_chunk(chunk_size)
    return _completed(list(refs), chunk_size, yield_obj_refs)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = _BACKPRESSURE,
    chunk_size: int = _CHUNK,
    yield_obj_refs: bool = False,
) -> Iterator[Any]:
    """Call ``fn`` with each item; return an iterator over the results, first ready, first out.

    Items are taken, and calls sent, only as the results are fetched.

    Args:
        fn: a remote function, an actor's method, or a function of one item that returns a
            reference, such as ``double.remote``.
        items: may be endless.
        backpressure_size: how many calls run or wait at a time; None: all of them.
        chunk_size: how many ready results are taken at a time.
        yield_obj_refs: give references in place of values.

    Raises:
        ValueError: ``chunk_size`` or ``backpressure_size`` is below 1, or the first is the larger.
        TypeError: ``fn`` cannot be called so. While iterating: as ``as_completed``.
    """
    _check_chunk(chunk_size)
    if backpressure_size is not None and backpressure_size < 1:
        raise ValueError(f"backpressure_size must be positive, got {backpressure_size}")
    if backpressure_size is not None and chunk_size > backpressure_size:
        raise ValueError(
            f"chunk_size ({chunk_size}) cannot be larger than backpressure_size "
            f"({backpressure_size})"
        )
    call: Callable[[Any], ObjectRef[Any]] = getattr(fn, "remote", fn)
    if not callable(call):
        raise TypeError(f"map_unordered() takes a remote function, not {type(fn).__name__}")

    def results() -> Iterator[Any]:
        pending: list[ObjectRef[Any]] = []
        for item in items:
            pending.append(call(item))
            if backpressure_size is not None and len(pending) >= backpressure_size:
                ready, pending = _ready(pending, chunk_size)
                yield from _values(ready, yield_obj_refs)
        yield from _completed(pending, chunk_size, yield_obj_refs)

    return results()


def _check_chunk(chunk_size: int) -> None:
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be 1 or more, got {chunk_size}")


def _completed(refs: list[ObjectRef[Any]], chunk: int, as_refs: bool) -> Iterator[Any]:
    while refs:
        ready, refs = _ready(refs, chunk)
        yield from _values(ready, as_refs)


def _values(refs: list[ObjectRef[Any]], as_refs: bool) -> Iterator[Any]:
    return iter(refs) if as_refs else map(get, refs)


def _ready(
    refs: list[ObjectRef[Any]], chunk: int
) -> tuple[list[ObjectRef[Any]], list[ObjectRef[Any]]]:
    """Wait for one result, then take as many as are ready."""
    wait(refs, num_returns=1)
    return wait(refs, num_returns=min(chunk, len(refs)), timeout=0)
