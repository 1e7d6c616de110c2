"""The address under which other machines know this one."""

from __future__ import annotations

import ipaddress

import pytest

from celery_actors.config import Address
from celery_actors.network import own_ip


@pytest.mark.parametrize("url", ["unix:///tmp/x.sock", "redis://127.0.0.1:1", "redis://localhost"])
def test_near_a_store_on_this_machine_the_address_is_a_loopback_one(url: str) -> None:
    assert ipaddress.ip_address(own_ip(Address.parse(url))).is_loopback


def test_a_name_that_nobody_knows_gives_a_loopback_address() -> None:
    assert own_ip(Address.parse("redis://no.such.host.invalid:6379")) == "127.0.0.1"
