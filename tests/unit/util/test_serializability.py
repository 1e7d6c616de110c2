"""inspect_serializability finds what cannot be sent."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

import pytest

import celery_actors as ca
from celery_actors.util import inspect_serializability
from celery_actors.util.serializability import FailureTuple

Found = tuple[bool, set[FailureTuple]]


def inspected(value: Any, **options: Any) -> tuple[bool, list[tuple[Any, str, Any]], str]:
    report = io.StringIO()
    ok, failures = inspect_serializability(value, print_file=report, **options)
    return ok, [(each.obj, each.name, each.parent) for each in failures], report.getvalue()


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held


class SelfMade:
    """Holds nothing but itself, and refuses."""

    def __init__(self) -> None:
        self.me = self

    def __reduce__(self) -> tuple[Any, ...]:
        raise RuntimeError("not today")


def closure_over(value: Any) -> Callable[[], Any]:
    return lambda: value


def with_a_default_and_an_empty_cell(default: Any) -> Any:
    def use(a: Any = default) -> Any:
        return a, later

    if default is None:
        later = 1
    return use


@pytest.mark.parametrize("value", [1, "text", [1, {2: (3,)}], print, Holder, closure_over(1)])
def test_what_can_be_sent_is_fine(value: Any) -> None:
    ok, failures, report = inspected(value)
    assert ok
    assert not failures
    assert "Checking Serializability" in report
    assert "FAIL" not in report


def test_the_culprit_of_a_function_is_the_variable_it_uses() -> None:
    lock = threading.Lock()
    function = closure_over(lock)
    ok, failures, report = inspected(function, name="function")
    assert not ok
    assert failures == [(lock, "value", function)]
    assert "FAIL serialization of 'function': cannot pickle '_thread.lock' object" in report
    assert "FailTuple(value [obj=<unlocked _thread.lock" in report
    assert "register_serializer" in report


def test_global_variables_count_where_a_function_travels_by_value() -> None:
    lock = threading.Lock()
    scope: dict[str, Any] = {"lock": lock, "spare": threading.Lock(), "__name__": "__main__"}
    exec("def use():\n    def inner():\n        return lock\n    return inner", scope)
    _, failures, _ = inspected(scope["use"])
    assert failures == [(lock, "lock", scope["use"])]


def test_remote_functions_and_classes_are_looked_into() -> None:
    lock = threading.Lock()

    class Actor:
        kept = lock

        def use(self) -> None:
            pass

    _, (failure,), _ = inspected(ca.remote(Actor))
    assert failure == (lock, "kept", Actor)
    function = closure_over(lock)
    _, (failure,), _ = inspected(ca.remote(function))
    assert failure == (lock, "value", function)


def test_every_culprit_is_found_by_the_place_that_holds_it() -> None:
    first, second = threading.Lock(), threading.Lock()
    holder = Holder({"x": second})
    value = [first, 3, holder]
    _, failures, _ = inspected(value)
    assert sorted(name for _, name, _ in failures) == ["0", "x"]
    assert {id(parent) for _, _, parent in failures} == {id(value), id(holder.held)}


@pytest.mark.parametrize(("depth", "name"), [(0, "root"), (1, "0"), (2, "1"), (3, "2"), (9, "2")])
def test_it_goes_down_as_far_as_it_is_told(depth: int, name: str) -> None:
    value = [[0, [0, 1, threading.Lock()]]]
    _, failures, _ = inspected(value, name="root", depth=depth)
    assert [found for _, found, _ in failures] == [name]


def test_what_holds_itself_is_its_own_culprit() -> None:
    culprit = SelfMade()
    ok, failures, report = inspected(culprit, name="culprit")
    assert not ok
    assert failures == [(culprit, "culprit", None)]
    assert "not today" in report


def test_a_culprit_in_two_places_is_told_once() -> None:
    lock = threading.Lock()
    _, failures, _ = inspected({"a": lock, "b": lock})
    assert [name for _, name, _ in failures] == ["a"]


def test_methods_defaults_and_empty_cells_are_looked_at() -> None:
    holder = Holder(threading.Lock())
    holder_method = holder.__init__  # type: ignore[misc] # any bound method
    _, failures, _ = inspected(holder_method)
    assert [(name, parent) for _, name, parent in failures] == [("held", holder)]

    lock = threading.Lock()
    function = with_a_default_and_an_empty_cell(lock)
    _, failures, _ = inspected(function)
    assert failures == [(lock, "default 0", function)]
    function = eval("lambda *, b: b", {"__name__": "__main__"})
    function.__kwdefaults__ = {"b": lock}
    _, failures, _ = inspected(function)
    assert failures == [(lock, "b", function)]


def test_without_a_file_the_report_goes_to_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found: Found = inspect_serializability(1, name="one")
    assert found == (True, set())
    assert "Checking Serializability of 1" in capsys.readouterr().out
