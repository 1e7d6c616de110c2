from __future__ import annotations

import pickle

import pytest

import celery_actors.exceptions
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
    kinds = [getattr(errors, name) for name in celery_actors.exceptions.__all__]
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
     "UntrustedPayloadError", "NodeDiedError", "RuntimeEnvSetupError", "OwnerDiedError",
     "OutOfMemoryError", "TaskTimeoutError"],
)  # fmt: skip
def test_a_system_error_is_rebuilt_from_its_name(name: str) -> None:
    error = system_error(name, "what happened", None, init_failed=False)
    assert type(error) is getattr(errors, name)
    assert str(error) == "what happened"


@pytest.mark.parametrize("name", ["os.system", "KeyError", "", "NoSuchError"])
def test_an_unknown_name_gives_a_ray_error_and_nothing_else(name: str) -> None:
    assert type(system_error(name, "what", None, init_failed=False)) is RayError


@pytest.mark.parametrize(
    ("cause", "name", "value"),
    [
        (OSError(2, "missing", "here.txt"), "errno", 2),
        (OSError(2, "missing", "here.txt"), "filename", "here.txt"),
        (StopIteration(3), "value", 3),
        (SystemExit(4), "code", 4),
        (ImportError("no", name="nothing"), "name", "nothing"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "reason", "bad"),
        (ActorDiedError("gone", "ab12"), "actor_id", "ab12"),
        (KeyError("k"), "args", ("k",)),
    ],
)  # fmt: skip
def test_what_an_exception_keeps_outside_its_dictionary_is_there_too(
    cause: BaseException, name: str, value: object
) -> None:
    error = pickle.loads(pickle.dumps(task_error(cause).as_instanceof_cause()))
    assert isinstance(error, type(cause))
    assert getattr(error, name) == value


def test_an_attribute_that_hides_one_of_the_class_is_the_instances() -> None:
    class CodedError(Exception):
        code = 0

    cause = CodedError("x")
    cause.code = 7
    assert getattr(task_error(cause).as_instanceof_cause(), "code") == 7  # noqa: B009 - a dual type


def test_an_exception_group_can_be_split_by_except_star() -> None:
    group = ExceptionGroup("several", [ValueError("a"), KeyError("b")])
    error = pickle.loads(pickle.dumps(task_error(group).as_instanceof_cause()))
    assert isinstance(error, RayTaskError)
    assert isinstance(error, ExceptionGroup)
    caught: list[str] = []
    try:
        raise error
    except* ValueError as part:
        caught += [repr(member) for member in part.exceptions]
    except* KeyError as part:
        caught += [repr(member) for member in part.exceptions]
    assert caught == ["ValueError('a')", "KeyError('b')"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_for_python_is_caught_as_both(kind: type[BaseException]) -> None:
    error = task_error(kind("stop")).as_instanceof_cause()
    assert isinstance(error, RayTaskError)
    assert isinstance(error, kind)


class ArgsError(Exception):
    @property
    def args(self) -> tuple[str]:  # type: ignore[override] # what some libraries do
        raise RuntimeError("no arguments for you")


class NoSubclassError(Exception):
    def __init_subclass__(cls) -> None:
        raise TypeError("no subclasses, please")


class NewError(Exception):
    def __new__(cls, code: int) -> NewError:
        return super().__new__(cls, code)


def test_a_property_in_place_of_args_does_no_harm() -> None:
    error = task_error(ArgsError("x")).as_instanceof_cause()
    assert isinstance(error, ArgsError)


@pytest.mark.parametrize("cause", [NoSubclassError("x"), NewError(3)])
def test_a_type_that_refuses_gives_the_plain_error_with_its_cause_and_a_warning(
    cause: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    error = task_error(cause).as_instanceof_cause()
    assert type(error) is RayTaskError
    assert error.cause is cause
    assert type(cause).__name__ in caplog.text
    assert ".cause" in caplog.text


def test_the_text_says_where_the_exception_was_raised() -> None:
    error = RayTaskError("A.m", "trace", ValueError(), 42, "10.0.0.1", "ab12", "A(red)")
    copy = pickle.loads(pickle.dumps(error.as_instanceof_cause()))
    assert str(copy).startswith("A.m() failed (pid=42, ip=10.0.0.1, actor_id=ab12, repr=A(red)):")
    assert (copy.pid, copy.ip, copy.actor_repr) == (42, "10.0.0.1", "A(red)")


def test_the_names_of_ray_are_in_the_module_exceptions() -> None:
    assert celery_actors.exceptions.RayTaskError is RayTaskError
    functions = {"actor_ended", "system_error"}
    assert set(celery_actors.exceptions.__all__) == set(errors.__all__) - functions


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        (errors.OwnerDiedError, (errors.ObjectLostError,)),
        (errors.ReferenceCountingAssertionError, (errors.ObjectLostError, AssertionError)),
        (errors.TaskTimeoutError, (RayError, TimeoutError)),
        (errors.ActorHandleNotFoundError, (RayError, ValueError)),
        (errors.ActorAlreadyExistsError, (RayError, ValueError)),
        (errors.LocalRayletDiedError, (errors.NodeDiedError,)),
    ],
)  # fmt: skip
def test_an_error_can_be_caught_as_what_it_is(
    kind: type[RayError], bases: tuple[type[BaseException], ...]
) -> None:
    assert all(issubclass(kind, base) for base in bases)
