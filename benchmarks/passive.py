"""What a passive actor costs: memory of the store beyond its state, and the time of its next call.

    python -m benchmarks.passive                              # 10,000 actors, 200 activations
    python -m benchmarks.passive --actors 1000 --activations 50

The records are made by the package's own scripts, without processes: a driver creates detached
named actors, this program claims each as a node does, stores a first state, settles one call, and
makes it passive. They live in a database of their own on the server of a local cluster.
Activations are real: an actor whose process has ended is called, and its answer is waited for, one
at a time.
"""

import argparse
import os
import statistics
import time
from collections import Counter
from pathlib import Path

import celery_actors as ca
from celery_actors import directory, routing, runtime
from celery_actors.actor_state import ActorState
from celery_actors.config import Address, KeyRing
from celery_actors.runtime import Runtime
from celery_actors.store import Scripts

NODE = "benchmark-node"
NAME = "activated"
IDLE_SECONDS = 0.2


class Basket:
    """A class of some size, as users write them."""

    def __init__(self, owner: str = "", limit: int = 100) -> None:
        self.owner, self.limit = owner, limit
        self.items: dict[str, int] = {}

    def add(self, item: str, amount: int = 1) -> int:
        """Put something in."""
        self.items[item] = self.items.get(item, 0) + amount
        return self.items[item]

    def remove(self, item: str) -> None:
        """Take something out."""
        self.items.pop(item, None)

    def count(self) -> int:
        """Return how many things are in it."""
        return sum(self.items.values())

    def clear(self) -> None:
        """Take everything out."""
        self.items.clear()

    def refresh(self, *, force: bool = False) -> bool:
        """Look whether it is still good."""
        return force

    def process(self) -> int:
        """Return where it is."""
        return os.getpid()


BasketActor = ca.remote(durable=True, idle_timeout=IDLE_SECONDS, lifetime="detached")(Basket)


class Records:
    """Passive actors in a database of their own."""

    def __init__(self, address: str) -> None:
        self.runtime = Runtime(
            Address.parse(f"{address}?virtual_host=1" if "+socket" in address else f"{address}/1"),
            KeyRing((b"\x01" * 32,)), namespace="shop",
        )  # fmt: skip
        self.store = self.runtime.store
        self.store.run("FLUSHDB")
        Scripts.load(self.store.run)
        self.store.run("SET", routing.lease_key(NODE), "1")

    def make(self, number: int) -> None:
        """Make one actor, from its creation to its rest."""
        actor = BasketActor.options(name=f"basket-{number}").remote(f"customer-{number}")
        scripts = self.store.scripts
        owner = f"{NODE}|{number}"
        names = [routing.creation_queue("none"), routing.owned_key(NODE),
                 routing.lease_key(NODE), routing.DEAD_LETTERS]  # fmt: skip
        claim = scripts.claim(names, owner, routing.PREFIX)
        if claim is None:
            raise RuntimeError(f"nothing waits in {names[0]}")
        actor_id, keys = claim.actor_id, routing.ActorKeys(claim.queue, claim.actor_id)
        state = ActorState(Basket, actor_id, "a basket", self.runtime.sealer)
        stored = state.sign(state.take(Basket(f"customer-{number}")).data, [])
        fields = {"st": "alive", "pid": 4_000_000, "node": NODE, "cid": 100_000}
        scripts.born((keys.meta, keys.state, keys.journal), stored, 0, claim.epoch, owner, fields)
        ref = actor.add.remote("apple")
        self.runtime.calls.settle()
        scripts.commit(claim.queue, keys.meta, claim.epoch, owner, 0, 60, [("", b"", "")])
        del ref
        record = directory.ActorRecord(actor_id, claim.meta)
        if not directory.passivate(self.store, record, NODE, claim.epoch, owner):
            raise RuntimeError(f"{record.title} has calls that wait")
        self.store.run("UNLINK", routing.claim_key(owner))

    def used(self) -> int:
        """Return the bytes that the server uses."""
        return int(self.store.run("INFO", "memory")["used_memory"])

    def by_kind(self) -> Counter[str]:
        """Return the bytes of all keys, by what they are."""
        found: Counter[str] = Counter()
        for key in self.store.run("KEYS", "*"):
            name = key.decode()
            kind = name.rpartition(":")[2] if name.startswith("ca:{") else name
            if not name.startswith("ca:code:"):
                found[kind] += int(self.store.run("MEMORY", "USAGE", key, "SAMPLES", "0"))
        return found


def measure_memory(address: str, actors: int) -> None:
    """Print what passive actors use, and of which key how much."""
    records = Records(address)
    runtime.set_current(records.runtime)
    records.make(0)  # what is there once: code, scripts, sets
    before, keys = records.used(), records.by_kind()
    began = time.monotonic()
    for number in range(1, actors + 1):
        records.make(number)
    made = time.monotonic() - began
    after, kinds = records.used(), records.by_kind()
    kinds.subtract(keys)
    state = kinds.pop("v")
    print(f"{actors} passive named actors, made in {made:.1f} s")
    print(f"  used_memory: {(after - before) / actors:.0f} bytes each, with the state")
    print(f"  state: {state / actors:.0f} bytes each (MEMORY USAGE)")
    print(f"  beyond the state: {(after - before - state) / actors:.0f} bytes each")
    for kind, size in kinds.most_common(12):
        print(f"    {kind:20} {size / actors:7.1f}")
    records.store.run("FLUSHDB")
    records.runtime.close()


def _wait_passive(pid: int) -> None:
    context = runtime.current()
    while True:
        record = directory.find_named(context.store, context.namespace, NAME)
        ended = not Path(f"/proc/{pid}").exists()
        if ended and record is not None and record.state == "PASSIVE":
            return
        time.sleep(0.005)


def measure_activation(count: int) -> None:
    """Print how long a call of a passive actor takes until its answer is there."""
    actor = BasketActor.options(name=NAME).remote("somebody")
    taken = []
    for _ in range(count):
        _wait_passive(ca.get(actor.call(Basket.process)))
        began = time.perf_counter()
        ca.get(actor.call(Basket.add, "apple"))
        taken.append(1000 * (time.perf_counter() - began))
    ca.kill(actor)
    cuts = statistics.quantiles(taken, n=100)
    print(
        f"{count} activations: p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms, "
        f"most {max(taken):.1f} ms; {sum(t <= 100 for t in taken) / count:.1%} within 100 ms"
    )


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--actors", type=int, default=10_000)
    parser.add_argument("--activations", type=int, default=200)
    given = parser.parse_args()
    with ca.init(num_cpus=2) as context:
        driver = runtime.current()
        if given.activations:
            measure_activation(given.activations)
        measure_memory(context.address, given.actors)
        runtime.set_current(driver)


if __name__ == "__main__":
    main()
