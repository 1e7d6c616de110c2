"""What logs never show."""

from __future__ import annotations

import pytest

from celery_actors.config import Address, KeyRing, new_key
from celery_actors.log_format import secrets_of, without


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("redis://:p%2Fss%20w@10.0.0.5:6379/0", "p/ss w"),
        ("rediss://ann:s3cret@store.example:6379/0", "s3cret"),
        ("sentinel://:s3cret@a:26379,b:26379/name/0?sentinel_password=other%2B1", "other+1"),
    ],
)
def test_keys_and_passwords_of_the_store_are_hidden_in_either_spelling(
    url: str, password: str
) -> None:
    key = new_key()
    hidden = secrets_of(Address.parse(url), KeyRing.parse(key))

    said = without(f"{url} and {password} and {key}", hidden)
    assert password not in said
    assert key not in said
    assert "***" in said


def test_passwords_in_any_url_are_hidden_and_nothing_else_is() -> None:
    said = without("see amqp://guest:guest@h//, http://host:80/a@b and ann@example.org: fine", ())

    assert said == "see amqp://guest:***@h//, http://host:80/a@b and ann@example.org: fine"
