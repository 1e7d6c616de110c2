from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from kombu.connection import Connection

from celery_actors.broker.app import make_viewer
from celery_actors.config import (
    KEYS_VARIABLE,
    Address,
    KeyRing,
    new_key,
    resolve_keys,
)
from celery_actors.errors import ConfigurationError, RayError
from celery_actors.store import Store

ONE, TWO, THREE = "11" * 32, "22" * 32, "33" * 32
REMOTE = Address.parse("redis://store.example:6379/0")
LOCAL = Address.parse("redis://localhost:6379/0")


@pytest.mark.parametrize(
    ("text", "url", "celery_url"),
    [
        ("redis://h:1/2", "redis://h:1/2", "redis://h:1/2"),
        ("rediss://h", "rediss://h?ssl_cert_reqs=required", "rediss://h?ssl_cert_reqs=required"),
        ("rediss://h/1?ssl_ca_certs=/c.pem", "rediss://h/1?ssl_ca_certs=/c.pem&ssl_cert_reqs=required",
         "rediss://h/1?ssl_ca_certs=/c.pem&ssl_cert_reqs=required"),
        ("rediss://h?ssl_cert_reqs=CERT_NONE", "rediss://h?ssl_cert_reqs=none",
         "rediss://h?ssl_cert_reqs=none"),
        ("valkey://h:1", "redis://h:1", "redis://h:1"),
        ("valkeys://h:1", "rediss://h:1?ssl_cert_reqs=required",
         "rediss://h:1?ssl_cert_reqs=required"),
        ("redis://", "redis://localhost:6379", "redis://localhost:6379"),
        ("redis://:pw@", "redis://:pw@localhost:6379", "redis://:pw@localhost:6379"),
        ("redis://:7000/1", "redis://localhost:7000/1", "redis://localhost:7000/1"),
        ("unix:///a/b.sock", "unix:///a/b.sock", "redis+socket:///a/b.sock"),
        ("unix:///a/b.sock?db=3", "unix:///a/b.sock?db=3",
         "redis+socket:///a/b.sock?virtual_host=3"),
        ("redis+socket:///a/b.sock?virtual_host=3", "unix:///a/b.sock?db=3",
         "redis+socket:///a/b.sock?virtual_host=3"),
        ("socket:///a/b.sock", "unix:///a/b.sock", "redis+socket:///a/b.sock"),
    ],
)  # fmt: skip
def test_an_address_is_written_for_redis_and_for_celery(
    text: str, url: str, celery_url: str
) -> None:
    address = Address.parse(text)
    assert address.url == url
    assert address.celery_url == celery_url
    assert Address.parse(address.celery_url) == address


@pytest.mark.parametrize(
    ("text", "server_url", "celery_url"),
    [
        ("redis://h/1?global_keyprefix=shop:", "redis://h/1", "redis://h/1"),
        ("unix:///a.sock?global_keyprefix=shop%3A&db=1", "unix:///a.sock?db=1",
         "redis+socket:///a.sock?virtual_host=1"),
        ("rediss://me:pw@h?global_keyprefix=shop:&ssl_ca_certs=/c.pem",
         "rediss://me:pw@h?ssl_ca_certs=/c.pem&ssl_cert_reqs=required",
         "rediss://me:pw@h?ssl_ca_certs=/c.pem&ssl_cert_reqs=required"),
        ("sentinel://one;sentinel://two/3?master_name=prime&global_keyprefix=shop:",
         "redis://primary/3", "sentinel://one:26379/3;sentinel://two:26379/3"),
    ],
)  # fmt: skip
def test_a_prefix_is_in_the_address_and_not_in_what_others_open(
    text: str, server_url: str, celery_url: str
) -> None:
    address = Address.parse(text)
    assert address.prefix == "shop:"
    assert address.server_url == server_url
    assert address.celery_url == celery_url
    assert "global_keyprefix=shop:" in address.public
    assert "pw" not in address.public
    for written in (address.url, address.shared_form):
        assert Address.parse(written) == address
    assert address.place == Address.parse(address.server_url).place or address.service


def test_an_address_without_a_prefix_has_none() -> None:
    assert LOCAL.prefix == ""
    assert Address.parse("redis://h?global_keyprefix=").prefix == ""


def test_a_prefix_that_celery_would_change_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"'shop', and must end with .* Write 'shop:'"):
        Address.parse("redis://:secret@h?global_keyprefix=shop")


@pytest.mark.parametrize("prefix", ["", "shop:"])
@pytest.mark.parametrize("store", ["redis://h/1", "rediss://h", "sentinel://one/prime/0"])
def test_celery_is_told_the_prefix_for_the_broker_and_for_results(store: str, prefix: str) -> None:
    app = make_viewer(Address.of_celery(store, {"global_keyprefix": prefix}, use_ssl=None))
    for options in (app.conf.broker_transport_options, app.conf.result_backend_transport_options):
        assert options.get("global_keyprefix", "") == prefix
        assert options.get("master_name", "") == ("prime" if "prime" in store else "")


