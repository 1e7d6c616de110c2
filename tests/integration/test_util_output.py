"""What a driver shows of its workers: repeated lines, labels of actors, progress bars."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.support import ROOT, Server, node_on, run_script

REPEATED = """
import celery_actors as ca, sys
ca.init({address})

@ca.remote
class Loader:
    def load(self, number):
        print(f"loaded shard {{number}} of the data")
        print(f"warmed up {{number}}", file=sys.stderr)

    def alone(self):
        for number in range(3):
            print(f"only I say this {{number}}")

loaders = [Loader.remote() for _ in range(4)]
ca.get([loader.load.remote(number) for number, loader in enumerate(loaders)])
ca.get(loaders[0].alone.remote())
"""


def matching(pattern: str, text: str) -> list[str]:
    return re.findall(rf"^\(\w+ pid=\d+\) {pattern}$", text, re.MULTILINE)


def assert_collapsed(stdout: str, stderr: str) -> None:
    """Look for the first line of each pattern, and for one line about the rest."""
    text = stdout + stderr
    assert len(matching(r"loaded shard \d of the data", stdout)) == 1, text
    assert (
        len(matching(r"loaded shard \d of the data \[repeated 3x across cluster\].*", stdout)) == 1
    )
    assert len(matching(r"warmed up \d", stderr)) == 1
    assert len(matching(r"warmed up \d \[repeated 3x across cluster\].*", stderr)) == 1
    assert len(matching(r"only I say this \d", stdout)) == 3
    assert text.count("CELERY_ACTORS_DEDUP_LOGS=0") == 1


def test_what_many_workers_say_is_told_once(tmp_path: Path):
    run = run_script(tmp_path, REPEATED.format(address="num_cpus=2"))

    assert_collapsed(run.stdout, run.stderr)


@pytest.mark.debian_redis
def test_what_many_workers_of_a_running_cluster_say_is_told_once(server: Server, tmp_path: Path):
    with node_on(server):
        text = REPEATED.format(address=repr(server.url))
        run = run_script(tmp_path, text, server.environment())

    assert_collapsed(run.stdout, run.stderr)


def test_the_environment_shows_every_line_or_none(tmp_path: Path):
    text = REPEATED.format(address="num_cpus=2")

    every = run_script(tmp_path, text, {**os.environ, "RAY_DEDUP_LOGS": "0"})
    chosen = run_script(
        tmp_path,
        text,
        {
            **os.environ,
            "CELERY_ACTORS_DEDUP_LOGS_ALLOW_REGEX": "loaded",
            "CELERY_ACTORS_DEDUP_LOGS_SKIP_REGEX": "warmed|only I",
        },
    )

    assert len(matching(r"loaded shard \d of the data", every.stdout)) == 4, every.stderr
    assert len(matching(r"warmed up \d", every.stderr)) == 4
    assert len(matching(r"loaded shard \d of the data", chosen.stdout)) == 4, chosen.stderr
    assert len(chosen.stdout.splitlines()) == 4
    assert chosen.stderr == ""


def test_held_back_lines_are_told_while_the_driver_goes_on(tmp_path: Path):
    run = run_script(
        tmp_path,
        REPEATED.format(address="num_cpus=2")
        + "import io, time\n"
        + "deadline = time.monotonic() + 30\n"
        + "class Watch(io.TextIOBase):\n"
        + "    told = False\n"
        + "    def write(self, text):\n"
        + "        self.told = self.told or 'repeated' in text\n"
        + "        return sys.__stdout__.write(text)\n"
        + "sys.stdout = watch = Watch()\n"
        + "while not watch.told and time.monotonic() < deadline:\n"
        + "    time.sleep(0.05)\n"
        + "sys.__stdout__.write(f'TOLD {watch.told}\\n')\n",
        {**os.environ, "CELERY_ACTORS_DEDUP_LOGS_AGG_WINDOW_S": "1"},
    )

    assert run.stdout.rstrip().endswith("TOLD True"), run.stdout + run.stderr


LABELS = """
import celery_actors as ca
ca.init(num_cpus=1)

