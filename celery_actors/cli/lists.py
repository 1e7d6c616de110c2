"""``celery_actors list actors|nodes|calls|queues``."""

from __future__ import annotations

import click

from .commands import LISTS
from .examples import examples
from .group import Commands
from .reach import address_option, json_option, open_store
from .show import echo_json, echo_table

__all__ = ["actors", "calls", "lists", "nodes", "queues"]


@click.group(
    name="list",
    cls=Commands,
    table=LISTS,
    epilog=examples(
        "celery_actors list actors",
        "celery_actors list actors --json | jq -r '.[].death_cause'",
        "celery_actors list calls --limit 20",
    ),
)
def lists() -> None:
    """List the actors, nodes, calls or queues of a cluster."""


@click.command(
    epilog=examples(
        "celery_actors list actors",
        "celery_actors list actors --dead 0 --json",
    )
)
@address_option
@click.option(
    "--dead", default=100, show_default=True, type=click.IntRange(min=0), metavar="N",
    help="Show the newest N that have died, too; they are remembered for a day.",
)  # fmt: skip
@json_option
def actors(address: str | None, dead: int, as_json: bool) -> None:
    """List actors: state, process, restarts, why they died."""
    from .. import listing

    with open_store(address) as store:
        found = listing.actors(store, dead)
    if as_json:
        echo_json(found)
        return
    echo_table(
        ("id", "class", "name", "namespace", "state", "node", "pid", "restarts", "death cause"),
        (
            (
                each["actor_id"], each["class_name"], each["name"] or "-", each["namespace"],
                each["state"], each["node_id"] or "-", str(each["pid"] or "-"),
                str(each["num_restarts"]), each["death_cause"],
            )
            for each in found
        ),
        "no actors",
    )  # fmt: skip


@click.command(
    epilog=examples(
        "celery_actors list nodes",
        "celery_actors list nodes --json | jq '.[].available.CPU'",
    )
)
@address_option
@json_option
def nodes(address: str | None, as_json: bool) -> None:
    """List nodes: state, process, what they have and what of it is free."""
    from .. import listing, registry

    with open_store(address) as store:
        records = registry.records(store)
    found = [listing.node_row(record) for record in records]
    if as_json:
        echo_json(found)
        return
    echo_table(
        ("id", "host", "state", "pid", "workers", "has", "free"),
        (
            (
                each["node_id"], each["host"], each["state"], str(each["pid"]),
                str(each["workers"]), listing.amounts(record.about["total"]),
                listing.amounts(record.about["free"]),
            )
            for each, record in zip(found, records, strict=True)
        ),
        "no nodes: start one with `celery_actors worker`",
    )  # fmt: skip


@click.command(
    epilog=examples(
        "celery_actors list calls",
        "celery_actors list calls --queue ca.actor.shop.till --json",
    )
)
@address_option
@click.option("--limit", default=100, show_default=True, type=click.IntRange(min=1), metavar="N")
@click.option("--queue", help="Only those of this queue.")
@json_option
def calls(address: str | None, limit: int, queue: str | None, as_json: bool) -> None:
    """List calls that run or wait, in the order of their queues.

    RUNNING has begun or is about to; place 1 is next in its queue, - has left the line.
    """
    from .. import waiting_calls

    with open_store(address) as store:
        found = (
            waiting_calls.calls_in(store, queue, limit + 1)
            if queue
            else waiting_calls.calls(store, limit + 1)
        )
    if len(found) > limit:
        click.echo(f"the first {limit} of more: see --limit", err=True)
        found = found[:limit]
    if as_json:
        echo_json(found)
        return
    echo_table(
        ("id", "call", "state", "queue", "place", "actor", "retries"),
        (
            (
                each["call_id"], each["task"], each["state"], each["queue"],
                str(each["place"] or "-"), each["actor"] or "-", str(each["retries"]),
            )
            for each in found
        ),
        "no calls",
    )  # fmt: skip


@click.command(
    epilog=examples(
        "celery_actors list queues",
        "celery_actors list queues --json | jq 'map(.length) | add'",
    )
)
@address_option
@json_option
def queues(address: str | None, as_json: bool) -> None:
    """List queues: how much waits in each, and what it is for."""
    from .. import listing

    with open_store(address) as store:
        found = listing.queues(store)
    if as_json:
        echo_json(found)
        return
    echo_table(
        ("queue", "waiting", "kind", "what"),
        ((each["queue"], str(each["length"]), each["kind"], each["what"]) for each in found),
        "no queues",
    )
