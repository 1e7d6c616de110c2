from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pytest

from celery_actors.config import Address
from tests.simulation.__main__ import HUNT
from tests.simulation.campaign import hunt, own_server
from tests.simulation.mutants import MUTANTS, Mutant


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    with own_server() as found:
        yield found


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_in_a_script_is_found(address: Address, mutant: Mutant) -> None:
    # The schedule that it names comes first; the others only where it is not that one any more.
    found = hunt(address, mutant, chain([mutant.seed], range(HUNT)))

    assert found is not None, f"{HUNT} schedules of {mutant.mode!r} did not find it: add a check"
    print(f"{mutant.name}: seed {found[0]}: {found[1].violation}")  # noqa: T201 - for `pytest -s`


def test_a_mutant_that_does_not_fit_the_script_says_so() -> None:
    with pytest.raises(LookupError, match="no such line"):
        Mutant("stale", "commit", "no such line", "").sources()
    with pytest.raises(LookupError, match="is there 2 times"):
        Mutant("vague", "submit", "redis.call('HSET', KEYS[3], ARGV[1], ", "").sources()
