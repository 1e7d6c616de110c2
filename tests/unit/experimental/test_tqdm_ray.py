"""tqdm's interface, in a process without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from celery_actors.experimental import tqdm_ray
from celery_actors.experimental.tqdm_ray import tqdm, trange
from celery_actors.progress import BarState


class Shown:
    """Stands where the driver's bars are drawn."""

    def __init__(self) -> None:
        self.states: list[BarState] = []

    def show(self, state: BarState) -> None:
        self.states.append(state)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[BarState]:
    there = Shown()
    monkeypatch.setattr(tqdm_ray, "bars", lambda: there)
    return there.states


def test_a_bar_around_an_iterable_gives_its_items_and_closes(shown: list[BarState]) -> None:
    assert list(tqdm(["a", "b"], desc="load", mininterval=0)) == ["a", "b"]
    assert [(state.count, state.closed) for state in shown] == [
        (0, False), (1, False), (2, False), (2, True),
    ]  # fmt: skip
    assert {(state.desc, state.total, state.unit) for state in shown} == {("load", 2, "it")}
    assert len({state.bar for state in shown}) == 1


def test_a_loop_that_breaks_closes_its_bar(shown: list[BarState]) -> None:
    def first(items: Iterator[int]) -> int:
        return next(items)

    iterator = iter(trange(5))
    assert first(iterator) == 0
    iterator.close()  # type: ignore[attr-defined] # what the end of a loop does
    assert shown[-1].closed


def test_an_iterable_without_a_length_has_no_total(shown: list[BarState]) -> None:
    bar = tqdm(iter([1, 2]))
    assert bar.total is None
    assert bool(bar)
    with pytest.raises(TypeError, match="no total"):
        len(bar)


def test_updates_that_come_fast_are_shown_together(shown: list[BarState]) -> None:
    with tqdm(total=1000, mininterval=60) as bar:
        for _ in range(1000):
            bar.update()
        bar.update(None)
        assert len(shown) == 1
        bar.refresh()
        assert shown[-1].count == 1001
    assert [state.closed for state in shown] == [False, False, True]


def test_texts_around_the_bar_can_change(shown: list[BarState]) -> None:
    bar = tqdm(total=2, postfix="begin", unit="rows", position=3, leave=False, initial=1)
    assert (shown[-1].postfix, shown[-1].unit, shown[-1].position) == ("begin", "rows", 3)
    assert (shown[-1].leave, shown[-1].count) == (False, 1)
    bar.set_description("epoch 2")
    assert shown[-1].desc == "epoch 2"
    bar.set_postfix({"epoch": 2}, loss=0.12345)
    assert shown[-1].postfix == "epoch=2, loss=0.123"
    count = len(shown)
    bar.set_description("later", refresh=False)
    bar.set_postfix(refresh=False)
    assert len(shown) == count
    bar.total = 10
    bar.refresh()
    assert (shown[-1].desc, shown[-1].postfix, shown[-1].total) == ("later", "", 10)


def test_a_closed_or_disabled_bar_is_silent(shown: list[BarState]) -> None:
    bar = tqdm(total=1)
    bar.close()
    count = len(shown)
    bar.close()
    bar.update()
    bar.refresh()
    assert len(shown) == count
    assert list(tqdm([1], disable=True)) == [1]
    assert len(shown) == count


def test_looks_of_tqdms_own_bar_are_taken_and_typing_errors_are_not(shown: list[BarState]) -> None:
    looks: dict[str, Any] = {"ncols": 80, "ascii": True, "bar_format": "{l_bar}"}
    assert list(tqdm([1], **looks)) == [1]
    with pytest.raises(TypeError, match="totl"):
        tqdm([1], totl=3)
    with pytest.raises(TypeError, match="without an iterable"):
        iter(tqdm(total=3)).__next__()


def test_lengths_follow_the_total(shown: list[BarState]) -> None:
    assert len(trange(2, 10, 2, desc="even")) == 4
    assert not tqdm(total=0)


def test_a_safe_print_prints(capsys: pytest.CaptureFixture[str]) -> None:
    tqdm_ray.safe_print("a", 1, sep="-")
    assert capsys.readouterr().out == "a-1\n"
