from __future__ import annotations

import pickle

import pytest

from celery_actors import errors
from celery_actors.errors import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
    system_error,
)


class RefusedError(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"refused with {code}")
        self.code = code

    def __reduce__(self) -> tuple[type[RefusedError], tuple[int]]:
        return RefusedError, (self.code,)


def task_error(cause: BaseException) -> RayTaskError:
    return RayTaskError("Counter.add", "Traceback: it went wrong", cause, 42)


def test_every_error_is_a_ray_error() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__ if name != "system_error"]
    assert all(issubclass(kind, RayError) for kind in kinds)


def test_get_timeout_error_is_a_timeout_error() -> None:
    assert issubclass(GetTimeoutError, TimeoutError)


def test_the_error_of_a_user_exception_is_both_types() -> None:
    error = task_error(ValueError("no")).as_instanceof_cause()
    assert isinstance(error, RayTaskError)
    assert isinstance(error, ValueError)
    assert type(error).__name__ == "RayTaskError(ValueError)"


def test_the_dual_type_of_one_exception_type_is_one_type() -> None:
    first = task_error(ValueError("a")).as_instanceof_cause()
    second = task_error(ValueError("b")).as_instanceof_cause()
    assert type(first) is type(second)


def test_the_error_shows_function_process_and_remote_traceback() -> None:
    text = str(task_error(KeyError("x")).as_instanceof_cause())
    assert "Counter.add" in text
    assert "pid=42" in text
    assert "it went wrong" in text


def test_attributes_of_the_users_exception_are_reachable() -> None:
    error = task_error(RefusedError(7)).as_instanceof_cause()
    assert isinstance(error, RefusedError)
    assert error.code == 7


def test_a_missing_attribute_is_an_attribute_error() -> None:
    error = task_error(RefusedError(7)).as_instanceof_cause()
    assert not hasattr(error, "colour")


@pytest.mark.parametrize(
    "cause",
    [
        pytest.param(ValueError("no"), id="builtin"),
        pytest.param(RefusedError(7), id="own constructor"),
        pytest.param(OSError(2, "missing"), id="os error"),
        pytest.param(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), id="many arguments"),
        pytest.param(StopIteration(3), id="stop iteration"),
    ],
)
def test_a_dual_error_pickles(cause: Exception) -> None:
    error = pickle.loads(pickle.dumps(task_error(cause).as_instanceof_cause()))
    assert isinstance(error, RayTaskError)
    assert isinstance(error, type(cause))
    assert str(error) == str(task_error(cause))
    assert str(error.cause) == str(cause)


def test_a_nested_task_error_gives_the_innermost_type() -> None:
    outer = RayTaskError("outer", "outer traceback", task_error(KeyError("k")), 1)
    assert isinstance(outer.as_instanceof_cause(), KeyError)


def test_a_type_that_cannot_be_subclassed_gives_the_plain_error() -> None:
    class FinalError(Exception):
        def __init_subclass__(cls) -> None:
            raise TypeError("no subclasses, please")

    error = task_error(FinalError("x")).as_instanceof_cause()
    assert type(error) is RayTaskError


def test_an_actor_error_keeps_its_actor_through_pickle() -> None:
    error = pickle.loads(pickle.dumps(ActorDiedError("gone", "ab12", actor_init_failed=True)))
    assert type(error) is ActorDiedError
    assert (str(error), error.actor_id, error.actor_init_failed) == ("gone", "ab12", True)


@pytest.mark.parametrize("kind", [ActorDiedError, ActorUnavailableError])
def test_an_actor_error_is_rebuilt_from_its_name(kind: type[RayActorError]) -> None:
    error = system_error(kind.__name__, "gone", "ab12", init_failed=False)
    assert type(error) is kind
    assert isinstance(error, RayActorError)
    assert error.actor_id == "ab12"


@pytest.mark.parametrize(
    "name",
    ["DeadLetterError", "ObjectLostError", "TaskCancelledError", "WorkerCrashedError",
     "UntrustedPayloadError", "NodeDiedError"],
)  # fmt: skip
def test_a_system_error_is_rebuilt_from_its_name(name: str) -> None:
    error = system_error(name, "what happened", None, init_failed=False)
    assert type(error) is getattr(errors, name)
    assert str(error) == "what happened"


@pytest.mark.parametrize("name", ["os.system", "KeyError", "", "NoSuchError"])
def test_an_unknown_name_gives_a_ray_error_and_nothing_else(name: str) -> None:
    assert type(system_error(name, "what", None, init_failed=False)) is RayError
