"""Where Flower may listen, and for whom."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from celery_actors.dashboard.server import reach_problem
from celery_actors.dashboard.templating import _with_entry


def given(**options: Any) -> SimpleNamespace:
    return SimpleNamespace(
        **{"address": "", "basic_auth": [], "auth": "", "unix_socket": ""} | options
    )


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "localhost", "::1"])
def test_this_machine_alone_needs_no_password(address: str) -> None:
    assert reach_problem(given(address=address)) == ""


@pytest.mark.parametrize("address", ["", "0.0.0.0", "::", "10.0.0.5", "fe80::1", "node.example"])
def test_what_others_reach_needs_one(address: str) -> None:
    assert "FLOWER_BASIC_AUTH" in reach_problem(given(address=address))
    for options in ({"basic_auth": ["eve:secret"]}, {"auth": ".*@example.com"}):
        assert reach_problem(given(address=address, **options)) == ""


def test_a_navigation_without_a_list_is_left_as_it_is() -> None:
    assert _with_entry("<nav></nav>") == "<nav></nav>"
    assert "Actors</a></li></ul><ul>" in _with_entry("<nav><ul></ul><ul></ul></nav>")