@ca.remote
class Counter:
    def __init__(self, name):
        self.name = name
        print("starting")
    def __repr__(self):
        return f"Counter of {self.name}:\\n  1"
    def speak(self):
        print("speaking")

@ca.remote
class Broken:
    def __repr__(self):
        raise ValueError("no repr today")
    def speak(self):
        print("all the same")

@ca.remote
class Listing(list):
    def speak(self):
        print("a list")

actors = [Counter.remote("sheep"), Broken.remote(), Listing.remote()]
ca.get([actor.speak.remote() for actor in actors])
"""


def test_the_repr_of_an_actor_labels_its_prints(tmp_path: Path):
    run = run_script(tmp_path, LABELS)

    lines = [re.sub(r"pid=\d+", "pid", line) for line in run.stdout.splitlines()]
    assert sorted(lines) == [
        "(Broken pid) all the same", "(Counter of sheep: 1 pid) speaking",
        "(Counter pid) starting", "(Listing pid) a list",
    ], run.stderr  # fmt: skip
    assert "no repr today" in run.stderr


BARS = """
import celery_actors as ca
from celery_actors.experimental import tqdm_ray
ca.init(num_cpus=2)

@ca.remote
class Trainer:
    def train(self, number, steps):
        print("unfinished", end="")
        for step in tqdm_ray.tqdm(range(steps), desc=f"run {number}", mininterval=0):
            if step == 1:
                tqdm_ray.safe_print("half way")
        return number

    def stop_early(self):
        bar = tqdm_ray.tqdm(total=9, desc="never closed")
        bar.update(3)
        bar.refresh()

@ca.remote
def count(steps):
    with tqdm_ray.tqdm(total=steps, desc="counted", unit="rows") as bar:
        for _ in range(steps):
            bar.update()

trainer = Trainer.remote()
ca.get([trainer.train.remote(1, 3), count.remote(4), trainer.stop_early.remote()])
with tqdm_ray.tqdm(total=2, desc="in the driver") as bar:
    bar.update(2)
"""


def test_without_a_terminal_bars_of_all_processes_end_as_lines(tmp_path: Path):
    run = run_script(tmp_path, BARS)

    for line in (r"\(Trainer pid=\d+\) run 1: 100% 3/3 it \[.*\]",
                 r"\(count pid=\d+\) counted: 100% 4/4 rows \[.*\]",
                 r"in the driver: 100% 2/2 it \[.*\]"):  # fmt: skip
        assert len(re.findall(f"^{line}$", run.stderr, re.MULTILINE)) == 1, run.stderr
    assert len(run.stderr.splitlines()) == 3
    stdout = re.sub(r"pid=\d+", "pid", run.stdout)
    assert sorted(stdout.splitlines()) == ["(Trainer pid) half way", "(Trainer pid) unfinished"]


def test_on_a_terminal_bars_are_drawn_and_cleared_and_prints_stay_whole(tmp_path: Path):
    script = tmp_path / "program.py"
    script.write_text(BARS)
    main, side = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=side, stderr=side, env=environment
    ) as process:
        os.close(side)
        seen = b""
        while True:
            try:
                data = os.read(main, 65536)
            except OSError:  # the last writer has closed its end
                break
            seen += data
        os.close(main)

    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode()).replace("\r", "\n")
    assert process.returncode == 0, text
    lines = [line.strip() for line in text.splitlines()]
    assert any(re.match(r"\(Trainer pid=\d+\) run 1: 100% 3/3 it", line) for line in lines), text
    assert any(re.match(r"\(Trainer pid=\d+\) half way$", line) for line in lines), text
    assert any(re.match(r"\(Trainer pid=\d+\) never closed .*━.* 33% 3/9 it", line)
               for line in lines), text  # fmt: skip
    assert seen.count(b"\x1b[?25l") == seen.count(b"\x1b[?25h"), "the cursor is shown again"


def test_bars_stay_away_where_output_does(tmp_path: Path):
    text = BARS.replace("num_cpus=2", "num_cpus=2, log_to_driver=False")

    run = run_script(tmp_path, text)

    assert re.fullmatch(r"in the driver: 100% 2/2 it \[.*\]\n", run.stderr)
    assert run.stdout == ""
