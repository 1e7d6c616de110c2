"""Classes and functions on the wire: by name where a worker can import them, else by value.

Stored once under their content hash, signed, so a call carries only the hash.
"""

from __future__ import annotations

import hashlib
import importlib
import pickle
import sys
from collections.abc import Callable
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from typing import Any

import cloudpickle

from .errors import ObjectLostError, SerializationError
from .pickling import dumps
from .serialization import Sealer

__all__ = ["CODE_SECONDS", "dump_code", "dump_types", "import_reference", "load_code"]

#: Seconds a class or function stays after a process last stored or loaded it.
CODE_SECONDS = 7 * 24 * 3600
#: What `@remote` leaves in the module in place of the class or function keeps it here.
WRAPPED = "__celery_actors_wrapped__"


def dump_code(code: Any, sealer: Sealer, describe: str) -> tuple[str, bytes]:
    """Return the content hash of a class or function and its signed record.

    Raises:
        SerializationError: it refers to something that cannot be pickled; says what.
    """
    name = _importable_name(code)
    module = sys.modules.get(getattr(code, "__module__", None) or "")
    if name is None and module is not None and not _can_be_found(module.__name__):
        cloudpickle.register_pickle_by_value(module)
    try:
        data = pickle.dumps(name) if name else dumps(code)
    except Exception as error:
        raise SerializationError(
            f"{describe} cannot be sent to a worker: {error}. It refers to something unpicklable "
            "(a lock, a connection, an open file?): create that inside instead"
        ) from error
    digest = hashlib.sha256(data).hexdigest()[:32]
    record = sealer.seal(data, ("code", digest), digest, describe, inline=True)
    return digest, record


def dump_types(
    chosen: bool | tuple[type, ...] | None, sealer: Sealer, export: Callable[[str, bytes], None]
) -> bool | list[str] | None:
    """Return exception types as content hashes, exported; True, False and None as they are."""
    if chosen is None or isinstance(chosen, bool):
        return chosen
    digests = []
    for kind in chosen:
        digest, record = dump_code(kind, sealer, f"the exception type {kind.__name__}")
        export(digest, record)
        digests.append(digest)
    return digests


def load_code(digest: str, fetch: Callable[[str], bytes | None], sealer: Sealer) -> Any:
    """Return the class or function with this hash.

    Raises:
        ObjectLostError: the store does not have it. UntrustedPayloadError: not signed for it.
    """
    record = fetch(digest)
    if record is None:
        raise ObjectLostError(
            f"the code {digest} is not in the store: the store lost it. Restart the driver, which "
            "stores it again"
        )
    data = sealer.open(record, ("code", digest))
    loaded = pickle.loads(data)  # noqa: S301 - verified by the line above
    if isinstance(loaded, tuple) and len(loaded) == 2:
        target = _import(*loaded)
        return getattr(target, WRAPPED, target)
    return loaded


def import_reference(remote: Any) -> tuple[Callable[..., Any], tuple[str, str]] | None:
    """Return how pickle finds what `@remote` left in a module; None where it must send it."""
    name = _importable_name(getattr(remote, WRAPPED))
    return (_import, name) if name is not None and _import(*name) is remote else None


def _import(module: str, qualname: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _importable_name(code: Any) -> tuple[str, str] | None:
    module, qualname = getattr(code, "__module__", None), getattr(code, "__qualname__", "<>")
    if module in ("__main__", None) or "<" in qualname or module not in sys.modules:
        return None
    try:
        found = _import(module, qualname)
    except AttributeError:
        return None
    if getattr(found, WRAPPED, found) is not code:
        return None
    return (module, qualname) if _can_be_found(module) else None


def _can_be_found(module: str) -> bool:
    """Tell whether a worker can import a module with the driver's path.

    Not one that was made in memory or loaded from a file by hand: a notebook's, some tests'.
    """
    if module == "__main__":
        return True  # cloudpickle knows it travels by value
    top = module.partition(".")[0]
    finders = (PathFinder, BuiltinImporter, FrozenImporter)  # in the order of what is likely
    return any(finder.find_spec(top) is not None for finder in finders)
