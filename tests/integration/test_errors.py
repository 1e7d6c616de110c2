"""Errors say what happened, to what, and what to do; bad input fails before anything is sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.actors import Counter, double, fail
from tests.integration.gates import Gate
from tests.integration.support import Cluster, wait_until


class OwnError(Exception):
    """Takes two arguments, as many people's exceptions do."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.why = why

    def __reduce__(self) -> tuple[Any, ...]:
        return OwnError, (self.code, self.why)


@ca.remote
def raise_own(code: int) -> None:
    raise OwnError(code, "because")


def test_a_users_own_exception_is_caught_with_its_attributes(cluster: Cluster):
    with pytest.raises(OwnError, match="because") as caught:
        ca.get(raise_own.remote(7), timeout=10)

    assert isinstance(caught.value, ca.RayTaskError)
    assert (caught.value.code, caught.value.why) == (7, "because")
    assert isinstance(caught.value.cause, OwnError)


def test_the_remote_traceback_is_in_the_text(cluster: Cluster):
    with pytest.raises(OwnError) as caught:
        ca.get(raise_own.remote(7), timeout=10)

    text = str(caught.value)
    assert "raise_own" in text
    assert 'raise OwnError(code, "because")' in text
    assert "test_errors.py" in text
    assert "pid=" in text
    assert "celery_actors/executor.py" not in text


def test_an_exception_that_passes_two_processes_keeps_its_type(cluster: Cluster):
    @ca.remote
    def outer() -> None:
        ca.get(fail.remote("deep inside"))

    with pytest.raises(ValueError, match="deep inside") as caught:
        ca.get(outer.remote(), timeout=10)
    assert isinstance(caught.value.cause, ValueError)


def test_an_exception_that_cannot_be_pickled_still_tells_its_story(cluster: Cluster):
    @ca.remote
    def bad() -> None:
        error = ValueError("holds a lock")
        error.lock = threading.Lock()  # type: ignore[attr-defined]
        raise error

    with pytest.raises(ca.RayTaskError, match="holds a lock"):
        ca.get(bad.remote(), timeout=10)


def test_a_result_that_cannot_be_pickled_fails_the_call_and_names_the_member(cluster: Cluster):
    @ca.remote
    def bad() -> dict[str, Any]:
        return {"inner": [threading.Lock()]}

    with pytest.raises(ca.SerializationError, match=r"inner.*\[0\].*lock"):
        ca.get(bad.remote(), timeout=10)


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit, StopIteration, ExceptionGroup])
def test_odd_exceptions_reach_the_caller_and_the_actor_lives_on(
    cluster: Cluster, error: type[BaseException]
):
    @ca.remote
    class Odd:
        def throw(self) -> None:
            raise error("odd", [ValueError("member")]) if error is ExceptionGroup else error("odd")

        def ping(self) -> str:
            return "pong"

    odd = Odd.remote()

    with pytest.raises(ca.RayTaskError) as caught:
        ca.get(odd.throw.remote(), timeout=10)
    assert error.__name__ in str(caught.value)
    assert ca.get(odd.ping.remote(), timeout=10) == "pong"


def test_an_actor_that_exits_by_itself_is_dead(cluster: Cluster):
    @ca.remote
    class Quitter:
        def quit(self) -> None:
            raise SystemExit(3)

    quitter = Quitter.remote()

    with pytest.raises(ca.ActorDiedError, match="status 3"):
        ca.get(quitter.quit.remote(), timeout=10)


