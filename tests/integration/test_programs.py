"""Whole programs as people write them: everything in one file, run as a script."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.integration.support import Server, node_on, run_script

DEFINITIONS = """
import dataclasses
import logging
import celery_actors as ray

FACTOR = 3

@dataclasses.dataclass
class Point:
    x: int
    y: int

class Base:
    def name(self):
        return type(self).__name__

@ray.remote
class Mover(Base):
    kind = "mover"

    def __init__(self, point):
        self.point = point

    def move(self, by):
        self.point = Point(self.point.x + by.x, self.point.y + by.y * FACTOR)
        return self.point

    @staticmethod
    def kinds():
        return [Mover.__name__, FACTOR]

    @classmethod
    def which(cls):
        return cls.kind

def helper(value):
    return value * FACTOR

@ray.remote
def scale(value):
    return helper(value)

def make(offset):
    @ray.remote
    def shifted(value):
        return value + offset

    @ray.remote
    class Inner:
        def __init__(self):
            self.offset = offset

        def get(self, pair):
            return (self.offset, *pair)

    return shifted, Inner

ray.init({address})
mover = Mover.remote(Point(1, 2))
print(ray.get(mover.move.remote(Point(1, 1)), timeout=20))
print(isinstance(ray.get(mover.move.remote(Point(0, 0)), timeout=20), Point))
print(ray.get([mover.name.remote(), mover.which.remote()], timeout=20))
print(ray.get(scale.remote(5), timeout=20))
for offset in (10, 20):
    shifted, Inner = make(offset)
    print(ray.get([shifted.remote(1), Inner.remote().get.remote((1, 2))], timeout=20))
by_call = ray.remote(lambda value: value - 1)
print(ray.get(by_call.remote(1), timeout=20))
"""

DEFINED = """Point(x=2, y=5)
True
['Mover', 'mover']
15
[11, (10, 1, 2)]
[21, (20, 1, 2)]
0
"""

OUTPUT = """
import logging, os, sys
import celery_actors as ca

ca.init({address}{more})

@ca.remote
class Counter:
    def say(self):
        print("hello from the actor")
        print("two\\nlines")
        print("to the error stream", file=sys.stderr)
        logging.getLogger("mine").warning("a warning")
        os.write(1, b"raw bytes\\n")
        print("no newline", end="", flush=True)
        return os.getpid()

@ca.remote
def speak():
    print("hello from the function")

print("PID", ca.get(Counter.options(name="teller").remote().say.remote(), timeout=20))
ca.get(speak.remote(), timeout=20)
ca.shutdown()
print("END")
"""


def test_what_a_script_defines_works_on_an_embedded_cluster(tmp_path: Path):
    run = run_script(tmp_path, DEFINITIONS.format(address="num_cpus=2"))

    assert (run.stdout, run.stderr, run.returncode) == (DEFINED, "", 0)


@pytest.mark.debian_redis
def test_what_a_script_defines_works_on_a_running_cluster(server: Server, tmp_path: Path):
    with node_on(server):
        text = DEFINITIONS.format(address=repr(server.url))
        run = run_script(tmp_path, text, server.environment())

    assert (run.stdout, run.stderr, run.returncode) == (DEFINED, "", 0)


def test_a_module_beside_the_script_is_found_by_workers(tmp_path: Path):
    (tmp_path / "beside.py").write_text(
        "import celery_actors as ca\n@ca.remote\ndef where():\n    return __file__\n"
    )

    run = run_script(
        tmp_path,
        "import celery_actors as ca, beside\nca.init(num_cpus=1)\n"
        "print(ca.get(beside.where.remote(), timeout=20))\n",
    )

    assert run.stdout.strip() == str(tmp_path / "beside.py"), run.stderr


def assert_forwarded(stdout: str, stderr: str) -> None:
    """Look for every line, with its prefix, on its stream."""
    found = re.search(r"^PID (\d+)$", stdout, re.MULTILINE)
    assert found, stdout + stderr
    prefix = f"(Counter pid={found[1]}) "
    for line in ("hello from the actor", "two", "lines", "raw bytes", "no newline"):
        assert f"{prefix}{line}\n" in stdout
    assert f"{prefix}to the error stream\n" in stderr
    assert re.search(re.escape(prefix) + r".*mine.*a warning", stderr)
    assert re.search(r"^\(speak pid=\d+\) hello from the function$", stdout, re.MULTILINE)
    assert stdout.rstrip().endswith("END")
    assert len(stdout.splitlines()) == 8


def test_prints_and_logs_reach_the_driver_with_a_prefix(tmp_path: Path):
    run = run_script(tmp_path, OUTPUT.format(address="num_cpus=1", more=""))

    assert_forwarded(run.stdout, run.stderr)


@pytest.mark.debian_redis
def test_prints_reach_their_own_driver_on_a_running_cluster(server: Server, tmp_path: Path):
    with node_on(server):
        text = OUTPUT.format(address=repr(server.url), more="")
        run = run_script(tmp_path, text, server.environment())

    assert_forwarded(run.stdout, run.stderr)


def test_prints_can_be_kept_from_the_driver(tmp_path: Path):
    run = run_script(tmp_path, OUTPUT.format(address="num_cpus=1", more=", log_to_driver=False"))

    assert re.fullmatch(r"PID \d+\nEND\n", run.stdout), run.stderr
    assert run.stderr == ""


def test_a_script_that_forgets_to_shut_down_ends_clean(tmp_path: Path):
    run = run_script(
        tmp_path,
        "import celery_actors as ca\n"
        "@ca.remote\nclass A:\n    def f(self):\n        return 1\n"
        "a = A.remote()\nprint(ca.get(a.f.remote()))\n"
        "print(ca.nodes()[0]['pid'])\n",
        {**os.environ},
    )

    assert (run.returncode, run.stderr) == (0, "")
    one, pid = run.stdout.split()
    assert one == "1"
    assert not Path(f"/proc/{pid}").exists()


def test_an_actor_that_was_killed_does_not_warn_of_another_owner(tmp_path: Path):
    done = run_script(
        tmp_path,
        f"""
