"""How the command line prints what it has found."""

from __future__ import annotations

import json

import pytest

from celery_actors.cli.show import echo_fields, echo_json, echo_table


def test_values_are_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    echo_json({"name": "ärger", "numbers": [1, 2]})
    assert json.loads(capsys.readouterr().out) == {"name": "ärger", "numbers": [1, 2]}


def test_a_table_has_a_row_for_each_and_words_where_there_is_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo_table(["name", "state"], [["one", "alive"]], "no actors")
    shown = capsys.readouterr()
    assert all(word in shown.out for word in ("name", "state", "one", "alive"))
    assert shown.err == ""

    echo_table(["name"], [], "no actors")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "no actors\n")


def test_fields_stand_in_lines_and_lists_below_each_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    echo_fields({
        "name": "one", "calls": ["a", "b"], "share": 0.25, "labels": {"zone": "x", "k": ""},
        "none": None, "nothing": {}, "empty": [],
    })  # fmt: skip
    assert capsys.readouterr().out.splitlines() == [
        "name     one", "calls    a", "         b", "share    0.25", "labels   zone=x, k=-",
        "none     -", "nothing  -", "empty    -",
    ]  # fmt: skip
