"""What a driver prints when many workers say the same."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_actors.errors import ConfigurationError
from celery_actors.log_dedup import DedupSettings, Line, LogDeduplicator


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def line(text: str, pid: int = 1, node: str = "a", stream: int = 1) -> Line:
    return Line("Worker", pid, node, stream, text)


def made(environ: Mapping[str, str] | None = None) -> tuple[LogDeduplicator, Clock]:
    clock = Clock()
    return LogDeduplicator(DedupSettings.from_environment(environ or {}), clock), clock


def texts(lines: list[Line]) -> list[str]:
    return [line.text.partition(" (set ")[0] for line in lines]


def test_the_first_line_of_a_pattern_is_printed_at_once() -> None:
    dedup, _ = made()
    assert dedup.take([line("loaded shard 1")]) == [line("loaded shard 1")]


def test_repetitions_of_other_processes_become_one_line_after_the_window() -> None:
    dedup, clock = made()
    for pid in range(1, 6):
        dedup.take([line(f"loaded shard {pid}", pid)])
    clock.now += 4.9
    assert dedup.due() == []
    clock.now += 0.2
    (told,) = dedup.due()
    assert (told.label, told.pid) == ("Worker", 5)
    assert told.text == (
        "loaded shard 5 [repeated 4x across cluster]"
        " (set CELERY_ACTORS_DEDUP_LOGS=0 to see every line)"
    )


def test_the_hint_is_given_once() -> None:
    dedup, clock = made()
    hints = []
    for _ in range(2):
        dedup.take([line("same", pid) for pid in range(3)])
        clock.now += 6
        hints += ["CELERY_ACTORS" in told.text for told in dedup.due()]
    assert hints == [True, False]


def test_one_process_may_repeat_itself() -> None:
    dedup, _ = made()
    assert texts(dedup.take([line("step 1"), line("step 2"), line("step 2")])) == [
        "step 1", "step 2", "step 2",
    ]  # fmt: skip
    assert dedup.flush() == []


def test_the_same_pid_on_another_node_is_another_process() -> None:
    dedup, _ = made()
    dedup.take([line("ready", 7, "a")])
    assert dedup.take([line("ready", 7, "b")]) == []


def test_a_single_repetition_is_printed_as_it_was() -> None:
    dedup, clock = made()
    dedup.take([line("ready", 1), line("ready", 2)])
    clock.now += 5
    assert dedup.due() == [line("ready", 2)]


def test_counting_goes_on_from_one_report_to_the_next() -> None:
    dedup, clock = made()
    dedup.take([line("tick", pid) for pid in range(4)])
    clock.now += 5
    assert texts(dedup.due()) == ["tick [repeated 3x across cluster]"]
    assert dedup.take([line("tick", pid) for pid in range(4)]) == []
    clock.now += 5
    assert texts(dedup.due()) == ["tick [repeated 4x across cluster]"]
    clock.now += 5
    assert dedup.due() == []
    assert texts(dedup.take([line("tick", 1)])) == ["tick"]


def test_what_was_held_back_is_printed_at_the_end() -> None:
    dedup, _ = made()
    dedup.take([line("a", 1), line("b", 1), line("a", 2), line("b", 2), line("a", 3)])
    assert texts(dedup.flush()) == ["a [repeated 2x across cluster]", "b"]
    assert dedup.flush() == []


def test_only_words_without_digits_make_the_pattern() -> None:
    dedup, _ = made()
    first, second = line("worker 0x1f took 3.5s for step-12", 1), line("worker 0x2 took", 2)
    assert texts(dedup.take([first, second])) == [first.text, second.text]
    assert dedup.take([line("worker 99 took 0s for k8s", 3)]) == []


@pytest.mark.parametrize("text", ["", "   ", "12 0x1f 3.5"])
def test_a_line_without_a_plain_word_is_always_printed(text: str) -> None:
    dedup, _ = made()
    found = dedup.take([line(text, pid) for pid in range(3)])
    assert [told.text for told in found] == [text] * 3


def test_the_two_streams_are_told_apart() -> None:
    dedup, _ = made()
    found = dedup.take([line("same", 1, stream=1), line("same", 2, stream=2)])
    assert [told.stream for told in found] == [1, 2]


@pytest.mark.parametrize("prefix", ["CELERY_ACTORS", "RAY"])
def test_the_environment_turns_it_off_and_tunes_it(prefix: str) -> None:
    off, _ = made({f"{prefix}_DEDUP_LOGS": "0"})
    assert texts(off.take([line("x", 1), line("x", 2)])) == ["x", "x"]

    tuned, clock = made({
        f"{prefix}_DEDUP_LOGS_AGG_WINDOW_S": "60",
        f"{prefix}_DEDUP_LOGS_ALLOW_REGEX": "^keep",
        f"{prefix}_DEDUP_LOGS_SKIP_REGEX": "noise|keep out",
    })  # fmt: skip
    lines = [line(text, pid) for pid in (1, 2) for text in ("keep", "some noise", "x", "keep out")]
    assert texts(tuned.take(lines)) == ["keep", "x", "keep out", "keep", "keep out"]
    clock.now += 59
    assert tuned.due() == []


def test_our_variables_come_before_rays() -> None:
    settings = DedupSettings.from_environment(
        {"RAY_DEDUP_LOGS": "0", "CELERY_ACTORS_DEDUP_LOGS": "1"}
    )
    assert settings.enabled


def test_a_window_of_zero_tells_every_batch() -> None:
    dedup, _ = made({"CELERY_ACTORS_DEDUP_LOGS_AGG_WINDOW_S": "0"})
    assert texts(dedup.take([line("x", pid) for pid in range(3)])) == [
        "x", "x [repeated 2x across cluster]",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("suffix", "value"),
    [("AGG_WINDOW_S", "soon"), ("AGG_WINDOW_S", "-1"), ("AGG_WINDOW_S", "nan"),
     ("ALLOW_REGEX", "("), ("SKIP_REGEX", "*")],
)  # fmt: skip
def test_an_impossible_setting_is_refused_by_its_name(suffix: str, value: str) -> None:
    name = f"CELERY_ACTORS_DEDUP_LOGS_{suffix}"
    with pytest.raises(ConfigurationError, match=name):
        DedupSettings.from_environment({name: value})


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b c", "d 1"]), st.integers(1, 3), st.floats(0, 9)))
)
def test_every_line_is_printed_or_counted(said: list[tuple[str, int, float]]) -> None:
    dedup, clock = made()
    printed = []
    for text, pid, pause in said:
        clock.now += pause
        printed += dedup.take([line(text, pid)])
    printed += dedup.flush()
    counts = [told.partition(" [repeated ")[2].partition("x")[0] for told in texts(printed)]
    assert sum(int(count or 1) for count in counts) == len(said)
