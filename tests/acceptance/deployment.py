"""What `deploy/` says, for tests that hold it to that: its commands, as plain processes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.integration.acl import write_settings
from tests.integration.matrix import free_port
from tests.integration.support import ROOT, embedded_server
from tests.waits import wait_until

DEPLOY = ROOT / "deploy"


def compose() -> dict[str, Any]:
    """Return the services of the compose file."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return found


def make_secrets(folder: Path, store: str) -> subprocess.CompletedProcess[str]:
    """Run `make_secrets.py` as people do."""
    words = [sys.executable, str(DEPLOY / "make_secrets.py"), str(folder), "--store", store]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def read_environment(path: Path) -> dict[str, str]:
    """Read an environment file."""
    lines = [line for line in path.read_text().splitlines() if line]
    return dict(line.split("=", 1) for line in lines)


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile: (word, rest), with continued lines joined."""
    text = (DEPLOY / "Dockerfile").read_text()
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line)
    ]


class Containers:
    """The services of the compose file as processes of this machine, on free ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: str(free_port()) for port in ("6379", "9110", "5555")}
        self.store = f"127.0.0.1:{self.ports['6379']}"
        self.secrets = folder / "secrets"
        assert make_secrets(self.secrets, self.store).returncode == 0
        self.node = read_environment(self.secrets / "node.env")
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start one service: its command, its environment and nothing else of ours."""
        service = compose()["services"][name]
        words = [self._here(word) for word in service["command"]]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if "env_file" in service:
            environment |= read_environment(self.folder / service["env_file"])
        with self.log(name).open("ab") as log:
            self.running[name] = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                cwd=self.folder,
            )  # fmt: skip
        return self.running[name]

    def log(self, name: str) -> Path:
        """Return the file with what a service has said."""
        return self.folder / f"{name}.log"

    def logs(self) -> str:
        """Return what all have said."""
        return "\n".join(f"== {name}\n{self.log(name).read_text()}" for name in self.running)

    def kill(self) -> None:
        """Kill what runs."""
        for process in self.running.values():
            process.kill()
            process.wait()

    def _here(self, word: str) -> str:
        """Return a word of a command as it is on this machine."""
        if word == "celery_actors":
            return str(Path(sys.executable).with_name("celery_actors"))
        if word == "valkey-server":
            return embedded_server()
        if word == "/etc/celery-actors/redis.conf":
            return write_settings(self.folder, self.secrets / "users.acl", self.ports["6379"])
        return self.ports.get(word, word).replace("0.0.0.0", "127.0.0.1")

    def wait_healthy(self, name: str) -> None:
        """Wait until the health check of a service's image passes."""
        process = self.running[name]
        wait_until(
            lambda: process.poll() is not None or self.is_healthy(name), f"{name} is healthy", 40
        )
        assert process.poll() is None, self.logs()

    def is_healthy(self, stage: str) -> bool:
        """Run the health check of a stage of the Dockerfile."""
        found, inside = "", ""
        for word, rest in instructions():
            if word == "FROM":
                inside = rest.split(" AS ")[-1]
            if word == "HEALTHCHECK" and inside == stage:
                found = rest[rest.index("[") :]
        for port, here in self.ports.items():
            found = found.replace(f":{port}/", f":{here}/")
        (python, *words) = yaml.safe_load(found)
        assert python == "python"
        return (
            subprocess.run([sys.executable, *words], check=False, capture_output=True).returncode
            == 0
        )


def words_of_units() -> dict[str, list[str]]:
    """Return the command lines of the systemd units, by unit and setting."""
    found = {}
    for unit in sorted((DEPLOY / "systemd").glob("*.service")):
        for line in unit.read_text().splitlines():
            name, _, value = line.partition("=")
            if name.startswith("Exec"):
                found[f"{unit.name} {name}"] = shlex.split(value.lstrip("-"))
    return found
