"""``list_named_actors``: which names are taken."""

from __future__ import annotations

from typing import Literal, overload

from .. import directory, runtime

__all__ = ["list_named_actors"]


@overload
def list_named_actors(all_namespaces: Literal[False] = False) -> list[str]: ...
@overload
def list_named_actors(all_namespaces: Literal[True]) -> list[dict[str, str]]: ...
@overload
def list_named_actors(all_namespaces: bool) -> list[str] | list[dict[str, str]]: ...
def list_named_actors(all_namespaces: bool = False) -> list[str] | list[dict[str, str]]:
    """Return the names of the living actors, sorted; those that restart are among them.

    Args:
        all_namespaces: look beyond this process's namespace: the answer is then a list of
            ``{"name": …, "namespace": …}``.
    """
    context = runtime.current()
    space = None if all_namespaces else context.namespace
    found = sorted(directory.names(context.store, space))
    if all_namespaces:
        return [{"name": name, "namespace": namespace} for namespace, name in found]
    return [name for _namespace, name in found]