@pytest.mark.parametrize(
    "text",
    [
        "sentinel://:pw@one:1,two/prime/3",
        "sentinel://:pw@one:1;sentinel://:pw@two:26379/3?master_name=prime",
        "sentinel://:pw@one:1/3;sentinel://:pw@two/3?master_name=prime",
        "sentinel://:pw@one:1/prime/3;sentinel://two/prime/3",
    ],
)
def test_sentinels_are_read_in_our_form_and_in_celerys(text: str) -> None:
    address = Address.parse(text)

    assert address.url == "sentinel://:pw@one:1,two:26379/prime/3"
    assert address.celery_url == "sentinel://:pw@one:1/3;sentinel://:pw@two:26379/3"
    assert (address.hosts, address.service) == ([("one", 1), ("two", 26379)], "prime")
    assert address.server_url == "redis://:pw@primary/3"
    assert Address.parse(address.shared_form) == address
    assert not address.is_private


def test_a_single_sentinel_and_the_first_database_may_be_left_short() -> None:
    address = Address.parse("sentinel://[::1]/my%20prime")
    assert address.url == "sentinel://[::1]:26379/my%20prime/0"
    assert (address.hosts, address.service) == ([("::1", 26379)], "my prime")
    assert address.celery_url == "sentinel://[::1]:26379/0"


def test_sentinels_with_tls_and_a_password_of_their_own() -> None:
    address = Address.parse("sentinels://me:pw@one/prime?ssl_ca_certs=/c.pem&sentinel_password=sp")

    assert address.sentinel_credentials == {"password": "sp"}
    assert address.server_url == (
        "rediss://me:pw@primary/0?ssl_ca_certs=%2Fc.pem&ssl_cert_reqs=required"
    )
    assert address.tls_options == {"ssl_ca_certs": "/c.pem", "ssl_cert_reqs": "required"}
    assert "pw" not in address.public
    assert "sp" not in address.public.replace("sentinels", "")


def test_tls_options_have_the_types_that_redis_wants() -> None:
    address = Address.parse("rediss://h?ssl_check_hostname=False&ssl_min_version=771")

    assert address.tls_options == {
        "ssl_check_hostname": False, "ssl_min_version": 771, "ssl_cert_reqs": "required",
    }  # fmt: skip
    assert Address.parse("redis://h").tls_options == {}


@pytest.mark.parametrize(
    "text", ["sentinel://one:26379", "sentinel://one/0", "sentinel://one;sentinel://two/0"]
)
def test_sentinels_without_the_name_of_a_primary_are_refused_with_the_form(text: str) -> None:
    with pytest.raises(ConfigurationError, match="which primary: write sentinel://"):
        Address.parse(text)


