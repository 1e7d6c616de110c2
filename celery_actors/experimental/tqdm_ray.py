"""Progress bars that show in the driver, whichever process counts: ``tqdm``'s interface.

A bar in a worker travels as a line of its standard output; the driver draws all bars in one place.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from types import TracebackType
from typing import Any, Generic, TypeVar, overload

from .. import runtime
from ..progress import BarState, bars, encode_bar

__all__ = ["safe_print", "tqdm", "trange"]

T = TypeVar("T")

#: tqdm's arguments about the looks of its own bar: taken, and without effect on ours.
_LOOKS = frozenset({
    "ascii", "bar_format", "colour", "delay", "dynamic_ncols", "file", "gui", "lock_args",
    "maxinterval", "miniters", "ncols", "nrows", "smoothing", "unit_divisor", "unit_scale",
    "write_bytes",
})  # fmt: skip


class tqdm(Generic[T]):  # noqa: N801 - tqdm's name
    """A progress bar, around an iterable or moved by ``update``.

    Args:
        iterable: what to iterate over; None: call ``update`` yourself.
        desc: a text before the bar.
        total: the count at the end; None: the length of ``iterable``, if it has one.
        position: bars of one process are drawn in this order.
        leave: keep the bar in sight when it is closed.
        unit: what is counted.
        initial: the count at the beginning.
        disable: show nothing.
        postfix: figures after the bar.
        mininterval: seconds between two updates on the screen.
        flush_interval_s: Ray's name of ``mininterval``.
        looks: tqdm's arguments about its own drawing; taken, and without effect.

    Raises:
        TypeError: an argument that tqdm does not know.
    """

    @overload
    def __init__(
        self: tqdm[Any], iterable: None = None, desc: str | None = None,
        total: float | None = None, position: int | None = None, **options: Any,
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self, iterable: Iterable[T], desc: str | None = None, total: float | None = None,
        position: int | None = None, **options: Any,
    ) -> None: ...  # fmt: skip
    def __init__(
        self,
        iterable: Iterable[T] | None = None,
        desc: str | None = None,
        total: float | None = None,
        position: int | None = None,
        *,
        leave: bool | None = True,
        unit: str = "it",
        initial: float = 0,
        disable: bool | None = False,
        postfix: Mapping[str, Any] | str | None = None,
        mininterval: float = 0.1,
        flush_interval_s: float | None = None,
        **looks: Any,
    ) -> None:
        if unknown := looks.keys() - _LOOKS:
            raise TypeError(f"tqdm() got unknown arguments: {', '.join(sorted(unknown))}")
        self.iterable = iterable
        self.desc = desc or ""
        self.total = total
        if total is None and isinstance(iterable, Sized):
            self.total = len(iterable)
        self.n = initial
        self.unit = unit
        self.disable = bool(disable)
        self._position = position or 0
        self._leave = leave is not False
        self._postfix = ""
        self._interval = mininterval if flush_interval_s is None else flush_interval_s
        self._bar = secrets.token_hex(8)
        self._began = time.monotonic()
        self._shown = 0.0
        self._closed = False
        if isinstance(postfix, str):
            self.set_postfix_str(postfix)
        else:
            self.set_postfix(postfix)

    def update(self, n: float | None = 1) -> None:
        """Move the bar on by ``n``."""
        self.n += 1 if n is None else n
        if time.monotonic() - self._shown >= self._interval:
            self.refresh()

    def set_description(self, desc: str | None = None, refresh: bool = True) -> None:
        """Change the text before the bar."""
        self.desc = desc or ""
        if refresh:
            self.refresh()

    def set_postfix(
        self, ordered_dict: Mapping[str, Any] | None = None, refresh: bool = True, **figures: Any
    ) -> None:
        """Change the figures after the bar: ``set_postfix(loss=0.1)``."""
        pairs = {**(ordered_dict or {}), **figures}.items()
        texts = (
            f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in pairs
        )
        self.set_postfix_str(", ".join(texts), refresh)

    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None:
        """Change the text after the bar."""
        self._postfix = s
        if refresh:
            self.refresh()

    def refresh(self) -> None:
        """Show the bar as it is now."""
        if self.disable or self._closed:
            return
        self._shown = time.monotonic()
        self._show()

    def close(self) -> None:
        """End the bar; a second time does nothing."""
        if not self._closed:
            self._closed = True
            if not self.disable:
                self._show()

    def _show(self) -> None:
        state = BarState(
            self._bar, self.desc, self.n, self.total, self.unit,
            time.monotonic() - self._began, self._position, self._postfix, self._leave,
            self._closed,
        )  # fmt: skip
        if _in_worker():
            sys.stdout.write(f"{encode_bar(state)}\n")
            sys.stdout.flush()
        else:
            bars().show(state)

    def __iter__(self) -> Iterator[T]:
        if self.iterable is None:
            raise TypeError("this tqdm was made without an iterable: call update() on it")
        try:
            for item in self.iterable:
                yield item
                self.update(1)
        finally:
            self.close()

    def __len__(self) -> int:
        if self.total is None:
            raise TypeError("this tqdm has no total")
        return int(self.total)

    def __bool__(self) -> bool:
        return self.total is None or self.total > 0

    def __enter__(self) -> tqdm[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def trange(*bounds: int, **options: Any) -> tqdm[int]:
    """Return ``tqdm(range(*bounds), **options)``."""
    return tqdm(range(*bounds), **options)


def safe_print(*values: Any, **options: Any) -> None:
    """Print as the built-in does, without tearing the bars on a terminal."""
    bars().print(*values, **options)


def _in_worker() -> bool:
    """Tell whether this process works for a driver, which then shows its bars."""
    if not runtime.is_current():
        return False
    context = runtime.current()
    return context.job != context.session
