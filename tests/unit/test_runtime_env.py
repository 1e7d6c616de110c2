"""What a runtime_env may say, and how it merges."""

from __future__ import annotations

import json
import pathlib
from types import ModuleType
from typing import Any

import pytest

from celery_actors.errors import ConfigurationError
from celery_actors.runtime_env import (
    RuntimeEnv,
    canonical,
    check_runtime_env,
    digest_of,
    merge,
    module_path,
)


def hook() -> None:
    """Does nothing."""


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"env_vars": {"A": "1", "B": ""}},
        {"env_vars": None, "working_dir": None},
        {"working_dir": ".", "excludes": ["*.log"]},
        {"working_dir": pathlib.Path("somewhere")},
        {"py_modules": ["a", pathlib.Path("b.py"), json]},
        {"worker_process_setup_hook": hook},
        {"worker_process_setup_hook": "module.hook"},
        {"config": {"setup_timeout_seconds": 60, "eager_install": True}},
        {"config": {"setup_timeout_seconds": -1}},
    ],
)  # fmt: skip
def test_a_proper_environment_is_accepted(env: dict[str, Any]) -> None:
    check_runtime_env("runtime_env", env)


@pytest.mark.parametrize(
    ("env", "kind", "words"),
    [
        (["env_vars"], TypeError, "runtime_env must be a mapping, not list"),
        ({"colour": 1}, ValueError, "'colour'.*env_vars"),
        ({"env_vars": ["A"]}, TypeError, "env_vars.*list"),
        ({"env_vars": {"A": 1}}, TypeError, "strings to strings.*'A': 1"),
        ({"env_vars": {1: "A"}}, TypeError, "strings to strings"),
        ({"env_vars": {"A=B": "1"}}, ValueError, "'A=B'"),
        ({"env_vars": {"": "1"}}, ValueError, "cannot be a variable"),
        ({"env_vars": {"A": "\0"}}, ValueError, "cannot be a variable"),
        ({"working_dir": 1}, TypeError, "working_dir.*int"),
        ({"working_dir": ""}, ValueError, "working_dir.*empty"),
        ({"working_dir": "s3://bucket/x.zip"}, ConfigurationError, "s3://.*Download"),
        ({"py_modules": "a"}, TypeError, "py_modules.*list"),
        ({"py_modules": [1]}, TypeError, r"py_modules'\]\[0\].*int"),
        ({"py_modules": ["https://x/y.whl"]}, ConfigurationError, "Download"),
        ({"excludes": "*.log"}, TypeError, "excludes.*list"),
        ({"excludes": [1]}, TypeError, "excludes.*list"),
        ({"worker_process_setup_hook": 1}, TypeError, "function"),
        ({"config": 1}, TypeError, "config.*mapping"),
        ({"config": {"colour": 1}}, ValueError, "colour.*setup_timeout_seconds"),
        ({"config": {"setup_timeout_seconds": "1"}}, TypeError, "integer"),
        ({"config": {"setup_timeout_seconds": True}}, TypeError, "integer"),
        ({"config": {"setup_timeout_seconds": 0}}, ValueError, "positive"),
        ({"config": {"eager_install": "yes"}}, TypeError, "True or False"),
        *[
            ({key: "x"}, ConfigurationError, f"'{key}'.*not offered.*image")
            for key in ("pip", "uv", "conda", "container", "image_uri", "py_executable")
        ],
    ],
)  # fmt: skip
def test_an_improper_environment_is_refused_with_words(
    env: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        check_runtime_env("runtime_env", env)


def test_the_class_is_a_checked_dictionary() -> None:
    assert RuntimeEnv(env_vars={"A": "1"}, working_dir=None) == {"env_vars": {"A": "1"}}
    with pytest.raises(ValueError, match="colour"):
        RuntimeEnv(colour=1)


def test_variables_merge_one_by_one_and_the_child_wins() -> None:
    parent = {"env_vars": {"A": "1", "B": "1"}, "working_dir": "package:x:1"}
    child = {"env_vars": {"B": "2"}, "py_modules": ["package:y:1"], "working_dir": None}
    assert merge(parent, child) == {
        "env_vars": {"A": "1", "B": "2"},
        "working_dir": "package:x:1",
        "py_modules": ["package:y:1"],
    }
    assert merge(parent, {}) == parent
    assert merge({}, {"env_vars": {}}) == {"env_vars": {}}


def test_equal_environments_have_one_name_and_different_ones_another() -> None:
    first = digest_of({"env_vars": {"A": "1", "B": "2"}})
    assert first == digest_of({"env_vars": {"B": "2", "A": "1"}})
    assert first != digest_of({"env_vars": {"A": "1", "B": "3"}})
    assert digest_of({}) == ""


def test_paths_modules_and_hooks_have_a_text() -> None:
    env = {
        "working_dir": pathlib.Path("/a"), "py_modules": [json],
        "worker_process_setup_hook": hook,
    }  # fmt: skip
    text = canonical(env)
    assert '"/a"' in text
    assert str(module_path(json)) in text
    assert "hook" in text


def test_a_module_is_its_file_and_a_package_its_folder() -> None:
    assert module_path(json).name == "json"
    assert module_path(pathlib).suffix == ".py" or module_path(pathlib).name == "pathlib"
    with pytest.raises(ValueError, match="in_memory"):
        module_path(ModuleType("in_memory"))