@pytest.mark.parametrize(
    "text",
    ["sentinel://u:secret@one:port/x", "sentinel:///x", "sentinel://one/x;redis://u:secret@two"],
)
def test_sentinels_that_cannot_be_read_are_refused_without_their_password(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^sentinel://… is not one of") as caught:
        Address.parse(text)
    assert "secret" not in str(caught.value)


def test_of_a_celery_app_the_way_to_speak_tls_counts() -> None:
    given = {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_keyfile": None}
    found = Address.of_celery("redis://h/1", {}, given)
    assert found == Address.parse("rediss://h/1?ssl_cert_reqs=none")
    assert Address.of_celery("redis://h/1", {}, True) == Address.parse("rediss://h/1")
    assert Address.of_celery("redis://h/1", {"visibility_timeout": 9}, False) == (
        Address.parse("redis://h/1")
    )


def test_redis_and_celery_reach_the_same_database(store: Store) -> None:
    store.run("SET", "written-by-redis", "1")
    with Connection(store.address.celery_url) as connection:
        assert connection.default_channel.client.get("written-by-redis") == b"1"


@pytest.mark.parametrize("text", ["amqp://h", "http://h", "h:6379", "", "redis:h:6379"])
def test_another_scheme_is_refused_with_the_right_forms(text: str) -> None:
    with pytest.raises(ConfigurationError, match="redis://host:port/db"):
        Address.parse(text)


def test_a_broken_host_is_a_configuration_error() -> None:
    with pytest.raises(RayError):
        Address.parse("redis://[::1")


def test_a_socket_address_needs_a_path() -> None:
    with pytest.raises(ConfigurationError, match="no socket path"):
        Address.parse("unix://")


def test_only_a_socket_address_has_a_socket_path() -> None:
    assert Address.parse("unix:///a/b.sock?db=1").socket_path == Path("/a/b.sock")
    assert REMOTE.socket_path is None


@pytest.mark.parametrize(
    "text",
    [
        "redis://:secret@h:1/0",
        "redis://user:secret@h:1/0",
        "redis://user:se@secret@h:1/0",
        "rediss://user:secret@h",
        "unix://:secret@/a.sock",
        "unix:///a.sock?db=1&password=secret",
        "redis://h:1/0?password=secret",
    ],
)
def test_the_public_address_never_shows_the_password(text: str) -> None:
    address = Address.parse(text)
    assert "secret" not in address.public
    assert "secret" in address.url


def test_the_public_address_keeps_everything_else() -> None:
    assert Address.parse("redis://user:secret@h:1/2").public == "redis://user:***@h:1/2"
    assert Address.parse("unix:///a.sock?db=1").public == "unix:///a.sock?db=1"


@pytest.mark.parametrize(
    "text",
    [
        "amqp://u:secret@h",
        "u:secret@h:6379",
        "secret@h:6379",
        "redis:u:secret@h",
        "unix://:secret@",
        "redis://u:secret@h:port",
    ],
)
def test_a_refused_address_is_reported_without_its_password(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Address.parse(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ("unix:///a.sock", True),
        ("redis://localhost", True),
        ("redis://127.0.0.1:6379", True),
        ("redis://127.8.8.8:6379", True),
        ("redis://[::1]:6379", True),
        ("redis://0.0.0.0:6379", False),
        ("redis://10.0.0.5", False),
        ("redis://store.example", False),
        ("redis://localhost.example", False),
    ],
)
def test_sockets_and_loopback_are_private(text: str, private: bool) -> None:
    assert Address.parse(text).is_private is private


def test_a_key_ring_reads_keys_apart_by_commas_and_white_space() -> None:
    ring = KeyRing.parse(f"{ONE}, {TWO}\n{THREE}\n")
    assert ring.keys == (b"\x11" * 32, b"\x22" * 32, b"\x33" * 32)


def test_a_new_key_is_read_and_never_the_same() -> None:
    assert len(KeyRing.parse(new_key()).keys) == 1
    assert new_key() != new_key()


def test_a_key_ring_does_not_show_its_keys() -> None:
    ring = KeyRing.parse(f"{ONE} {TWO}")
    assert repr(ring) == str(ring) == "KeyRing(2 keys)"


@pytest.mark.parametrize("bad", ["cafe", "zz" * 32, TWO[:-2], TWO + "22", TWO[:-1] + "é"])
def test_a_bad_key_is_named_by_its_place_and_not_repeated(bad: str) -> None:
    with pytest.raises(ConfigurationError, match="signing key number 2 is not 64") as caught:
        KeyRing.parse(f"{ONE},{bad}")
    text = "".join((str(caught.value), str(caught.value.__context__), str(caught.value.__cause__)))
    assert bad not in text
    assert ONE not in text


@pytest.mark.parametrize("text", ["", " \n", ","])
def test_no_key_at_all_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="no signing key given"):
        KeyRing.parse(text)


@pytest.fixture
def beside(tmp_path: Path) -> Address:
    """A socket with a key file beside it."""
    (tmp_path / "key").write_text(THREE)
    return Address.parse(f"unix://{tmp_path}/store.sock")


def test_the_keys_given_come_first(beside: Address, tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text(TWO)
    environment = {KEYS_VARIABLE: "44" * 32}
    ring = resolve_keys(beside, keys=ONE, key_file=file, environment=environment)
    assert ring == KeyRing.parse(ONE)


def test_a_key_file_comes_before_the_environment(beside: Address, tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text(TWO)
    ring = resolve_keys(beside, key_file=file, environment={KEYS_VARIABLE: "44" * 32})
    assert ring == KeyRing.parse(TWO)


def test_the_environment_comes_before_the_file_beside_the_socket(beside: Address) -> None:
    assert resolve_keys(beside, environment={KEYS_VARIABLE: ONE}) == KeyRing.parse(ONE)


def test_the_file_beside_the_socket_comes_before_no_secret_at_all(beside: Address) -> None:
    assert resolve_keys(beside, insecure=True, environment={}) == KeyRing.parse(THREE)


def test_without_a_key_the_error_says_how_to_make_one() -> None:
    with pytest.raises(ConfigurationError, match=r"celery_actors keygen.*insecure=True"):
        resolve_keys(LOCAL, environment={})


def test_an_insecure_store_must_be_on_this_machine() -> None:
    assert len(resolve_keys(LOCAL, insecure=True, environment={}).keys) == 1
    with pytest.raises(ConfigurationError, match="for loopback and Unix sockets only"):
        resolve_keys(REMOTE, insecure=True, environment={})


def test_the_error_about_keys_does_not_show_the_password() -> None:
    address = Address.parse("redis://:secret@store.example:6379/0")
    with pytest.raises(ConfigurationError, match=r"store\.example") as caught:
        resolve_keys(address, environment={})
    assert "secret" not in str(caught.value)


def test_both_ends_of_an_insecure_store_sign_alike() -> None:
    assert resolve_keys(LOCAL, insecure=True, environment={}) == resolve_keys(
        LOCAL, insecure=True, environment={}
    )
