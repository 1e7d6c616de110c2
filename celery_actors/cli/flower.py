"""``celery_actors flower``."""

from __future__ import annotations

import click

from ..errors import ConfigurationError
from .reach import address_option, find_address

__all__ = ["flower"]


@click.command(context_settings={"ignore_unknown_options": True})
@address_option
@click.option("--host", help="Where to listen; default: 127.0.0.1, for this machine only.")
@click.option("--port", type=click.IntRange(0, 65535), help="Default: 5555. 0: any free one.")
@click.option(
    "--basic-auth", multiple=True, metavar="NAME:PASSWORD",
    help="Who may see it. Others can read the words of a command: better FLOWER_BASIC_AUTH.",
)  # fmt: skip
@click.option("--control", is_flag=True, help="Let the pages stop workers, revoke and send calls.")
@click.option("--open-metrics", is_flag=True, help="Let anybody read /metrics.")
@click.option(
    "--trust-host",
    multiple=True,
    metavar="NAME",
    help="Answer to this name, too, without a password: a proxy in front asks for it.",
)
@click.argument("others", nargs=-1, type=click.UNPROCESSED, metavar="[--FLOWER_OPTION=VALUE]...")
def flower(
    address: str | None, host: str | None, port: int | None, basic_auth: tuple[str, ...],
    control: bool, open_metrics: bool, trust_host: tuple[str, ...], others: tuple[str, ...],
) -> None:  # fmt: skip
    """Show a cluster in Flower, with a page of its actors.

    Flower's own options may follow, as --max_tasks=1000; see Flower's documentation.
    """
    try:
        from ..dashboard.server import serve
    except ModuleNotFoundError as error:
        if error.name not in {"flower", "tornado", "prometheus_client"}:
            raise
        raise ConfigurationError(
            f"Flower is not installed ({error.name} is missing): it comes with the extra, "
            "pip install 'celery-actors[flower]'"
        ) from None
    given = [f"--address={host}"] if host is not None else []
    given += [f"--port={port}"] if port is not None else []
    serve(
        find_address(address), [*given, *others], logins=basic_auth, control=control,
        open_metrics=open_metrics, hosts=trust_host,
    )  # fmt: skip