def test_a_failed_call_leaves_the_actor_as_it_was(cluster: Cluster):
    counter = Counter.remote()
    refs = [counter.add.remote(), counter.fail.remote("between"), counter.add.remote()]

    assert ca.get([refs[0], refs[2]], timeout=10) == [1, 2]
    with pytest.raises(ValueError, match="between"):
        ca.get(refs[1])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda _: double.remote(), r"double\(\).*value"),
        (lambda _: double.remote(1, 2), r"double\(\)"),
        (lambda _: double.remote(1, wrong=1), r"double\(\).*wrong"),
        (lambda c: c.add.remote(1, 2), r"Counter\.add\(\)"),
        (lambda c: c.add.remote(by=2), r"Counter\.add\(\).*by"),
        (lambda _: Counter.remote(1, 2), r"Counter\(\)"),
        (lambda _: double(1), r"double\.remote\(\)"),
        (lambda c: c.add(1), r"add\.remote\(\)"),
        (lambda _: Counter(), r"Counter\.remote\(\)"),
        (lambda _: double.remote(threading.Lock()), r"argument 0 of double.*lock"),
        (lambda c: c.add.remote({"a": [threading.Lock()]}), r"\['a'\]\[0\].*lock"),
        (lambda _: Counter.remote(threading.Lock()), r"Counter.*lock"),
        (lambda _: ca.put(threading.Lock()), "lock"),
        (lambda _: ca.put(ca.put(1)), "ObjectRef"),
        (lambda _: ca.get([1]), "int"),
        (lambda _: ca.wait(1), "int"),
        (lambda _: ca.wait([1]), "int"),
        (lambda _: ca.remote(7), "int"),
        (lambda _: ca.remote(), "without parentheses"),
        (lambda _: double.options(num_cpus="1"), "num_cpus"),
    ],
    ids=[
        "too few", "too many", "unknown keyword", "method too many", "method keyword",
        "constructor", "direct function", "direct method", "direct class", "unpicklable",
        "unpicklable nested", "unpicklable constructor", "unpicklable put", "put of a ref",
        "get of a list of numbers", "wait of a number", "wait of numbers", "remote of a number",
        "empty parentheses", "option type",
    ],
)  # fmt: skip
def test_a_type_error_in_the_caller(cluster: Cluster, call: Any, words: str):
    counter = Counter.remote()
    with cluster.client() as client:
        before = client.llen("ca.tasks.cpu1")
        with pytest.raises(TypeError, match=words):
            call(counter)
        assert client.llen("ca.tasks.cpu1") == before
    assert ca.get(counter.add.remote(), timeout=10) == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda _: ca.get(1), "int"),
        (lambda _: ca.get((ca.put(1),)), "tuple"),
        (lambda _: ca.get(ca.put(1), timeout=-1), "negative"),
        (lambda c: ca.wait([c, c]), "duplicates"),
        (lambda c: ca.wait([c], num_returns=2), "num_returns"),
        (lambda c: ca.wait([c], num_returns=0), "num_returns"),
        (lambda _: double.options(colour="red"), "colour.*num_cpus"),
        (lambda _: Counter.options(colour="red"), "colour.*name"),
        (lambda _: Counter.options(max_restarts=-2), "max_restarts"),
        (lambda _: Counter.options(num_gpus=1.5), "num_gpus"),
        (lambda _: Counter.options(name=""), "name"),
        (lambda _: Counter.options(lifetime="ever"), "lifetime"),
        (lambda _: Counter.options(resources={"CPU": 1}), "num_cpus"),
        (lambda _: ca.kill(7), "int"),
        (lambda _: ca.get_actor("nobody at all"), "nobody at all"),
    ],
    ids=[
        "get of a number", "get of a tuple", "negative timeout", "wait with duplicates",
        "too many returns", "no returns", "unknown option", "unknown actor option",
        "impossible restarts", "impossible gpus", "empty name", "unknown lifetime",
        "reserved resource", "kill of a number", "unknown name",
    ],
)  # fmt: skip
def test_a_value_error_in_the_caller(cluster: Cluster, call: Any, words: str):
    with pytest.raises(ValueError, match=words):
        call(double.remote(1))


def test_an_unknown_method_is_an_attribute_error_in_the_caller(cluster: Cluster):
    with pytest.raises(AttributeError, match=r"'Counter'.*'burn'"):
        Counter.remote().burn.remote()


def test_a_coroutine_function_cannot_be_remote():
    async def work() -> None:
        """Never runs."""

    with pytest.raises(ValueError, match="async def"):
        ca.remote(work)


def test_a_second_init_is_refused_or_gives_the_same_context(cluster: Cluster):
    with pytest.raises(RuntimeError, match="ignore_reinit_error"):
        ca.init()
    assert ca.init(ignore_reinit_error=True) is cluster.context


def test_a_lost_record_is_stored_again_by_who_has_its_value(cluster: Cluster):
    ref = ca.put((1, 2))

    @ca.remote
    def read(refs: list[Any]) -> Any:
        return ca.get(refs[0], timeout=5)

    with cluster.client() as client:
        client.delete(f"celery-task-meta-{ref.id}")

    assert ca.get(read.remote([ref]), timeout=20) == (1, 2)


def test_no_hang_when_an_actor_dies_while_many_threads_wait(cluster: Cluster, gate: Gate):
    actor = Counter.remote()
    actor.hold.remote(gate.path)
    gate.wait_reached()
    refs = [actor.add.remote() for _ in range(20)]
    found: list[str] = []

    def wait(ref: ca.ObjectRef[int]) -> None:
        try:
            ca.get(ref, timeout=20)
        except ca.ActorDiedError as error:
            found.append(str(error))

    threads = [threading.Thread(target=wait, args=(ref,)) for ref in refs]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    ca.kill(actor)
    for thread in threads:
        thread.join(20)

    assert len(found) == len(refs)
    assert time.monotonic() - began < 10


