"""Every step here runs twice: with bare keys, and under a prefix, beside which nothing may lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from celery_actors.config import Address
from celery_actors.store import Store, client, wire
from tests.prefixed import PREFIX, open_prefix_of, outside, with_prefix


@pytest.fixture(params=["", PREFIX], ids=["bare", "prefixed"])
def address(
    request: pytest.FixtureRequest, valkey_address: str, monkeypatch: pytest.MonkeyPatch
) -> Address:
    """A database of the unit tests' own, and what stands before its keys."""
    url = f"{valkey_address}?db=1"
    if not request.param:
        return Address.parse(url)
    for module in (client, wire):  # tests look at more than the package does
        monkeypatch.setattr(module, "prefix_of", open_prefix_of)
    return Address.parse(with_prefix(url, request.param))


@pytest.fixture(autouse=True)
def _nothing_beside(address: Address, store: Store) -> Iterator[None]:
    yield
    if store.address.prefix:
        with closing(redis.Redis.from_url(address.server_url)) as plain:
            assert outside(plain, address.prefix) == []
