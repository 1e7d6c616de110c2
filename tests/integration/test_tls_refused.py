"""A store that speaks TLS and is not to be trusted, or does not speak it: refused at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import celery_actors as ca
from celery_actors.address import Address
from celery_actors.store import StoreUnreachableError, Wire
from tests.integration.matrix import free_port, make_certificates
from tests.integration.stores import tls_server
from tests.integration.support import Server

pytestmark = [pytest.mark.debian_redis, pytest.mark.own_store("is about TLS")]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Debian's Redis with TLS."""
    with tls_server() as found:
        yield found


def test_a_server_whose_certificate_is_not_trusted_is_refused(server: Server, tmp_path):
    other = make_certificates(tmp_path)
    untrusted = Address.parse(server.url.replace(str(server.folder / "ca.pem"), str(other)))
    unnamed = Address.parse(server.url.partition("?")[0])

    for address in (untrusted, unnamed):
        with pytest.raises(
            ca.ClusterUnreachableError, match=r"CERTIFICATE_VERIFY_FAILED"
        ) as caught:
            ca.init(address.url, keys=server.key)
        assert ":pw@" not in str(caught.value)
        with pytest.raises(StoreUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            Wire(address)


def test_a_server_without_tls_is_an_error_within_seconds(server: Server):
    with pytest.raises(ca.ClusterUnreachableError):
        ca.init(f"redis://:pw@localhost:{Address.parse(server.url).hosts[0][1]}/0", keys=server.key)
    with pytest.raises(ca.ClusterUnreachableError):
        ca.init(f"rediss://localhost:{free_port()}/0", keys=server.key)
