"""Who keeps actors and values alive: ties that are added, dropped, and left by ended sessions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from celery_actors import directory, routing, tokens
from celery_actors.messages import outline
from celery_actors.need import Need
from celery_actors.store import Store
from tests.unit.store.records import StoredActor, start_node

TTL = 60


NOBODY = directory.Creator()
SPEC = b'{"__type__":"ca","__value__":{"m":"","k":"","p":""}}'


def hold(store: Store, *ties: str) -> int:
    return int(store.scripts._eval("hold", [], *tokens.PREFIXES, TTL, *ties))


def drop(store: Store, *ties: str) -> list[bytes]:
    return store.scripts.drop(tokens.PREFIXES, 100, ties)


def members(store: Store, key: str) -> set[str]:
    return set(store.texts("SMEMBERS", key))


# -- values ----------------------------------------------------------------------------------


def put(store: Store, name: str, *inside: str, value: str = "1") -> None:
    record: dict[str, Any] = {"ca": {"h": inside}} if inside else {}
    record |= {"status": "SUCCESS", "result": json.loads(value)}
    text = json.dumps(record, separators=(",", ":"))
    store.run("SET", routing.result_key(name), text, "EX", TTL)


def stored(store: Store, name: str) -> bool:
    return bool(store.run("EXISTS", routing.result_key(name)))


def test_a_value_goes_with_its_last_tie(store: Store) -> None:
    put(store, "v")
    assert hold(store, "v p:s1:1", "v m:job:c1") == 2
    drop(store, "v p:s1:1")
    assert stored(store, "v")
    assert members(store, routing.object_tokens("v")) == {"m:job:c1"}
    drop(store, "v m:job:c1")
    assert store.texts("KEYS", "*") == []


def test_adding_and_dropping_twice_is_the_same_as_once(store: Store) -> None:
    put(store, "v")
    for _ in range(2):
        hold(store, "v p:s1:1", "v p:s2:1")
    for _ in range(2):
        drop(store, "v p:s1:1")
    assert stored(store, "v")
    assert drop(store, "v p:s2:1", "v p:s2:1") == []
    assert store.texts("KEYS", "*") == []


def test_a_held_value_does_not_expire(store: Store) -> None:
    put(store, "v")
    hold(store, "v p:s1:1")
    assert int(store.run("TTL", routing.result_key("v"))) == -1


def test_dropping_a_value_drops_what_it_contains_all_the_way_down(store: Store) -> None:
    put(store, "inner")
    put(store, "kept")
    put(store, "middle", "inner o:job:middle", "kept o:job:middle")
    put(store, "outer", "middle o:job:outer")
    hold(
        store, "inner o:job:middle", "kept o:job:middle", "kept p:s1:1", "middle o:job:outer",
        "outer p:s1:2",
    )  # fmt: skip
    drop(store, "outer p:s1:2")
    left = [name for name in ("inner", "kept", "middle", "outer") if stored(store, name)]
    assert left == ["kept"]
    assert members(store, routing.held_key("job")) == set()
    assert members(store, routing.held_key("s1")) == {"kept p:s1:1"}


def test_a_value_that_nobody_ever_held_is_removed_with_what_it_contains(store: Store) -> None:
    put(store, "inner")
    put(store, "large", "inner o:job:large")
    hold(store, "inner o:job:large")
    drop(store, "large -")
    assert store.texts("KEYS", "*") == []


def test_the_records_of_freed_values_are_returned_where_they_may_have_buffers(
    store: Store,
) -> None:
    sealed = '{"__type__":"ca","__value__":{}}'
    put(store, "sealed", value=sealed)
    put(store, "plain")
    hold(store, "sealed p:s1:1", "plain p:s1:2")
    (record,) = drop(store, "sealed p:s1:1", "plain p:s1:2")
    assert sealed.encode() in record


def test_ties_that_nobody_could_have_made_do_nothing(store: Store) -> None:
    put(store, "v")
    assert drop(store, "", "v", "v ", " p:s:1", "a|b") == []
    assert stored(store, "v")


# -- actors ----------------------------------------------------------------------------------


@dataclass
class Counted(StoredActor):
    """An actor that its creator's session holds."""

    creator: directory.Creator = NOBODY

    @property
    def tie(self) -> str:
        return f"{self.keys.thing} p:s1:1"

    def create(self, *, detached: bool = False) -> str | None:
        return directory.create(
            self.store, actor_id=self.actor_id, queue=self.keys.queue,
            name_field=routing.name_field("default", self.name), spec=SPEC, need=Need(),
            job="job-1", detached=detached, creator=self.creator, tie="" if detached else self.tie,
            fields={"class": "Counter", "max_restarts": 1},
        )  # fmt: skip

    @property
    def named(self) -> bool:
        field = routing.name_field("default", self.name)
        return bool(self.store.run("HEXISTS", routing.NAMES, field))


