"""What ``celery_actors flower`` refuses: nothing is served, and one line says what to do."""

from __future__ import annotations

import pytest

from tests.acceptance.commands import run_cli
from tests.integration.matrix import free_port


@pytest.mark.parametrize(
    ("words", "environment", "status", "said"),
    [
        (["--host", "0.0.0.0"], {}, 2, "Flower on 0.0.0.0 would show this cluster to everybody"),
        ([], {"FLOWER_ADDRESS": "10.0.0.5"}, 2, "Flower on 10.0.0.5 would show"),
        (["--control"], {}, 2, "--control lets the pages stop workers"),
        (["--basic-auth", "eve"], {}, 2, "not of the form name:password"),
        (["--nonsense=1"], {}, 2, "'--nonsense=1' is no option of Flower's"),
        ([], {}, 3, "127.0.0.1"),
    ],
    ids=["host", "environment", "control", "login", "unknown", "store"],
)
def test_what_is_not_safe_is_refused_with_what_to_do(
    words: list[str], environment: dict[str, str], status: int, said: str
) -> None:
    address = f"redis://:hidden@127.0.0.1:{free_port()}/0"
    done = run_cli("flower", "--address", address, *words, environment=environment)
    assert done.returncode == status
    (line,) = done.stderr.splitlines()
    assert line.startswith("celery_actors: ")
    assert said in line
    assert "hidden" not in done.stderr
