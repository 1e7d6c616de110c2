"""A node that the store does not hear any more: what it begins nowhere begins a second time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

import celery_actors as ca
from celery_actors.store.scripts import Scripts
from tests.integration.relay import relay
from tests.integration.support import Server, join, node_on, wait_until

pytestmark = [
    pytest.mark.debian_redis,
    pytest.mark.timeout(60),
    pytest.mark.own_store("stands between a node and a Unix socket"),
]


class Scribe:
    """Writes words to a file."""

    def write(self, path: str, word: str) -> str:
        with Path(path).open("a") as file:
            file.write(f"{word}\n")
        return word


class AsyncScribe(Scribe):
    """The same on an event loop."""

    async def write(self, path: str, word: str) -> str:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().write(path, word)


BEGIN = bytes(Scripts.words("begin", [])[1], "ascii")  # type: ignore[arg-type] # the script's name


@pytest.mark.parametrize(
    ("cls", "options", "mark"),
    [
        (Scribe, {}, b"\r\ngo\r\n"),
        (Scribe, {"max_concurrency": 2}, BEGIN),
        (AsyncScribe, {}, BEGIN),
    ],
    ids=["ordered", "threaded", "async"],
)
def test_a_call_whose_begin_the_store_did_not_hear_of_runs_once(
    server: Server, tmp_path: Path, cls: type, options: dict[str, int], mark: bytes
):
    journal = tmp_path / "journal"
    with relay(server.folder / "relay.sock", server.url) as between:
        through = replace(server, url=between.url)
        with node_on(through, name="left") as left:
            join(server)
            try:
                actor = ca.remote(cls).options(max_restarts=-1, **options).remote()
                assert ca.get(actor.__ray_ready__.remote(), timeout=20)
                between.mute_from(mark)

                ref = actor.write.remote(str(journal), "word")
                wait_until(between.is_mute.is_set, "the call's begin is on its way", 10)
                left.kill()

                with node_on(server, name="right"):
                    assert ca.get(ref, timeout=30) == "word"
                    assert journal.read_text().split() == ["word"]
                    ca.kill(actor)
            finally:
                ca.shutdown()
