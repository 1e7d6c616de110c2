"""Run schedules of every mode, then hunt the mutants: ``make simulate N=2000``."""

from __future__ import annotations

import sys

import click

from .campaign import Campaign, campaign, hunt, listening, own_server
from .mutants import MUTANTS, Mutant
from .schedule import MODES, Mode, run

#: Schedules in which a mutant must be found.
HUNT = 1_000


@click.command()
@click.argument("count", type=click.IntRange(min=1), default=2_000)
@click.option("--mode", "modes", multiple=True, type=click.Choice(MODES), help="Default: all.")
@click.option("--seed", type=int, help="Show this schedule alone, line by line.")
@click.option("--mutant", "name", help="With --seed: with this fault. Else: hunt it alone.")
@click.option("--no-mutants", is_flag=True, help="Run the schedules alone.")
def main(
    count: int, modes: tuple[Mode, ...], seed: int | None, name: str | None, no_mutants: bool
) -> None:
    """Run COUNT schedules of each mode."""
    mutants = [mutant for mutant in MUTANTS if name in (None, mutant.name)]
    if not mutants:
        raise click.UsageError(f"there is no mutant {name!r}: {[each.name for each in MUTANTS]}")
    if seed is not None:
        sys.exit(show(seed, modes or MODES, mutants[0] if name else None))
    good = True
    if name is None:
        for mode in modes or MODES:
            with own_server() as address, listening(address) as server:
                good &= report(campaign(server, mode, range(count)))
    if not no_mutants:
        good &= hunt_all(mutants)
    sys.exit(0 if good else 1)


def show(seed: int, modes: tuple[Mode, ...], mutant: Mutant | None) -> int:
    """Print a schedule; return 1 where a check fails."""
    failed = 0
    with own_server() as address, listening(address, mutant) as server:
        for mode in modes:
            outcome = run(server, seed, mode, trace=True)
            click.echo("\n".join(outcome.trace))
            click.echo(f"{mode}, seed {seed}: {outcome.violation or 'every check holds'}")
            failed |= bool(outcome.violation)
    return failed


def report(found: Campaign) -> bool:
    """Print what came of a campaign; tell whether it is good."""
    click.echo(found)
    for seed, violation in found.failures.items():
        click.echo(f"  python -m tests.simulation --mode {found.mode} --seed {seed}: {violation}")
    for text in found.too_little:
        click.echo(f"  this proves nothing: {text}")
    return not found.failures and not found.too_little


def hunt_all(mutants: list[Mutant]) -> bool:
    """Hunt mutants; tell whether all were found."""
    survivors = 0
    with own_server() as address:
        for mutant in mutants:
            found = hunt(address, mutant, range(HUNT))
            if found is None:
                survivors += 1
                click.echo(f"SURVIVED {HUNT} schedules: {mutant.name}")
            else:
                seed, outcome = found
                click.echo(
                    f"found with {seed + 1:4d} schedules ({mutant.mode}): {mutant.name}: "
                    f"{outcome.violation[:120]}"
                )
    click.echo(f"{len(mutants) - survivors} of {len(mutants)} mutants found")
    return not survivors


if __name__ == "__main__":
    main()