@pytest.fixture
def actor(store: Store) -> Counted:
    """A living actor with one handle, in its creator's process."""
    found = Counted(store)
    found.start()
    return found


def test_a_new_actor_is_held_by_its_creator(actor: Counted, store: Store) -> None:
    assert members(store, actor.keys.tokens) == {"p:s1:1"}
    assert members(store, routing.held_key("s1")) == {actor.tie}


def test_the_last_drop_sends_one_last_call_behind_the_others(actor: Counted, store: Store) -> None:
    hold(store, f"{actor.keys.thing} m:job-1:c1")
    actor.submit(1, "a")
    drop(store, actor.tie)
    assert actor.waiting == ["a"]
    for _ in range(2):
        drop(store, f"{actor.keys.thing} m:job-1:c1")
    call, last = actor.waiting
    assert call == "a"
    message = outline(last.encode())
    assert message.task == "Counter.__ray_terminate__"
    assert message.unanswered
    assert directory.answer_to(message, b"record").key == ""


def test_a_tie_that_came_before_the_drop_keeps_the_actor(actor: Counted, store: Store) -> None:
    hold(store, f"{actor.keys.thing} p:s2:1")
    drop(store, actor.tie)
    assert actor.waiting == []


def test_a_detached_actor_has_no_ties(store: Store) -> None:
    actor = Counted(store)
    actor.create(detached=True)
    drop(store, actor.tie)
    assert actor.waiting == []
    assert members(store, routing.job_key("job-1")) == set()


def test_the_name_of_a_crashed_actor_goes_with_its_last_tie(actor: Counted, store: Store) -> None:
    actor.release(0, [], next_state="")
    assert actor.bury()
    assert actor.named
    assert int(store.run("TTL", actor.keys.meta)) == -1
    assert Counted(store, "actor-2").create() == "actor-1"

    hold(store, f"{actor.keys.thing} p:s2:1")
    drop(store, actor.tie)
    assert actor.named, "a copy of the handle is left"
    drop(store, f"{actor.keys.thing} p:s2:1")

    assert not actor.named
    assert int(store.run("TTL", actor.keys.meta)) > 0
    assert Counted(store, "actor-2").create() is None


def test_kill_frees_the_name_whoever_holds_the_actor(actor: Counted, store: Store) -> None:
    actor.kill()
    assert actor.bury()
    assert not actor.named
    assert not store.run("EXISTS", actor.keys.tokens)
    hold(store, f"{actor.keys.thing} p:s2:1")
    assert not store.run("EXISTS", actor.keys.tokens), "nothing is left of a buried actor"


def test_kill_frees_the_name_of_an_actor_that_had_crashed(actor: Counted) -> None:
    actor.release(0, [], next_state="")
    actor.bury()
    assert not actor.kill()
    assert not actor.named


