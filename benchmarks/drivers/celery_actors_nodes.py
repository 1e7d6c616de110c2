"""celery_actors on two nodes with one logical GPU each, on the embedded server."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import psutil
import redis
from celery import Celery

from benchmarks.drivers import base

with base.Stopwatch() as importing:
    import celery_actors as ca

WAITING = 1_000
LEAST_SECONDS = 10.0  # for what an idle node does: it looks around about once a second
ARRIVAL_SECONDS = 3.0


@ca.remote(num_cpus=0)
class Probe:
    """An actor with next to nothing to do."""

    def pid(self) -> int:
        """Return the id of the actor's process."""
        return os.getpid()


@ca.remote(num_cpus=0, num_gpus=1)
def nothing() -> None:
    """Return at once."""


def create(count: int) -> tuple[Sequence[Any], Sequence[int]]:
    """Create so many actors that they use up both GPUs and wait for one answer of each."""
    share = base.share_of(base.NODES, count)
    actors = [Probe.options(num_gpus=share).remote() for _ in range(count)]
    return actors, ca.get([actor.pid.remote() for actor in actors])


def end(actors: Sequence[Any]) -> None:
    """Kill these actors."""
    for actor in actors:
        ca.kill(actor)


class System:
    """The first node, which `init` starts with the server, and the second one."""

    node: "subprocess.Popen[bytes]"
    address: str

    def init(self) -> None:
        """Start both nodes and wait until both are there."""
        context = ca.init(num_cpus=base.CPUS, num_gpus=1, log_to_driver=False)
        self.address = context.address  # the signing key lies beside the socket
        self.node = self.start_node("second", 1)
        while len(ca.nodes()) < base.NODES:
            time.sleep(0.01)

    def start_node(self, name: str, gpus: int) -> "subprocess.Popen[bytes]":
        """Start a node by its command."""
        words = ["--num-cpus", str(base.CPUS), "--num-gpus", str(gpus), "--hostname", name]
        command = [sys.executable, "-m", "celery_actors", "worker", "--address", self.address]
        return subprocess.Popen([*command, *words])

    def measures(self) -> base.Measures:
        """Return what can be measured."""
        crew = base.Crew(create=create, end=end)
        return {
            "device_actors": crew.turnover_rate,
            "idle_cpu": lambda request: self.watch(request)[0],
            "idle_commands": lambda request: self.watch(request)[1],
            "waiting_cpu": lambda request: self.watch_waiting(request)[0],
            "waiting_commands": lambda request: self.watch_waiting(request)[1],
            "join": self.join,
        }

    def watch_waiting(self, request: base.Request) -> tuple[float, float]:
        """Watch the second node while calls wait for GPUs that actors hold."""
        holders = [Probe.options(num_gpus=1).remote() for _ in range(base.NODES)]
        ca.get([holder.pid.remote() for holder in holders])
        waiting = [nothing.remote() for _ in range(WAITING)]
        time.sleep(ARRIVAL_SECONDS)  # their arrival is over; waiting is measured
        try:
            return self.watch(request)
        finally:
            for ref in waiting:
                ca.cancel(ref)
            end(holders)

    def watch(self, request: base.Request) -> tuple[float, float]:
        """Return the second node's processor time in % of a core, and commands per queue of a node.

        All commands count that the server gets, so those of this driver, too; those inside scripts
        do not.
        """
        consumed = self.consumed_queues()
        time.sleep(base.SETTLE_SECONDS)
        processes = [psutil.Process(self.node.pid)]
        processes += processes[0].children(recursive=True)
        before = processor_seconds(processes)
        with base.Stopwatch() as watching:
            commands = self.commands(max(LEAST_SECONDS, request.seconds))
        used = processor_seconds(processes) - before
        rate = commands / watching.seconds / base.NODES
        return 100 * used / watching.seconds, rate / consumed

    def consumed_queues(self) -> int:
        """Return how many queues the second node consumes, as Celery's own tool sees it."""
        app = Celery(broker=self.address)
        deadline = time.monotonic() + base.END_TIMEOUT_SECONDS
        while time.monotonic() < deadline:  # a node that has just started does not answer yet
            shown = app.control.inspect(timeout=3).active_queues() or {}
            own = [queues for worker, queues in shown.items() if worker.endswith("@second")]
            if names := {queue["name"] for queues in own for queue in queues}:
                return len(names)
        raise TimeoutError("the second node does not tell Celery which queues it consumes")

    def commands(self, seconds: float) -> int:
        """Count the commands that the server gets from its clients."""
        client = redis.Redis.from_url(self.address.replace("redis+socket://", "unix://"))
        ends, count = time.monotonic() + seconds, 0
        with client.monitor() as monitor:
            while (left := ends - time.monotonic()) > 0:
                if monitor.connection.can_read(left):
                    count += monitor.next_command()["client_type"] != "lua"
        client.close()
        return count

    def join(self, _: base.Request) -> float:
        """Return how long a call takes on a node that joins, from when the node is listed."""
        ref = nothing.options(num_gpus=2, wait_for_resources=True).remote()
        node = self.start_node("third", 2)
        try:
            while len(ca.nodes()) <= base.NODES:
                time.sleep(0.005)
            with base.Stopwatch() as joining:
                ca.get(ref)
        finally:
            node.terminate()
            node.wait(base.END_TIMEOUT_SECONDS)
        return joining.seconds

    def stop(self) -> None:
        """End the second node, then the first with its server."""
        self.node.terminate()
        self.node.wait(base.END_TIMEOUT_SECONDS)
        ca.shutdown()


def processor_seconds(processes: list[psutil.Process]) -> float:
    """Return the processor time that processes have used."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    system = System()
    base.serve(
        version=base.version_of("celery_actors"),
        import_seconds=importing.seconds,
        init=system.init,
        measures=system.measures,
        stop=system.stop,
    )
