"""The classic programs, each run as a user runs it: in a process of its own, on a cluster of its
own, on real input."""

import hashlib
import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from examples import demo

ROOT = Path(__file__).parents[2]


def figures_of(program: str) -> dict[str, Any]:
    """Run an example to its end; return what it measured."""
    run = subprocess.run(
        [sys.executable, "-m", f"examples.{program}", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    figures = json.loads(run.stdout)
    assert isinstance(figures, dict)
    return figures


def test_ten_counters_keep_their_own_state_and_count_in_order():
    counted = figures_of("counters")

    assert counted["once_each"] == [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert counted["one_again"] == [2, 3, 4, 5, 6]


@pytest.mark.slow
def test_environments_play_whole_games_alone_and_in_parallel():
    played = figures_of("environments")

    pong = [
        score
        for games in (played["pong_one"], played["pong_several"])
        for score in zip(games["won"], games["lost"], strict=True)
    ]
    assert len(pong) == 5
    assert [max(score) for score in pong] == [21] * 5
    assert any(we > 0 for we, _ in pong), "the policy never met a ball"

    poles = played["pole_one"]["won"] + played["pole_several"]["won"]
    assert len(poles) == 5
    assert min(poles) >= 200


def test_a_network_actor_learns_real_digits_by_remote_calls():
    trained = figures_of("neural_net")

    assert trained["steps"] == 400
    assert trained["accuracies"][0] < 0.3, "an untrained network should know nothing"
    assert trained["accuracies"][-1] > 0.85
    assert trained["losses"][-1] < trained["losses"][0]


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None,
    reason="needs PyTorch: `make gpu` installs it and runs this",
)
def test_networks_learn_at_once_on_devices_of_their_own():
    trained = figures_of("neural_net_gpu")

    networks = trained["networks"]
    assert len(networks) == 4
    ids = [device for network in networks for device in network["gpu_ids"]]
    assert len(ids) == len(set(ids)) == 4
    assert [network["visible"] for network in networks] == [str(device) for device in ids]
    assert min(network["accuracy"] for network in networks) > 0.85
    on_gpus = [network for network in networks if network["uuid"]]
    assert len(on_gpus) == min(4, len(trained["uuids"]))
    assert (trained["memory"] is None) == (not on_gpus)


def test_the_example_of_pytorch_says_how_to_get_it():
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.modules['torch'] = None; import examples.neural_net_gpu",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == 1
    assert "make gpu" in run.stderr
    assert "celery-actors[torch]" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.slow
def test_four_tasks_calling_without_a_pause_leave_an_actor_readable():
    counted = figures_of("parameter_server")

    reads = counted["reads"]
    assert len(reads) == 10
    assert reads == sorted(reads), "a counter never decreases"
    assert reads[-1] > reads[0]
    assert counted["slowest_read_s"] < 10
    assert len(counted["most_ahead"]) == 4
    assert max(counted["most_ahead"]) <= 20_000, "a caller far ahead should be slowed down"
    assert counted["counted"] == sum(counted["sent"]), "every call counts once"


@pytest.mark.slow
def test_asynchronous_workers_train_one_network_together():
    trained = figures_of("async_training")

    assert trained["steps"] == 480
    assert trained["versions_late"] > 0, "four workers should overtake each other"
    assert trained["curve"][-1][1] > 0.85


@dataclass(frozen=True)
class Counted:
    missing: list[str]

    def headline(self) -> str:
        return "counted to three"

    def lines(self) -> list[str]:
        return ["one", "two", "three"]

    def missed(self) -> list[str]:
        return self.missing


def test_the_demo_succeeds_when_every_program_does_what_it_should(
    capsys: pytest.CaptureFixture[str],
):
    outcome = demo.run_program("counting", lambda: Counted([]))

    assert demo.summarise([outcome]) == 0
    assert "1 of 1 programs did what they should" in capsys.readouterr().out


def test_the_demo_fails_when_one_program_misses_its_aim(capsys: pytest.CaptureFixture[str]):
    good = demo.run_program("counting", lambda: Counted([]))
    bad = demo.run_program("counting further", lambda: Counted(["four did not come"]))

    assert demo.summarise([good, bad]) == 1
    printed = capsys.readouterr().out
    assert "MISSED: four did not come" in printed
    assert "1 of 2 programs did what they should" in printed


def test_the_demo_goes_on_after_a_program_that_raises(capsys: pytest.CaptureFixture[str]):
    def broken() -> Counted:
        raise RuntimeError("no such number")

    bad = demo.run_program("counting wrongly", broken)
    good = demo.run_program("counting", lambda: Counted([]))

    assert demo.summarise([bad, good]) == 1
    captured = capsys.readouterr()
    assert "failed: RuntimeError('no such number')" in captured.out
    assert "RuntimeError: no such number" in captured.err


def test_the_digits_are_the_file_that_their_readme_describes():
    data = ROOT / "examples" / "data"
    content = (data / "mnist5k.npz").read_bytes()
    readme = (data / "README.md").read_text(encoding="utf-8")

    assert hashlib.sha256(content).hexdigest() in readme
    assert f"{len(content):,} bytes" in readme
