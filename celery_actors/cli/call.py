"""``celery_actors call``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from .examples import examples
from .failures import Failure, Misuse
from .names import actor
from .reach import (
    address_option,
    checked,
    find_address,
    json_option,
    key_file_option,
    namespace_option,
)
from .show import echo_json

if TYPE_CHECKING:
    from ..handle import ActorHandle

__all__ = ["call"]


def _read(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        quoted = json.dumps(text, ensure_ascii=False)
        raise Misuse(
            f"{what} {text!r} is no JSON. Text is written in double quotes: '{quoted}'"
        ) from None


def _named(text: str) -> dict[str, Any]:
    found = _read(text, "--kwargs")
    if not isinstance(found, dict):
        raise Misuse(f"--kwargs {text!r} is no JSON object: write '{{\"name\": 1}}'")
    return found


@click.command(
    epilog=examples(
        "celery_actors call counter increment",
        "celery_actors call till sell '\"tea\"' 2 --kwargs '{\"discount\": 0.1}' --namespace shop",
    )
)
@click.argument("name", shell_complete=actor)
@click.argument("method")
@click.argument("arguments", nargs=-1, metavar="[JSON]...")
@click.option("--kwargs", default="{}", metavar="JSON", help="Named arguments, as an object.")
@click.option(
    "--timeout", default=60.0, show_default=True, type=click.FloatRange(min=0), metavar="SECONDS"
)
@click.option("--traceback", is_flag=True, help="Show where the method failed, too.")
@address_option
@namespace_option
@key_file_option
@json_option
def call(
    name: str, method: str, arguments: tuple[str, ...], kwargs: str, timeout: float,
    traceback: bool, address: str | None, namespace: str | None, key_file: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Call METHOD of the actor NAME (its name or id) and print what it returns.

    The result is printed as JSON, or as Python shows it where it is more than JSON. A method that
    yields prints a line per value. With --json it is {"result": …}, {"repr": "…"} or
    {"error": type, "message": text}.
    """
    import celery_actors as ca

    from ..object_ref_generator import ObjectRefGenerator

    given, named = [_read(text, "the argument") for text in arguments], _named(kwargs)
    found = find_address(address)
    checked(found)
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - the user's modules are found from here, as Celery's command does
    with ca.init(
        found.url, key_file=key_file, namespace=namespace, log_to_driver=False,
        configure_logging=False,
    ):  # fmt: skip
        handle = _find(name, namespace)
        title = f"{name}.{method}"
        try:
            sent = getattr(handle, method).remote(*given, **named)
        except AttributeError:
            offered = ", ".join(each for each in dir(handle) if not each.startswith("__"))
            raise Failure(f"{name} has no method {method!r}; it has: {offered}") from None
        except TypeError as error:
            raise Misuse(f"{title}: {error}") from None
        try:
            values = _each(sent, timeout) if isinstance(sent, ObjectRefGenerator) else [
                ca.get(sent, timeout=timeout)
            ]  # fmt: skip
            for value in values:
                _echo(value, as_json)
        except ca.GetTimeoutError:
            raise Failure(f"{title} has not answered within {timeout:g} s; it goes on") from None
        except ca.RayTaskError as error:
            _echo_error(title, error, as_json=as_json, traceback=traceback)
            sys.exit(Failure.exit_code)


def _each(values: Any, timeout: float) -> Iterator[Any]:
    import celery_actors as ca

    for each in values:
        yield ca.get(each, timeout=timeout)


def _find(name: str, namespace: str | None) -> ActorHandle[Any]:
    """Return the handle of a living actor.

    Raises:
        NotFoundError: there is none, or several. Failure: it is dead.
    """
    from .. import runtime
    from ..handle import ActorHandle
    from ..lookup import find_actor

    record = find_actor(runtime.current().store, name, namespace)
    if record.state == "DEAD":
        raise Failure(f"{record.title} is dead: {record.meta.get('cause')}")
    return ActorHandle.of(record)


def _echo(value: Any, as_json: bool) -> None:
    try:
        text = json.dumps({"result": value} if as_json else value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = json.dumps({"repr": repr(value)}, ensure_ascii=False) if as_json else repr(value)
    click.echo(text)


def _echo_error(title: str, error: Any, *, as_json: bool, traceback: bool) -> None:
    kind, text = type(error.cause).__name__, " ".join(str(error.cause).split())
    if as_json:
        echo_json({"error": kind, "message": str(error.cause)})
    else:
        click.echo(f"celery_actors: {title} raised {kind}: {text}", err=True)
    if traceback:
        click.echo(error.traceback_str, err=True)
