"""celery_actors with durable actors, on an embedded server that appends to a file each second."""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.drivers import base

with base.Stopwatch() as importing:
    import celery_actors as ca

STATE_BYTES = 1_000
KILLS = 200
NODE_KILLS = 3
COMMIT_EVERY = 100


@ca.remote(num_cpus=0, durable=True)
class Probe:
    """A durable actor with a state of one kilobyte and next to nothing to do."""

    def __init__(self) -> None:
        self.value = 0
        self.payload = os.urandom(STATE_BYTES)

    def tick(self) -> int:
        """Count one call."""
        self.value += 1
        return self.value

    def pid(self) -> int:
        """Return the id of the actor's process."""
        return os.getpid()

    def node_id(self) -> str:
        """Return the id of the node that the process is on."""
        return ca.get_runtime_context().get_node_id()


class System:
    """A node with its server, and further nodes where they are measured."""

    def init(self) -> None:
        """Start the server with its file, and a node."""
        self.folder = tempfile.TemporaryDirectory()
        self.context = ca.init(
            num_cpus=base.CPUS, log_to_driver=False, storage=Path(self.folder.name) / "store"
        )

    def measures(self) -> base.Measures:
        """Return what can be measured."""
        actor = Probe.remote()
        grouped = Probe.options(commit_every=COMMIT_EVERY).remote()
        self.recoveries: Sequence[float] = ()

        def call_many() -> None:
            ca.get([grouped.tick.remote() for _ in range(base.IN_FLIGHT)])

        return {
            "actor_sync": lambda request: base.rate(lambda: ca.get(actor.tick.remote()), request),
            "actor_async": lambda request: base.rate(call_many, request, calls=base.IN_FLIGHT),
            "recovery": lambda _: statistics.median(self.recovered()),
            "recovery_p99": lambda _: sorted(self.recovered())[int(KILLS * 0.99) - 1],
            "node_recovery": self.node_recovery,
        }

    def recovered(self) -> Sequence[float]:
        """Return the milliseconds from each kill -9 of an actor to its next committed call."""
        if not self.recoveries:
            actor = Probe.remote()
            self.recoveries = [self.kill_once(actor) for _ in range(KILLS)]
        return self.recoveries

    @staticmethod
    def kill_once(actor: Any) -> float:
        """Kill an actor's process; return the milliseconds until a call has been committed."""
        pid = ca.get(actor.pid.remote())
        with base.Stopwatch() as recovery:
            os.kill(pid, signal.SIGKILL)
            ca.get(actor.tick.remote())
        return recovery.seconds * 1000

    def node_recovery(self, _: base.Request) -> float:
        """Return the most seconds from kill -9 of a node to a call of its actor on another."""
        longest = 0.0
        for number in range(NODE_KILLS):
            nodes = [self.start_node(f"{number}-{which}") for which in "ab"]
            while len(ca.nodes()) < 1 + len(nodes):
                time.sleep(0.01)
            actor = Probe.options(resources={"spare": 1}).remote()
            ca.get(actor.tick.remote())
            node_id = ca.get(actor.node_id.remote())
            holder = next(node for node in nodes if node_id.startswith(node.args[-1]))
            with base.Stopwatch() as recovery:
                holder.kill()
                # A process of the killed node may answer once more before the kernel ends it.
                while ca.get(actor.node_id.remote()) == node_id:
                    pass
            longest = max(longest, recovery.seconds)
            ca.kill(actor)
            for node in nodes:
                node.terminate()
                node.wait(base.END_TIMEOUT_SECONDS)
        return longest

    def start_node(self, name: str) -> "subprocess.Popen[bytes]":
        """Start a node by its command."""
        words = ["--num-cpus", "1", "--resources", '{"spare": 1}', "--hostname", name]
        command = [sys.executable, "-m", "celery_actors", "worker", "--address"]
        return subprocess.Popen([*command, self.context.address, *words])

    def stop(self) -> None:
        """End the node with its server, and remove its file."""
        ca.shutdown()
        self.folder.cleanup()


if __name__ == "__main__":
    system = System()
    base.serve(
        version=base.version_of("celery_actors"),
        import_seconds=importing.seconds,
        init=system.init,
        measures=system.measures,
        stop=system.stop,
    )
