"""Environments of drivers, actors and functions: a worker process of its own for each."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

import celery_actors as ca
from tests.integration.support import Cluster, run_script, wait_until


@ca.remote
def variable(name: str) -> tuple[str | None, int]:
    return os.environ.get(name), os.getpid()


@ca.remote
def child(name: str, env: dict[str, Any] | None = None) -> Any:
    return ca.get(variable.options(runtime_env=env).remote(name))


@ca.remote
class Place:
    """Tells where it lives."""

    def variable(self, name: str) -> str | None:
        return os.environ.get(name)

    def folder(self) -> tuple[str, list[str]]:
        return str(Path.cwd()), sorted(path.name for path in Path.cwd().iterdir())

    def run(self, text: str) -> Any:
        space: dict[str, Any] = {}
        exec(text, space)
        return space["found"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    (folder / "secrets").mkdir()
    (folder / "own_module.py").write_text("WORD = 'from the working folder'\n")
    (folder / "data" / "numbers.txt").write_text("1 2 3")
    (folder / "secrets" / "key.txt").write_text("hidden")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    return folder


def test_a_function_with_variables_runs_in_a_process_that_has_them(cluster: Cluster):
    plain = ca.get([variable.remote("COLOUR") for _ in range(8)], timeout=20)
    red = variable.options(runtime_env={"env_vars": {"COLOUR": "red"}})
    blue = variable.options(runtime_env={"env_vars": {"COLOUR": "blue"}})
    coloured = ca.get([f.remote("COLOUR") for _ in range(4) for f in (red, blue)], timeout=20)
    again = ca.get([variable.remote("COLOUR") for _ in range(8)], timeout=20)

    assert {value for value, _ in plain + again} == {None}
    assert [value for value, _ in coloured] == ["red", "blue"] * 4
    processes = [{pid for value, pid in plain + coloured + again if value == colour}
                 for colour in (None, "red", "blue")]  # fmt: skip
    assert not processes[0] & processes[1]
    assert not processes[1] & processes[2]


def test_a_decorated_function_and_an_actor_have_their_variables(cluster: Cluster):
    @ca.remote(runtime_env={"env_vars": {"COLOUR": "green"}})
    def decorated() -> str | None:
        return os.environ.get("COLOUR")

    actor = Place.options(runtime_env={"env_vars": {"COLOUR": "grey"}}).remote()

    assert ca.get(decorated.remote(), timeout=20) == "green"
    assert ca.get(actor.variable.remote("COLOUR"), timeout=20) == "grey"


def test_a_variable_may_be_built_on_one_of_the_node(cluster: Cluster):
    env = {"env_vars": {"PATH": "/own/bin:${PATH}", "EMPTY": "<${NO_SUCH_VARIABLE}>"}}
    actor = Place.options(runtime_env=env).remote()

    path, empty = ca.get([actor.variable.remote(n) for n in ("PATH", "EMPTY")], timeout=20)
    assert path.startswith("/own/bin:/")
    assert empty == "<>"


def test_children_inherit_and_the_childs_own_value_wins(cluster: Cluster):
    parent = child.options(runtime_env={"env_vars": {"COLOUR": "red", "SIZE": "big"}})

    assert ca.get(parent.remote("COLOUR"), timeout=20)[0] == "red"
    own = {"env_vars": {"COLOUR": "blue"}}
    assert ca.get(parent.remote("COLOUR", own), timeout=20)[0] == "blue"
    assert ca.get(parent.remote("SIZE", own), timeout=20)[0] == "big"


def test_a_working_folder_is_there_with_its_modules(cluster: Cluster, project: Path):
    env = {"working_dir": str(project), "excludes": ["secrets/"]}
    actor = Place.options(runtime_env=env).remote()

    folder, names = ca.get(actor.folder.remote(), timeout=20)
    assert folder != str(project)
    assert names == ["data", "own_module.py", "run.sh"]
    word = ca.get(actor.run.remote("import own_module; found = own_module.WORD"), timeout=20)
    assert word == "from the working folder"
    text = "from pathlib import Path; found = Path('data/numbers.txt').read_text()"
    assert ca.get(actor.run.remote(text), timeout=20) == "1 2 3"
    assert ca.get(actor.run.remote("import os; found = os.access('run.sh', os.X_OK)"), timeout=20)


def test_a_working_folder_is_unpacked_once_per_node(cluster: Cluster, project: Path):
    actors = [Place.options(runtime_env={"working_dir": project}).remote() for _ in range(3)]

    folders = {folder for folder, _ in ca.get([a.folder.remote() for a in actors], timeout=30)}
    assert len(folders) == 1


def test_a_zip_file_and_a_module_folder_and_file_can_be_given(cluster: Cluster, tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "work.zip", "w") as archive:
        archive.writestr("note.txt", "zipped")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "__init__.py").write_text("NAME = 'tools'\n")
    (tmp_path / "single.py").write_text("NAME = 'single'\n")
    env = {
        "working_dir": str(tmp_path / "work.zip"),
        "py_modules": [tmp_path / "tools", str(tmp_path / "single.py")],
    }
    actor = Place.options(runtime_env=env).remote()

    text = "import tools, single; found = (open('note.txt').read(), tools.NAME, single.NAME)"
    assert ca.get(actor.run.remote(text), timeout=20) == ("zipped", "tools", "single")


def prepare() -> None:
    os.environ["PREPARED"] = f"in {os.getpid()}"


def test_a_hook_runs_once_before_the_code_of_the_call(cluster: Cluster):
    ready = variable.options(runtime_env={"worker_process_setup_hook": prepare})
    value, pid = ca.get(ready.remote("PREPARED"), timeout=20)
    assert value == f"in {pid}"


def break_down() -> None:
    raise OSError("no licence server")


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"worker_process_setup_hook": break_down}, "break_down raised OSError: no licence server"),
        ({"worker_process_setup_hook": "no_such_module.hook"}, "no_such_module"),
    ],
)
def test_a_failed_set_up_fails_every_call_and_actor(
    cluster: Cluster, env: dict[str, Any], words: str
):
    broken = variable.options(runtime_env=env)
    for _ in range(2):
        with pytest.raises(ca.exceptions.RuntimeEnvSetupError, match=words):
            ca.get(broken.remote("COLOUR"), timeout=20)
    actor = Place.options(runtime_env=env).remote()
    for _ in range(2):
        with pytest.raises(ca.exceptions.RuntimeEnvSetupError, match=words):
            ca.get(actor.folder.remote(), timeout=20)


def test_a_package_that_somebody_changed_is_not_unpacked(cluster: Cluster, project: Path):
    (project / "fresh.txt").write_text(str(project))
    ready = Place.options(runtime_env={"working_dir": project})
    with cluster.client() as client:
        before = set(client.scan_iter("ca:blob:package-*"))
        # It stores the package and starts nowhere: a node that had unpacked it would not ask again.
        waiting = ready.options(resources={"nowhere": 1}, wait_for_resources=True).remote()
        (key,) = set(client.scan_iter("ca:blob:package-*")) - before
        client.set(key, b"x" * client.strlen(key), keepttl=True)

        with pytest.raises(ca.exceptions.RuntimeEnvSetupError, match="changed in the store"):
            ca.get(ready.remote().folder.remote(), timeout=20)
        ca.kill(waiting)


def test_an_environment_that_somebody_forged_is_refused(cluster: Cluster):
    ready = Place.options(runtime_env={"env_vars": {"FORGED": "no"}})
    with cluster.client() as client:
        before = set(client.scan_iter("ca:env:*"))
        ca.get(ready.remote().variable.remote("FORGED"), timeout=20)
        (key,) = set(client.scan_iter("ca:env:*")) - before
        client.set(key, client.get(key).replace(b'"p":"', b'"p":"AAAA'), keepttl=True)

        with pytest.raises(ca.exceptions.RuntimeEnvSetupError, match="not trusted"):
            ca.get(ready.remote().variable.remote("FORGED"), timeout=20)


def test_a_folder_that_is_not_there_is_an_error_of_the_caller(cluster: Cluster, tmp_path: Path):
    with pytest.raises(ValueError, match=r"nowhere.*is not a folder"):
        variable.options(runtime_env={"working_dir": tmp_path / "nowhere"}).remote("X")


def test_a_restarted_actor_has_its_environment_again(cluster: Cluster, project: Path):
    env = {"working_dir": project, "env_vars": {"COLOUR": "red"}}
    actor = Place.options(runtime_env=env, max_restarts=1).remote()
    pid = ca.get(actor.run.remote("import os; found = os.getpid()"), timeout=20)
    os.kill(pid, 9)

    def seen() -> Any:
        try:
            return ca.get(actor.run.remote("import os, own_module; found = os.getpid()"))
        except ca.ActorUnavailableError:
            return None

    assert wait_until(seen, "the restarted actor") != pid
    assert ca.get(actor.variable.remote("COLOUR"), timeout=20) == "red"


def test_the_environment_of_a_driver_is_that_of_its_calls_and_actors(tmp_path: Path, project: Path):
    done = run_script(
        tmp_path,
        f"""
import os
import celery_actors as ray

@ray.remote
def read():
    import own_module
    return os.environ["COLOUR"], own_module.WORD, ray.get_runtime_context().runtime_env["env_vars"]

@ray.remote
class Reader:
    def read(self):
        return ray.get(read.remote())

env = {{"working_dir": {str(project)!r}, "env_vars": {{"COLOUR": "red"}}}}
ray.init(num_cpus=1, runtime_env=env)
print(ray.get(read.remote()))
print(ray.get(Reader.remote().read.remote()))
""",
    )
    assert done.stderr == ""
    expected = "('red', 'from the working folder', {'COLOUR': 'red'})\n"
    assert done.stdout == expected * 2
