"""Result records: as Celery reads them, and as callers do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from celery import Celery
from celery.backends.base import Backend

from celery_actors.broker.app import make_app
from celery_actors.config import Address, KeyRing
from celery_actors.contents import note
from celery_actors.errors import (
    ActorDiedError,
    ObjectLostError,
    RayError,
    RayTaskError,
    UnserializableException,
    UntrustedPayloadError,
    WorkerCrashedError,
)
from celery_actors.messages import decode_meta
from celery_actors.records import (
    RaisedAt,
    blobs_of,
    contained,
    error_record,
    failure_record,
    lost,
    read_result,
    success_record,
)
from celery_actors.serialization import BLOB_BYTES, Sealer
from tests.unit.held import Held

CALL_ID = "0123abcd-4567-4890-a123-000000000001"


def read(record: bytes, sealer: Sealer, call_id: str = CALL_ID) -> Any:
    return read_result(decode_meta(record), call_id, sealer)


def raised(error: Exception) -> Exception:
    """Return the error with a traceback, as a method's caller catches it."""
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


def failed(error: Exception, sealer: Sealer) -> bytes:
    return failure_record(raised(error), CALL_ID, sealer, "Counter.add", RaisedAt(42), Ties())


class Ties:
    """Notes what a record asks to be kept alive."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], str, str]] = []

    def carry(self, things: Iterable[str], kind: str, name: str) -> list[str]:
        self.asked.append((list(things), kind, name))
        return [f"{thing} {kind}:holder:{name}" for thing in things]


class Noted:
    """Notes itself while it is pickled, as handles and references do."""

    def __reduce__(self) -> tuple[Any, ...]:
        note("queue|actor")
        return Noted, ()


class TwoWordsError(Exception):
    """Pickles, and cannot be unpickled: a common mistake in the exceptions of users."""

    def __init__(self, code: int, word: str) -> None:
        super().__init__(f"{word} {code}")


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text for you")

    __repr__ = __str__


@pytest.fixture
def backend() -> Backend:
    """A stock backend that keeps nothing."""
    return Celery("reader", set_as_current=False, backend="cache+memory://").backend


# -- as Celery reads them --------------------------------------------------------------------


def test_celery_reads_a_plain_result(backend: Backend, sealer: Sealer) -> None:
    record = success_record({"a": [1, None, "é"]}, CALL_ID, sealer, "the result", Ties())
    meta = backend.decode_result(record)
    assert (meta["status"], meta["task_id"]) == ("SUCCESS", CALL_ID)
    assert meta["result"] == {"a": [1, None, "é"]}
    assert (meta["traceback"], meta["children"]) == (None, [])


def test_celery_reads_the_time_of_a_result(sealer: Sealer) -> None:
    from celery.result import AsyncResult

    app = Celery("reader", set_as_current=False, backend="cache+memory://")
    record = success_record(1, CALL_ID, sealer, "the result", Ties())
    app.backend.set(app.backend.get_key_for_task(CALL_ID), record)
    result = AsyncResult(CALL_ID, app=app)
    assert result.get(timeout=1) == 1
    assert result.date_done is not None
    assert result.date_done.utcoffset() is not None


def test_celery_reads_an_exception_with_its_type_and_traceback(
    backend: Backend, sealer: Sealer
) -> None:
    meta = backend.decode_result(failed(ValueError("no", 7), sealer))
    assert meta["status"] == "FAILURE"
    assert type(meta["result"]) is ValueError
    assert meta["result"].args == ("no", "7")
    assert "raise error" in meta["traceback"]
    assert "ValueError: ('no', 7)" in meta["traceback"]


def test_celery_reads_our_own_errors(backend: Backend) -> None:
    meta = backend.decode_result(error_record(ActorDiedError("it died", "ab12"), CALL_ID))
    assert type(meta["result"]) is ActorDiedError
    assert str(meta["result"]) == "it died"


def test_celery_with_our_backend_opens_a_signed_result(sealer: Sealer) -> None:
    app = make_app(Address.parse("redis://"), sealer, result_seconds=60)
    record = success_record({1, 2}, CALL_ID, sealer, "the result", Ties())
    assert app.backend.decode_result(record)["result"] == {1, 2}


def test_our_backend_refuses_a_signed_result_of_another_call(sealer: Sealer) -> None:
    app = make_app(Address.parse("redis://"), sealer, result_seconds=60)
    record = success_record({1, 2}, CALL_ID, sealer, "the result", Ties())
    moved = record.replace(CALL_ID.encode(), b"another")
    with pytest.raises(UntrustedPayloadError):
        app.backend.decode_result(moved)


def test_a_failure_is_named_after_the_users_exception(sealer: Sealer) -> None:
    result = json.loads(failed(TwoWordsError(7, "oh"), sealer))["result"]
    assert result["exc_type"] == "TwoWordsError"
    assert result["exc_module"] == __name__
    assert result["exc_message"] == ["oh 7"]


# -- as callers read them --------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, "x", [1, {"a": 2}], (1,), {1}, 2**70, b"y", "\ud800"])
def test_a_value_comes_back(sealer: Sealer, value: Any) -> None:
    record = success_record(value, CALL_ID, sealer, "the result", Ties())
    assert read(record, sealer) == value


def test_a_dict_that_looks_like_a_signed_value_comes_back(sealer: Sealer) -> None:
    value = {"__type__": "ca", "__value__": {"m": "", "k": "", "p": "", "b": []}}
    record = success_record(value, CALL_ID, sealer, "the result", Ties())
    assert read(record, sealer) == value


def test_the_buffers_of_a_large_result_are_named_after_the_call(sealer: Sealer) -> None:
    array = np.arange(BLOB_BYTES, dtype=np.uint8)
    sealer.buffers = Held()
    record = success_record(array, CALL_ID, sealer, "the result", Ties())
    [blob] = blobs_of(decode_meta(record))
    assert blob.id.startswith(CALL_ID)
    assert np.array_equal(read(record, sealer), array)


def test_the_buffers_of_a_large_exception_are_kept_and_named(sealer: Sealer) -> None:
    sealer.buffers = Held()
    array = np.arange(BLOB_BYTES, dtype=np.uint8)
    record = failed(ValueError(array), sealer)
    [blob] = blobs_of(decode_meta(record))
    assert blob.id.startswith(CALL_ID)
    with pytest.raises(RayTaskError) as caught:
        read(record, sealer)
    assert isinstance(caught.value, ValueError)
    assert np.array_equal(caught.value.cause.args[0], array)


def test_a_small_record_keeps_nothing_beside_itself(sealer: Sealer) -> None:
    sealer.buffers = Held()
    error = error_record(ActorDiedError("it died", "ab12"), CALL_ID)
    for record in (
        success_record({1}, CALL_ID, sealer, "r", Ties()),
        failed(ValueError("x"), sealer),
        error,
    ):
        assert blobs_of(decode_meta(record)) == []


def test_a_long_plain_result_travels_beside_the_record(sealer: Sealer) -> None:
    sealer.buffers = Held()
    value = ["word"] * BLOB_BYTES
    record = success_record(value, CALL_ID, sealer, "the result", Ties())
    assert len(record) < 2000
    assert read(record, sealer) == value


def test_a_signed_result_of_another_call_is_refused(sealer: Sealer) -> None:
    record = success_record({1}, CALL_ID, sealer, "the result", Ties())
    with pytest.raises(UntrustedPayloadError):
        read(record, sealer, call_id="another")


def test_a_signed_error_of_another_call_is_refused(sealer: Sealer) -> None:
    with pytest.raises(UntrustedPayloadError):
        read(failed(ValueError("no"), sealer), sealer, call_id="another")


def test_the_users_exception_is_raised_as_both_types(sealer: Sealer) -> None:
    with pytest.raises(ValueError, match=r"Counter\.add\(\) failed \(pid=42\)") as caught:
        read(failed(ValueError("no"), sealer), sealer)
    assert isinstance(caught.value, RayTaskError)
    assert "raise error" in caught.value.traceback_str
    assert caught.value.cause.args == ("no",)


def test_an_exception_passed_on_by_another_call_keeps_its_cause(sealer: Sealer) -> None:
    inner = RayTaskError("inner", "inner traceback", KeyError("k"), 1).as_instanceof_cause()
    with pytest.raises(KeyError) as caught:
        read(failed(inner, sealer), sealer)
    assert isinstance(caught.value, RayTaskError)
    assert isinstance(caught.value.cause, KeyError)
    assert not isinstance(caught.value.cause, RayTaskError)


def test_an_exception_that_cannot_be_pickled_arrives_as_text(sealer: Sealer) -> None:
    with pytest.raises(RayTaskError, match="raise error") as caught:
        read(failed(ValueError(threading.Lock()), sealer), sealer)
    assert "Exception ValueError isn't serializable" in str(caught.value.cause)


def test_an_exception_that_cannot_be_unpickled_arrives_with_its_traceback(sealer: Sealer) -> None:
    with pytest.raises(UnserializableException, match="TwoWordsError: oh 7"):
        read(failed(TwoWordsError(7, "oh"), sealer), sealer)


def test_an_exception_without_a_text_is_recorded_all_the_same(sealer: Sealer) -> None:
    with pytest.raises(ValueError, match="ValueError"):
        read(failed(ValueError(Unprintable()), sealer), sealer)


def test_an_exception_with_a_lone_surrogate_is_recorded(sealer: Sealer) -> None:
    with pytest.raises(ValueError, match="ValueError") as caught:
        read(failed(ValueError("file \udce9"), sealer), sealer)
    assert isinstance(caught.value, RayTaskError)
    assert caught.value.cause.args == ("file \udce9",)


@pytest.mark.parametrize("kind", [ObjectLostError, WorkerCrashedError, UntrustedPayloadError])
def test_our_own_error_comes_back_without_a_pickle(sealer: Sealer, kind: type[RayError]) -> None:
    record = error_record(kind("what happened"), CALL_ID)
    assert b"__type__" not in record
    with pytest.raises(kind, match=r"^what happened$") as caught:
        read(record, sealer)
    assert type(caught.value) is kind


def test_an_actors_death_comes_back_with_its_actor(sealer: Sealer) -> None:
    record = error_record(ActorDiedError("gone", "ab12", actor_init_failed=True), CALL_ID)
    with pytest.raises(ActorDiedError, match=r"^gone$") as caught:
        read(record, sealer)
    assert (caught.value.actor_id, caught.value.actor_init_failed) == ("ab12", True)


def test_our_own_error_with_a_lone_surrogate_is_recorded(sealer: Sealer) -> None:
    with pytest.raises(ActorDiedError, match="file"):
        read(error_record(ActorDiedError("no file \udce9"), CALL_ID), sealer)


def test_a_failure_written_by_stock_celery_is_a_ray_error(sealer: Sealer) -> None:
    record = json.dumps(
        {"status": "FAILURE", "task_id": CALL_ID, "result": {"exc_type": "KeyError"}}
    )
    with pytest.raises(RayError, match=r"ended as FAILURE: .*KeyError"):
        read(record.encode(), sealer)


def test_a_revoked_call_is_a_ray_error(sealer: Sealer) -> None:
    record = json.dumps({"status": "REVOKED", "task_id": CALL_ID, "result": None})
    with pytest.raises(RayError, match="ended as REVOKED"):
        read(record.encode(), sealer)


def test_a_result_signed_with_another_key_is_refused(sealer: Sealer) -> None:
    record = success_record({1}, CALL_ID, Sealer(KeyRing((b"\x07" * 32,))), "the result", Ties())
    with pytest.raises(UntrustedPayloadError, match="CELERY_ACTORS_KEYS"):
        read(record, sealer)


def test_a_lost_value_is_explained() -> None:
    assert CALL_ID in str(lost(CALL_ID))


# -- what values contain ---------------------------------------------------------------------


def test_a_record_begins_with_the_ties_of_what_its_value_contains(sealer: Sealer) -> None:
    ties = Ties()
    record = success_record([1, Noted(), Noted()], CALL_ID, sealer, "the result", ties)

    tie = f"queue|actor o:holder:{CALL_ID}"
    assert record.startswith(b'{"ca":{"h":["%b"]},' % tie.encode())
    assert contained(decode_meta(record)) == [tie]
    assert ties.asked == [(["queue|actor"], "o", CALL_ID)]
    assert isinstance(read(record, sealer)[1], Noted)


def test_a_value_that_contains_nothing_of_the_kind_asks_for_no_tie(sealer: Sealer) -> None:
    for value in (1, {1, 2}):
        record = success_record(value, CALL_ID, sealer, "the result", Ties())
        assert record.startswith(b'{"status"')
        assert contained(decode_meta(record)) == []


def test_what_an_exception_refers_to_is_kept_like_code(sealer: Sealer) -> None:
    ties = Ties()
    failure_record(raised(ValueError(Noted())), CALL_ID, sealer, "f", RaisedAt(1), ties)
    assert ties.asked == [(["queue|actor"], "c", CALL_ID)]
    assert contained(decode_meta(failed(ValueError("x"), sealer))) == []
