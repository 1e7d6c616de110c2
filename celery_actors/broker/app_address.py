"""What broker an app names: asked in a process of its own, so that a node imports no user code.

``python -m celery_actors.broker.app_address APP`` prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from ..address import Address
from ..app_settings import address_of
from ..errors import ConfigurationError
from ..installation import import_path

__all__ = ["address_of_app"]

#: Seconds for the app to be imported.
_IMPORT_SECONDS = 60.0


def address_of_app(name: str, *, needed: bool) -> Address | None:
    """Return where an app's actors live: its broker, or its result backend.

    None where its settings do not say, and no address is ``needed``.

    Raises:
        ConfigurationError: the app cannot be imported, or its settings do not say.
    """
    command = [sys.executable, "-m", __name__, name]
    path = os.pathsep.join(import_path())
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_IMPORT_SECONDS,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ConfigurationError(
            f"the app {name} was not imported within {_IMPORT_SECONDS:g} s: import it by hand, and "
            "see what it waits for"
        ) from None
    if run.returncode:
        why = (run.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ConfigurationError(
            f"the Celery app {name} cannot be imported from here: {why}. -A takes what Celery's "
            "-A takes, such as project or project.celery:app"
        )
    found = json.loads(run.stdout.splitlines()[-1])
    if found["address"]:
        return Address.parse(found["address"])
    if not needed:
        return None
    raise ConfigurationError(
        f"the settings of the app {name} do not say where actors live: {found['error']}; or give "
        "--address"
    )


def _main(name: str) -> None:
    from celery.app.utils import find_app

    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as Celery's own command does
    address, problem = "", ""
    try:
        address = address_of(find_app(name)).url
    except ConfigurationError as error:
        problem = str(error)
    sys.stdout.write("\n" + json.dumps({"address": address, "error": problem}) + "\n")


if __name__ == "__main__":
    _main(sys.argv[1])