def test_an_actor_ends_with_the_actor_that_created_it(store: Store) -> None:
    start_node(store)
    parent = Counted(store)
    parent.create()
    child = Counted(store, "actor-2", "child", creator=directory.Creator("actor-1"))
    child.create()
    free = Counted(
        store, "actor-3", "free", creator=directory.Creator("actor-2", outlives_driver=True)
    )
    free.create()
    assert members(store, routing.job_key("job-1")) == {"actor-1", "actor-2"}

    directory.end(store, "actor-1", parent.keys.queue, "test", TTL)

    assert [one.meta["st"] for one in (parent, child, free)] == ["buried"] * 3
    assert store.texts("KEYS", routing.job_key("*")) == []


# -- sessions --------------------------------------------------------------------------------


def test_what_an_ended_session_held_ends(actor: Counted, store: Store) -> None:
    put(store, "v")
    hold(store, "v p:s1:2", *(f"w{number} p:s1:{number + 10}" for number in range(500)))
    tokens.leave(store, "s1", TTL)
    assert not stored(store, "v")
    assert len(actor.waiting) == 1, "its last call"
    assert not store.run("EXISTS", routing.held_key("s1"))


@pytest.mark.parametrize(
    "record",
    [
        '"__type__"',
        '{"__type__":1',
        '{"status":"SUCCESS","result":{"__type__":"ca","__value__":7}}',
        '{"ca":{"x":7},"status":"FAILURE","result":"__type__"}',
        '{"ca":{"x":"__type__"},"status":"FAILURE","result":null}',
    ],
)
def test_a_value_whose_record_cannot_be_read_goes_like_any_other(store: Store, record: str) -> None:
    store.run("SET", routing.result_key("v"), record)
    put(store, "w")
    hold(store, "v p:s1:1", "w p:s1:2")

    tokens.leave(store, "s1", TTL)

    assert not stored(store, "v")
    assert not stored(store, "w")


def test_late_words_of_an_ended_session_do_not_count(store: Store) -> None:
    tokens.leave(store, "s1", TTL)
    assert hold(store, "v p:s1:1") == 0
    actor = Counted(store)
    actor.create()
    assert members(store, actor.keys.tokens) == set()
    assert store.texts("KEYS", "ca:held:*") == []


def test_values_in_calls_of_an_ended_driver_stay_for_a_time(store: Store) -> None:
    put(store, "argument")
    put(store, "late")
    hold(store, "argument p:job:1", "argument m:job:c1")
    tokens.leave(store, "job", TTL)
    assert hold(store, "late m:job:c2") == 1
    for name in ("argument", "late"):
        assert stored(store, name)
        assert 0 < int(store.run("TTL", routing.result_key(name))) <= TTL
        assert 0 < int(store.run("TTL", routing.object_tokens(name))) <= TTL
    assert not store.run("EXISTS", routing.held_key("job"))


def test_results_that_an_ended_session_asked_for_go_with_what_they_contain(
    actor: Counted, store: Store
) -> None:
    put(store, "inner")
    put(store, "result", "inner o:s2:result", f"{actor.keys.thing} o:s2:result")
    hold(store, "inner o:s2:result", f"{actor.keys.thing} o:s2:result")
    drop(store, actor.tie)
    tokens.leave(store, "s2", TTL)
    assert len(actor.waiting) == 1, "its last call"
    assert not stored(store, "inner")
    assert not stored(store, "result")
    assert hold(store, "late o:s2:late") == 0
    assert hold(store, f"{actor.keys.thing} o:s2:late") == 0


def test_a_result_that_somebody_else_holds_outlives_the_session_that_asked_for_it(
    actor: Counted, store: Store
) -> None:
    put(store, "inner")
    put(store, "result", "inner o:s2:result", f"{actor.keys.thing} o:s2:result")
    hold(store, "result p:s2:1", "result p:s3:1", "inner o:s2:result")
    hold(store, f"{actor.keys.thing} o:s2:result")
    drop(store, actor.tie)
    tokens.leave(store, "s2", TTL)
    assert actor.waiting == []
    assert stored(store, "inner")
    assert hold(store, f"{actor.keys.thing} o:s2:result", "inner o:s2:result") == 2
    assert store.texts("KEYS", routing.held_key("s2")) == []

    drop(store, "result p:s3:1")

    assert len(actor.waiting) == 1
    assert not stored(store, "inner")


