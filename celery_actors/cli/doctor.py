"""``celery_actors doctor``."""

from __future__ import annotations

import sys

import click

from .examples import examples
from .reach import address_option, find_address, json_option, key_file_option
from .show import echo_json

__all__ = ["doctor"]


@click.command(epilog=examples("celery_actors doctor --address redis://10.0.0.5:6379/0"))
@address_option
@key_file_option
@json_option
def doctor(address: str | None, key_file: str | None, as_json: bool) -> None:
    """Check a store: does it answer, may it lose anything, is there a key, do the clocks agree?

    The exit status is 1 where something is wrong.
    """
    from .. import doctor as checks

    findings = checks.collect(find_address(address), key_file)
    if as_json:
        echo_json(checks.as_json(findings))
    else:
        checks.show(findings)
    sys.exit(not checks.is_well(findings))
