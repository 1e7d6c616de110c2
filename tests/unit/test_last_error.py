"""The last error of a worker, read by another process than the one that writes it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator

import pytest

from celery_actors.glimpse import Failure
from celery_actors.last_error import LAST_ERROR_BYTES, read, write

OFFSET = 40


@pytest.fixture
def page() -> Iterator[int]:
    """A page of the size that a worker shares, by its descriptor."""
    descriptor = os.memfd_create("page")
    os.ftruncate(descriptor, OFFSET + LAST_ERROR_BYTES)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def mapped(page: int) -> Iterator[mmap.mmap]:
    with mmap.mmap(page, OFFSET + LAST_ERROR_BYTES) as found:
        yield found


def test_a_fresh_page_has_no_error(page: int) -> None:
    assert read(page, OFFSET) is None


def test_the_last_error_is_read_and_no_other_byte_is_touched(page: int, mapped: mmap.mmap) -> None:
    write(mapped, OFFSET, 1.5, "ValueError: a longer text than the next")
    write(mapped, OFFSET, 2.5, "KeyError: é")
    assert read(page, OFFSET) == (2, 2.5, "KeyError: é")
    assert mapped[:OFFSET] == bytes(OFFSET)


def test_a_long_error_is_cut_where_its_place_ends(page: int, mapped: mmap.mmap) -> None:
    write(mapped, OFFSET, 1.0, "é" * 500)
    found = read(page, OFFSET)
    assert found is not None
    assert found.text == "é" * 100
    write(mapped, OFFSET, 1.0, "a" + "é" * 500 + "\ud800")
    found = read(page, OFFSET)
    assert found is not None
    assert found.text.startswith("aééé")


def test_half_an_error_is_not_shown(page: int, mapped: mmap.mmap) -> None:
    write(mapped, OFFSET, 1.0, "ValueError: whole")
    mapped[OFFSET] = 3  # the writer has begun with the next one
    assert read(page, OFFSET) is None


@pytest.mark.parametrize(
    ("messages", "line"),
    [((), "KeyError"), (("",), "KeyError"), (("one\ntwo", "three"), "KeyError: one")],
)
def test_a_failure_in_one_line_is_its_type_and_its_first_line(
    messages: tuple[str, ...], line: str
) -> None:
    assert Failure("KeyError", messages, None).line == line
