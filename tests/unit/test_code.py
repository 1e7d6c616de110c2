from __future__ import annotations

import functools
import math
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from celery_actors.code import WRAPPED, dump_code, load_code
from celery_actors.config import KeyRing
from celery_actors.errors import ObjectLostError, SerializationError, UntrustedPayloadError
from celery_actors.serialization import Sealer

TRIPLE = "def triple(x):\n    return 3 * x\n"


def double(x: int) -> int:
    return 2 * x


class Outer:
    class Inner:
        def hello(self) -> str:
            return "hello"


class Wrapper:
    """What `@remote` leaves in a module in place of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        setattr(self, WRAPPED, function)


def plain(x: int) -> int:
    return x + 1


original = plain
plain = Wrapper(original)  # type: ignore[assignment] # as the decorator does


def there_and_back(code: Any, sealer: Sealer) -> Any:
    digest, record = dump_code(code, sealer, "the function")
    return load_code(digest, {digest: record}.get, sealer)


def maker(number: int) -> Callable[[int], int]:
    return lambda x: x + number


@pytest.mark.parametrize("code", [double, Outer, Outer.Inner], ids=["function", "class", "inner"])
def test_importable_code_is_the_same_object_after_the_journey(code: Any, sealer: Sealer) -> None:
    assert there_and_back(code, sealer) is code


def test_importable_code_travels_by_name(sealer: Sealer) -> None:
    _, by_name = dump_code(double, sealer, "the function")
    _, by_value = dump_code(maker(1), sealer, "the function")
    assert len(by_name) < len(by_value)


def test_a_decorated_function_travels_as_what_was_decorated(sealer: Sealer) -> None:
    assert there_and_back(original, sealer) is original


def test_a_function_made_inside_a_function_travels_by_value(sealer: Sealer) -> None:
    found = there_and_back(maker(3), sealer)
    assert found(4) == 7


def test_a_class_made_inside_a_function_travels_by_value(sealer: Sealer) -> None:
    class Local:
        def hello(self) -> str:
            return "hello"

    found = there_and_back(Local, sealer)
    assert found().hello() == "hello"


def test_code_of_the_main_module_travels_by_value(
    sealer: Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = run_in("__main__", TRIPLE, monkeypatch)["triple"]
    monkeypatch.setattr(sys.modules["__main__"], "triple", function, raising=False)
    assert there_and_back(function, sealer)(2) == 6


def test_a_module_that_a_worker_cannot_find_travels_by_value(
    sealer: Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = run_in("a_notebook_cell", TRIPLE, monkeypatch)["triple"]
    digest, record = dump_code(function, sealer, "the function")
    monkeypatch.delitem(sys.modules, "a_notebook_cell")
    assert load_code(digest, {digest: record}.get, sealer)(2) == 6


def run_in(name: str, source: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run source as the body of a module that has no file."""
    module = ModuleType(name)
    exec(source, module.__dict__)
    if name != "__main__":
        monkeypatch.setitem(sys.modules, name, module)
    return module.__dict__


def test_a_name_that_now_means_something_else_travels_by_value(
    sealer: Sealer, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = double
    monkeypatch.setitem(globals(), "double", maker(1))
    assert there_and_back(old, sealer)(4) == 8


@pytest.mark.parametrize("code", [dict, len, math.sqrt, sys.getsizeof, "".join])
def test_what_python_itself_brings_travels_without_its_module(code: Any, sealer: Sealer) -> None:
    digest, record = dump_code(code, sealer, "it")
    assert len(record) < 1000
    assert load_code(digest, {digest: record}.get, sealer) == code


def test_a_partial_function_travels(sealer: Sealer) -> None:
    digest, record = dump_code(functools.partial(double, 4), sealer, "it")
    assert load_code(digest, {digest: record}.get, sealer)() == 8


def test_the_digest_is_stable(sealer: Sealer) -> None:
    function = maker(1)
    for code in (double, function):
        assert dump_code(code, sealer, "it")[0] == dump_code(code, sealer, "it")[0]


def test_different_code_has_different_digests(sealer: Sealer) -> None:
    found = [dump_code(code, sealer, "it")[0] for code in (double, Outer, maker(1), maker(2))]
    assert len(set(found)) == len(found)


def test_an_unpicklable_closure_names_the_cause_and_the_cure(sealer: Sealer) -> None:
    lock = threading.Lock()
    with pytest.raises(
        SerializationError, match=r"^the function f cannot be sent .*'_thread\.lock'.*inside"
    ):
        dump_code(lambda: lock, sealer, "the function f")


def test_code_that_the_store_lost_is_an_object_lost_error(sealer: Sealer) -> None:
    with pytest.raises(ObjectLostError, match="c0de"):
        load_code("c0de", lambda _: None, sealer)


def test_code_signed_with_another_key_is_refused(sealer: Sealer, tmp_path: Path) -> None:
    digest, record = dump_code(trap(tmp_path), Sealer(KeyRing((b"\x07" * 32,))), "the function")
    with pytest.raises(UntrustedPayloadError):
        load_code(digest, {digest: record}.get, sealer)
    assert not (tmp_path / "sprung").exists()


def test_code_moved_to_another_digest_is_refused(sealer: Sealer, tmp_path: Path) -> None:
    _, record = dump_code(trap(tmp_path), sealer, "the function")
    other, _ = dump_code(double, sealer, "the function")
    with pytest.raises(UntrustedPayloadError):
        load_code(other, {other: record}.get, sealer)
    assert not (tmp_path / "sprung").exists()


class Spring:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __setstate__(self, state: dict[str, Any]) -> None:
        state["path"].touch()


def trap(folder: Path) -> Callable[[], object]:
    """Return a function whose unpickling leaves a file behind."""
    spring = Spring(folder / "sprung")
    return lambda: spring