# -- what calls leave ------------------------------------------------------------------------


def test_a_commit_drops_the_ties_of_its_calls_in_the_same_step(
    actor: Counted, store: Store
) -> None:
    put(store, "v")
    hold(store, "v m:job-1:c1")
    actor.submit(1, "a", "b")
    words = tokens.dropping([tokens.Remains(["k"], ties=["v m:job-1:c1"]), tokens.Remains()])
    names = [actor.keys.queue, actor.keys.meta, ""]
    settled = ("key-1", "record", "")
    reply = store.scripts._eval(
        "commit", names, actor.epoch, actor.owner, 0, 1, 1, TTL, *settled, *words
    )
    assert reply == [0, [b"b"], 1, []]
    assert not stored(store, "v")


def test_a_fenced_commit_drops_nothing(actor: Counted, store: Store) -> None:
    put(store, "v")
    hold(store, "v m:job-1:c1")
    words = tokens.dropping([tokens.Remains(ties=["v m:job-1:c1"])])
    names = [actor.keys.queue, actor.keys.meta, ""]
    settled = ("key-1", "record", "")
    assert store.scripts._eval("commit", names, "1", "x", 0, 1, 1, TTL, *settled, *words) == [-10]
    assert stored(store, "v")


def test_a_call_out_of_line_drops_its_ties_as_it_is_settled(actor: Counted, store: Store) -> None:
    put(store, "v", value='{"__type__":"ca"}')
    hold(store, "v m:job-1:c1")
    actor.submit(1, "a")
    actor.take(0, 1)
    keys = actor.keys
    names = [keys.queue, keys.meta, keys.parked, keys.begun]
    words = tokens.dropping([tokens.Remains(ties=["v m:job-1:c1"])])
    settled = ("key-1", "record", "")
    reply = store.scripts._eval(
        "take", names, actor.epoch, actor.owner, 1, 0, TTL, 1, 0, *settled, *words
    )
    assert len(reply[3]) == 1
    assert not stored(store, "v")


def test_plain_calls_leave_nothing() -> None:
    assert tokens.dropping([tokens.Remains(["k"])]) == ()
    plain = {"headers": {"id": "1", "task": "f"}, "properties": {}, "body": "[[1],{},null]",
             "content-type": "application/json"}  # fmt: skip
    assert tokens.remains_of(outline(json.dumps(plain).encode())) is None


def test_a_call_leaves_its_ties_even_where_its_body_cannot_be_read(store: Store) -> None:
    put(store, "v")
    hold(store, "v m:job-1:c1")
    tag = ["s", 1, "job-1", "", 0, None, ["v m:job-1:c1"]]
    broken = {"headers": {"id": "1", "task": "f", "ca": tag}, "properties": {},
              "body": "__type__", "content-type": "application/json"}  # fmt: skip
    tokens.discard(store, [b"no message", json.dumps(broken).encode()])
    assert not stored(store, "v")


def test_keys_stay_at_least_so_long_and_none_for_less(store: Store) -> None:
    store.run("SET", "short", 1, "EX", 10)
    store.run("SET", "long", 1, "EX", 1000)
    store.run("SET", "for good", 1)

    keys = ["short", "long", "for good", "missing"]
    assert store.scripts._eval("extend", keys, 100) == 1

    assert 10 < int(store.run("TTL", "short")) <= 100
    assert int(store.run("TTL", "long")) > 100
    assert int(store.run("TTL", "for good")) == -1
    assert not store.run("EXISTS", "missing")
