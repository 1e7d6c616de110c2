"""Labels of nodes, and the conditions on them that work can state: pure values.

The conditions are Ray's: ``"v"`` the label has this value, ``"!v"`` it has not, ``"in(a,b)"`` one
of these, ``"!in(a,b)"`` none of these. A label that a node does not carry has no value, so the
negative ones hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["Selector", "check_labels", "check_selector", "example_of", "matches", "selector_of"]

#: Conditions as sorted pairs of a label's name and what its value must be.
Selector: TypeAlias = tuple[tuple[str, str], ...]

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_./-]*[A-Za-z0-9])?"
_VALUE = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
_CONDITION = re.compile(rf"!?(?:{_VALUE}|in\(\s*{_VALUE}(?:\s*,\s*{_VALUE})*\s*\))|")


def check_selector(name: str, value: Any) -> None:
    """Refuse what is no label selector.

    Raises:
        TypeError: not a mapping of strings. ValueError: a name or a condition that is none.
    """
    _check_mapping(name, value)
    for key, condition in value.items():
        _check_name(name, key)
        if not isinstance(condition, str):
            kind = type(condition).__name__
            raise TypeError(f"{name}[{key!r}] must be a string, not {kind}")
        if not _CONDITION.fullmatch(condition):
            raise ValueError(
                f"{name}[{key!r}]={condition!r} is no condition: write 'value', '!value', "
                "'in(a,b)' or '!in(a,b)'"
            )


def check_labels(name: str, value: Any) -> None:
    """Refuse what cannot be a node's labels.

    Raises:
        TypeError: not a mapping of strings. ValueError: a name or a value that is none.
    """
    _check_mapping(name, value)
    for key, text in value.items():
        _check_name(name, key)
        if not isinstance(text, str):
            raise TypeError(f"{name}[{key!r}] must be a string, not {type(text).__name__}")
        if text and not re.fullmatch(_VALUE, text):
            raise ValueError(
                f"{name}[{key!r}]={text!r} is no value of a label: letters, digits, '-', '_' and "
                "'.', with a letter or digit at both ends"
            )


def _check_mapping(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")


def _check_name(name: str, key: Any) -> None:
    if not isinstance(key, str):
        raise TypeError(f"a key of {name} must be a string, not {type(key).__name__}")
    if not re.fullmatch(_NAME, key):
        raise ValueError(
            f"{key!r} in {name} is no name of a label, such as 'zone' or 'my.org/disk'"
        )


def selector_of(value: Mapping[str, str] | None) -> Selector:
    """Return checked conditions as a value that can be compared and hashed."""
    return tuple(sorted((value or {}).items()))


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Tell whether a node with these labels meets every condition."""
    return all(_holds(condition, labels.get(name)) for name, condition in selector)


def example_of(selector: Selector) -> dict[str, str]:
    """Return labels that a node could be given to meet the conditions; the fewest."""
    return {name: _listed(condition)[0] for name, condition in selector if condition[:1] != "!"}


def _holds(condition: str, value: str | None) -> bool:
    return (value in _listed(condition.removeprefix("!"))) is not condition.startswith("!")


def _listed(wanted: str) -> list[str]:
    if wanted.startswith("in(") and wanted.endswith(")"):
        return [word.strip() for word in wanted[3:-1].split(",")]
    return [wanted]
