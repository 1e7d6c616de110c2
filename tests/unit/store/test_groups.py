"""Placement groups: created, planned, answered, lost, removed; each step may run twice."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from celery_actors import groups, routing
from celery_actors.errors import RayError
from celery_actors.groups import Group
from celery_actors.need import Need
from celery_actors.store import Store
from tests.unit.needs import GPU, ONE
from tests.unit.store.records import messages_on

pytestmark = pytest.mark.usefixtures("no_hurry")

PLAN = ["n1", "n2"]


def create(store: Store, group_id: str = "g1", job: str = "job-1") -> Group:
    name = f"the name of {group_id}"
    groups.create(store, group_id, [ONE, GPU], "SPREAD", name=name, job=job)
    return found(store, group_id)


def found(store: Store, group_id: str = "g1") -> Group:
    group = groups.find(store, group_id)
    assert group is not None
    return group


def lease(store: Store, *nodes: str) -> None:
    for node in nodes:
        store.run("SET", routing.lease_key(node), "1")


def answer(store: Store, node: str, *indexes: int, held: bool = True, attempt: int = 1) -> bool:
    """Let a node answer an attempt, as it read the group then."""
    fields = {**found(store).fields, "attempt": str(attempt)}
    return groups.answer(store, Group("g1", fields), node, indexes, held=held)


def overdue(store: Store, group_id: str = "g1") -> None:
    """Let the time to answer, or the pause after a refusal, be over."""
    store.run("HSET", routing.group_key(group_id), "until", 1)


def line(store: Store) -> list[str]:
    return [group.group_id for group in groups.waiting(store)]


def places(store: Store) -> list[str]:
    group = found(store)
    return [group.placed(index) for index in range(len(group.bundles))]


@pytest.fixture
def planned(store: Store) -> Group:
    """A group with an attempt under way on two living nodes."""
    lease(store, "n1", "n2")
    assert groups.begin(store, create(store), PLAN)
    return found(store)


@pytest.fixture
def placed(store: Store, planned: Group) -> Group:
    """A group that both nodes hold."""
    assert answer(store, "n1", 0)
    assert answer(store, "n2", 1)
    return found(store)


# -- create ----------------------------------------------------------------------------------


def test_a_group_waits_in_line_as_it_was_asked_for(store: Store) -> None:
    group = create(store)
    assert (group.state, group.attempt, group.name, group.strategy, group.bundles, group.plan) == (
        "waiting", 0, "the name of g1", "SPREAD", [ONE, GPU], [],
    )  # fmt: skip
    create(store, "g2")
    assert line(store) == ["g1", "g2"]
    assert [each.group_id for each in groups.everything(store)] == ["g1", "g2"]


def test_a_new_group_rings(store: Store) -> None:
    bell = store.subscribe(routing.BELL)
    create(store)
    assert messages_on(bell, 1) == ["groups"]


def test_a_group_is_created_once(store: Store, placed: Group) -> None:
    create(store)
    assert found(store).fields == placed.fields
    assert line(store) == []


def test_a_name_is_taken_once_and_free_again_when_its_group_is_gone(store: Store) -> None:
    create(store)
    with pytest.raises(ValueError, match="'the name of g1' exists"):
        groups.create(store, "g2", [ONE], "PACK", name="the name of g1", job="")
    assert groups.find(store, "g2") is None
    named = groups.find_named(store, "the name of g1")
    assert named is not None
    assert named.group_id == "g1"
    groups.remove(store, "g1")
    assert groups.find_named(store, "the name of g1") is None
    groups.create(store, "g2", [ONE], "PACK", name="the name of g1", job="")
    assert store.hash(routing.GROUP_NAMES) == {"the name of g1": "g2"}


def test_a_driver_whose_session_is_over_makes_no_group(store: Store) -> None:
    store.run("SET", routing.gone_key("job-1"), "1")
    with pytest.raises(RayError, match="was taken for lost"):
        create(store)
    assert store.texts("KEYS", "*group*") == []


def test_a_group_that_is_not_known_is_not_found(store: Store) -> None:
    assert groups.find(store, "g1") is None


# -- plan ------------------------------------------------------------------------------------


def test_an_attempt_begins_with_a_plan(planned: Group, store: Store) -> None:
    assert (planned.state, planned.attempt, planned.plan) == ("reserving", 1, PLAN)
    assert line(store) == ["g1"]


def test_an_attempt_rings(store: Store) -> None:
    group = create(store)
    bell = store.subscribe(routing.BELL)
    groups.begin(store, group, PLAN)
    assert messages_on(bell, 1) == ["groups"]


def test_a_plan_begins_once(store: Store) -> None:
    group = create(store)
    assert [groups.begin(store, group, PLAN) for _ in range(2)] == [True, False]
    overdue(store)
    assert not groups.begin(store, group, ["n3", "n4"])
    assert found(store).plan == PLAN


def test_one_attempt_is_under_way_at_a_time(store: Store, planned: Group) -> None:
    other = create(store, "g2")
    assert not groups.begin(store, other, PLAN)
    assert not groups.begin(store, planned, PLAN)
    overdue(store)
    assert groups.begin(store, other, PLAN)
    assert not groups.begin(store, planned, PLAN)


def test_an_attempt_that_nobody_answered_is_made_again(store: Store, planned: Group) -> None:
    overdue(store)
    assert groups.begin(store, planned, ["n3", "n4"])
    assert (found(store).attempt, found(store).plan) == (2, ["n3", "n4"])


def test_a_group_that_is_there_or_gone_is_not_planned(store: Store, placed: Group) -> None:
    assert not groups.begin(store, placed, PLAN)
    groups.remove(store, "g1")
    assert not groups.begin(store, placed, PLAN)
    assert not groups.begin(store, Group("g9", {"attempt": "0"}), PLAN)


# -- answer ----------------------------------------------------------------------------------


def test_a_group_is_there_when_the_last_node_holds_its_part(store: Store, planned: Group) -> None:
    assert answer(store, "n2", 1)
    assert (found(store).state, places(store)) == ("reserving", ["", ""])
    bell = store.subscribe(routing.BELL)
    assert answer(store, "n1", 0)
    assert messages_on(bell, 1) == ["groups"]
    assert (found(store).state, places(store)) == ("created", ["n1", "n2"])
    assert line(store) == []
    assert [name for name in found(store).fields if name.startswith("held:")] == []


def test_one_node_may_answer_for_all_bundles(store: Store) -> None:
    lease(store, "n1")
    groups.begin(store, create(store), ["n1", "n1"])
    assert answer(store, "n1", 0, 1)
    assert (found(store).state, places(store)) == ("created", ["n1", "n1"])


def test_an_answer_may_be_given_twice(store: Store, planned: Group) -> None:
    assert [answer(store, "n1", 0) for _ in range(2)] == [True, True]
    assert found(store).state == "reserving"
    assert [answer(store, "n2", 1) for _ in range(2)] == [True, True]
    assert (found(store).state, places(store)) == ("created", PLAN)


def test_an_answer_counts_still_where_another_bundle_was_lost_since(
    store: Store, placed: Group
) -> None:
    # The node's first answer arrived, its reply did not; then the other node was lost.
    groups.lost(store, "n1")
    assert answer(store, "n2", 1)
    assert places(store) == ["", "n2"]
    assert groups.begin(store, found(store), ["n3", "n2"])
    assert answer(store, "n2", 1)


def test_a_refusal_ends_the_attempt_and_rings(store: Store, planned: Group) -> None:
    answer(store, "n1", 0)
    bell = store.subscribe(routing.BELL)
    assert answer(store, "n2", 1, held=False)
    assert messages_on(bell, 1) == ["groups"]
    assert (found(store).state, places(store)) == ("waiting", ["", ""])
    assert line(store) == ["g1"]


def test_a_refusal_may_be_said_twice(store: Store, planned: Group) -> None:
    assert [answer(store, "n2", 1, held=False) for _ in range(2)] == [True, False]
    overdue(store)
    groups.begin(store, found(store), PLAN)
    assert not answer(store, "n2", 1, held=False)
    assert found(store).state == "reserving"


def test_the_next_attempt_waits_until_nodes_have_said_what_they_have(
    store: Store, planned: Group
) -> None:
    answer(store, "n2", 1, held=False)
    assert not groups.begin(store, found(store), PLAN)
    assert groups.begin(store, create(store, "g2"), PLAN)
    overdue(store, "g2")
    overdue(store)
    assert groups.begin(store, found(store), PLAN)


def test_what_was_held_for_an_attempt_that_failed_does_not_count(
    store: Store, planned: Group
) -> None:
    answer(store, "n1", 0)
    answer(store, "n2", 1, held=False)
    assert not answer(store, "n1", 0)
    overdue(store)
    groups.begin(store, found(store), PLAN)
    assert not answer(store, "n1", 0, attempt=1)
    assert answer(store, "n2", 1, attempt=2)
    assert found(store).state == "reserving"
    assert answer(store, "n1", 0, attempt=2)
    assert found(store).state == "created"


def test_a_late_answer_counts_while_no_other_attempt_began(store: Store, planned: Group) -> None:
    overdue(store)
    assert answer(store, "n1", 0)
    assert answer(store, "n2", 1)
    assert found(store).state == "created"


def test_a_node_without_its_lease_cannot_answer(store: Store, planned: Group) -> None:
    store.run("DEL", routing.lease_key("n1"))
    assert not answer(store, "n1", 0)
    assert not answer(store, "n1", 0, held=False)
    assert answer(store, "n2", 1)
    assert found(store).state == "reserving"


def test_an_answer_for_a_group_that_was_removed_does_not_count(
    store: Store, planned: Group
) -> None:
    answer(store, "n1", 0)
    groups.remove(store, "g1")
    assert not answer(store, "n2", 1)
    assert not answer(store, "n1", 0)
    assert found(store).state == "removed"


# -- lost ------------------------------------------------------------------------------------


def test_the_bundles_of_a_lost_node_look_for_a_place_and_the_others_stay(
    store: Store, placed: Group
) -> None:
    create(store, "g2")
    bell = store.subscribe(routing.BELL)
    groups.lost(store, "n1")
    assert messages_on(bell, 1) == ["groups"]
    assert (found(store).state, places(store)) == ("waiting", ["", "n2"])
    assert line(store) == ["g1", "g2"]


def test_a_loss_counts_once(store: Store, placed: Group) -> None:
    for _ in range(2):
        groups.lost(store, "n1")
    assert line(store) == ["g1"]
    assert (found(store).state, places(store)) == ("waiting", ["", "n2"])


def test_what_was_lost_is_placed_again(store: Store, placed: Group) -> None:
    groups.lost(store, "n1")
    lease(store, "n3")
    assert groups.begin(store, found(store), ["n3", "n2"])
    assert answer(store, "n3", 0, attempt=2)
    assert (found(store).state, places(store)) == ("created", ["n3", "n2"])


def test_the_loss_of_another_node_changes_nothing(store: Store, placed: Group) -> None:
    groups.lost(store, "n3")
    assert found(store).fields == placed.fields


def test_an_attempt_that_counts_on_a_lost_node_is_over(store: Store, planned: Group) -> None:
    # It held its part, and died before the other answered: the group must not be there by halves.
    answer(store, "n1", 0)
    groups.lost(store, "n1")
    assert found(store).state == "waiting"
    assert not answer(store, "n2", 1)
    assert groups.begin(store, found(store), ["n2", "n2"])


def test_both_nodes_of_a_group_may_be_lost(store: Store, placed: Group) -> None:
    groups.lost(store, "n1")
    assert groups.begin(store, found(store), ["n3", "n2"])
    groups.lost(store, "n2")
    assert (found(store).state, places(store)) == ("waiting", ["", ""])
    assert line(store) == ["g1"]


def test_a_group_that_is_removed_is_not_brought_back_by_a_loss(store: Store, placed: Group) -> None:
    groups.remove(store, "g1")
    words: tuple[str, str, int] = ("n1", "g1", 2)
    names = [routing.group_key("g1"), routing.GROUPS_WAITING, routing.BELL]
    store.scripts.group("group_lost", names, *words)
    store.scripts.group("group_lost", [routing.group_key("g9"), *names[1:]], *words)
    assert found(store).state == "removed"
    assert line(store) == []
    assert groups.find(store, "g9") is None


# -- remove ----------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_a_removed_group_is_remembered_for_a_while(store: Store, placed: Group, times: int) -> None:
    bell = store.subscribe(routing.BELL)
    for _ in range(times):
        groups.remove(store, "g1")
    assert messages_on(bell, 1) == ["groups"]
    assert found(store).state == "removed"
    assert groups.everything(store) == []
    assert 0 < int(store.run("TTL", routing.group_key("g1"))) <= groups.REMEMBER_SECONDS


def test_a_group_that_waits_leaves_the_line(store: Store) -> None:
    create(store)
    create(store, "g2")
    groups.remove(store, "g1")
    assert line(store) == ["g2"]


def test_removing_what_is_not_known_leaves_nothing(store: Store) -> None:
    groups.remove(store, "g1")
    assert store.texts("KEYS", "*") == []


def test_groups_end_with_their_driver(store: Store) -> None:
    for group_id, job in (("g1", "job-1"), ("g2", "job-2"), ("g3", "")):
        create(store, group_id, job)
    for _ in range(2):
        groups.end_job(store, "job-1")
    assert line(store) == ["g2", "g3"]
    assert store.run("EXISTS", routing.job_groups_key("job-1")) == 0


def test_of_a_removed_group_nothing_is_left_but_its_memory(store: Store) -> None:
    create(store)
    groups.remove(store, "g1")
    assert store.texts("KEYS", "*") == [routing.group_key("g1")]


def test_bundles_with_conditions_survive_the_store(store: Store) -> None:
    needs: Sequence[Need] = [Need((("CPU", 5_000),), selector=(("zone", "!a"),))]
    groups.create(store, "g1", needs, "STRICT_PACK", name="", job="")
    assert found(store).bundles == needs