import os, pathlib, signal, psutil
import celery_actors as ca
from tests.integration.actors import Counter
from tests.integration.gates import Gate
from tests.integration.support import is_alive, wait_until

ca.init(num_cpus=1)
gate = Gate(pathlib.Path({str(tmp_path)!r}))
actor = Counter.remote()
running = actor.hold.remote(gate.path)
pid = gate.wait_reached()
node = ca.nodes()[0]["pid"]
os.kill(node, signal.SIGSTOP)  # it ends the process only later
ca.kill(actor)
gate.open()
wait_until(lambda: not is_alive(pid), "the process has met the fence")
os.kill(node, signal.SIGCONT)
try:
    ca.get(running)
except ca.ActorDiedError:
    print("died")
""",
    )
    assert (done.stdout, done.stderr) == ("died\n", "")


def test_a_script_that_raises_ends_with_its_own_traceback(tmp_path: Path):
    run = run_script(tmp_path, "import celery_actors as ca\nca.init(num_cpus=1)\n1 / 0\n")

    assert run.returncode == 1
    assert run.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert run.stderr.count("Traceback") == 1


FORKS = """
import multiprocessing
import time
import celery_actors as ray

ray.init(num_cpus=2)

@ray.remote
class Parent:
    def fork(self):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        child.start()
        child.terminate()
        child.join(20)
        return child.exitcode

@ray.remote
def pool():
    with multiprocessing.get_context("fork").Pool(2) as found:
        return found.map(abs, [-1, -2])

print(ray.get(Parent.remote().fork.remote(), timeout=30), ray.get(pool.remote(), timeout=30))
"""


def test_what_a_method_forks_ends_by_sigterm(tmp_path: Path):
    done = run_script(tmp_path, FORKS)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "-15 [1, 2]"


NAMES = """
import celery_actors as ray
from celery_actors import cloudpickle

ray.init(num_cpus=1)

@ray.remote
class Member:
    def identity(self):
        return ray.get_runtime_context().get_actor_id()

member = Member.remote()
ref = member.identity.remote()
assert member._actor_id.hex() == ray.get(ref)
assert member._actor_id.binary().hex() == ray.get(ref)
assert ref.binary().hex() == ref.hex()
assert ref.size() == len(ref.binary())
assert not ref.is_nil()
assert cloudpickle.loads(ray.cloudpickle.dumps(lambda: 1))() == 1
assert ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
assert ray.experimental
assert ray.__version__.count(".") == 2
ray.shutdown(_exiting_interpreter=False)
"""


def test_names_that_programs_for_ray_use_are_there(tmp_path: Path):
    done = run_script(tmp_path, NAMES)

    assert done.returncode == 0, done.stderr