class TwoWordsError(Exception):
    """Cannot be unpickled: a common mistake."""

    def __init__(self, code: int, word: str) -> None:
        super().__init__(f"{word} {code}")


def test_an_exception_that_the_caller_cannot_unpickle_tells_its_story(cluster: Cluster):
    @ca.remote
    def bad() -> None:
        raise TwoWordsError(7, "oh")

    with pytest.raises(ca.exceptions.UnserializableException, match="TwoWordsError: oh 7"):
        ca.get(bad.remote(), timeout=10)


def test_an_exception_passed_on_by_several_processes_does_not_nest(cluster: Cluster):
    @ca.remote
    def hop(depth: int) -> None:
        ca.get(hop.remote(depth - 1) if depth else raise_own.remote(9))

    with pytest.raises(OwnError) as caught:
        ca.get(hop.remote(3), timeout=30)

    assert type(caught.value.cause) is OwnError
    assert type(caught.value).__name__ == "RayTaskError(OwnError)"


def test_members_of_a_remote_exception_group_are_split_by_except_star(cluster: Cluster):
    @ca.remote
    def several() -> None:
        raise ExceptionGroup("several", [ValueError("a"), KeyError("b")])

    caught: list[str] = []
    try:
        ca.get(several.remote(), timeout=10)
    except* ValueError as part:
        caught += [repr(member) for member in part.exceptions]
    except* KeyError as part:
        caught += [repr(member) for member in part.exceptions]

    assert caught == ["ValueError('a')", "KeyError('b')"]


def test_an_os_error_keeps_its_number(cluster: Cluster):
    @ca.remote
    def read() -> str:
        return Path("/no/such/file").read_text()

    with pytest.raises(FileNotFoundError) as caught:
        ca.get(read.remote(), timeout=10)
    assert (caught.value.errno, caught.value.filename) == (2, "/no/such/file")


def test_the_error_of_a_method_names_the_actor_as_its_repr_does(cluster: Cluster):
    @ca.remote
    class Painter:
        def __repr__(self) -> str:
            return "Painter(red)"

        def fail(self) -> None:
            raise ValueError("no paint")

    painter = Painter.remote()

    with pytest.raises(ValueError, match="no paint") as caught:
        ca.get(painter.fail.remote(), timeout=10)
    assert caught.value.actor_repr == "Painter(red)"
    assert "repr=Painter(red)" in str(caught.value)
    assert "ip=" in str(caught.value)


@pytest.fixture
def unhandled(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    def found() -> list[str]:
        messages = [record.getMessage() for record in caplog.records]
        return [text for text in messages if text.startswith("Unhandled error")]

    return found


def test_a_failure_that_nobody_asks_for_is_logged(
    cluster: Cluster, unhandled: Callable[[], list[str]]
):
    fail.remote("dropped before it failed")
    ref = fail.remote("dropped after it failed")
    ca.wait([ref], timeout=10)
    del ref

    wait_until(lambda: len(unhandled()) == 2, "both failures in the log")
    text = "\n".join(unhandled())
    assert "dropped before it failed" in text
    assert "dropped after it failed" in text
    assert "CELERY_ACTORS_IGNORE_UNHANDLED_ERRORS=1" in text


def test_a_failure_that_somebody_has_met_or_that_is_silenced_is_not_logged(
    cluster: Cluster, unhandled: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(ValueError, match="met"):
        ca.get(fail.remote("met"), timeout=10)
    doomed = Counter.remote()
    ca.get(doomed.pid.remote(), timeout=10)
    ca.kill(doomed)
    late = doomed.add.remote()
    ca.wait([late], timeout=10)
    del late
    with monkeypatch.context() as patched:
        patched.setenv("RAY_IGNORE_UNHANDLED_ERRORS", "1")
        silent = fail.remote("silenced")
        ca.wait([silent], timeout=10)
        del silent
        table = cluster.context._runtime.results
        wait_until(lambda: not table._released and not table._unmet, "the dropped ones are freed")
    loud = fail.remote("loud")
    ca.wait([loud], timeout=10)
    del loud

    wait_until(unhandled, "the last failure in the log")
    assert [("loud" in text) for text in unhandled()] == [True]
