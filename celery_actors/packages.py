"""Folders of code on their way to other nodes: packed, stored by content hash, unpacked safely."""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import hashlib
import io
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from .errors import ConfigurationError, ObjectLostError, RuntimeEnvSetupError
from .runtime_env import PACKAGE
from .store import Store
from .store.client import chunk_keys

__all__ = ["LIMIT_BYTES", "fetch", "pack", "package_cache", "refresh", "store_package"]

#: The largest package, packed; Ray's limit.
LIMIT_BYTES = 100 * 1024 * 1024
#: Never of use on another machine.
_NEVER = ["__pycache__", "*.pyc", ".git", ".venv", "venv"]
#: Zip files begin in 1980; a fixed moment makes equal contents equal bytes.
_MOMENT = (1980, 1, 1, 0, 0, 0)
_CACHE = "celery_actors-packages-"


def pack(path: Path, excludes: Sequence[str], *, keep_name: bool) -> bytes:
    """Return a folder, file or archive as a zip file; equal contents give equal bytes.

    Args:
        path: a folder, a ``.py`` file, or a ``.zip`` or ``.whl`` file, which is taken as it is.
        excludes: patterns as in ``.gitignore``: of a name, or with a slash of a path from the top.
        keep_name: put the folder itself into the archive, not its contents alone.

    Raises:
        ValueError: there is no such folder or file, or it is too large.
    """
    if path.is_file() and zipfile.is_zipfile(path):
        return _limited(path.read_bytes(), path)
    top = f"{path.name}/" if keep_name else ""
    if path.is_dir():
        files = [(top + name, file) for name, file in _walk(path, [*_NEVER, *excludes])]
    elif path.is_file() and keep_name:
        files = [(path.name, path)]
    else:
        raise ConfigurationError(
            f"{path} is not {'a folder, a .py file' if keep_name else 'a folder'} or a .zip file "
            "on this machine"
        )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, file in sorted(files):
            entry = zipfile.ZipInfo(name, _MOMENT)
            entry.external_attr = (
                stat.S_IFREG | (0o755 if os.access(file, os.X_OK) else 0o644)
            ) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
            if packed.tell() > LIMIT_BYTES:
                break
    return _limited(packed.getvalue(), path)


def _limited(data: bytes, path: Path) -> bytes:
    if len(data) > LIMIT_BYTES:
        raise ConfigurationError(
            f"{path} is larger than {LIMIT_BYTES >> 20} MiB packed. Leave files out with "
            "runtime_env={'excludes': […]}, or put the data where every node can read it"
        )
    return data


def _walk(root: Path, excludes: Sequence[str]) -> Iterator[tuple[str, Path]]:
    seen: set[str] = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link that leads back up
            subfolders.clear()
            continue
        seen.add(real)
        place = PurePosixPath(Path(folder).relative_to(root).as_posix())
        subfolders[:] = sorted(
            name for name in subfolders if not _excluded(place / name, excludes, folder=True)
        )
        for name in names:
            file = Path(folder, name)
            if not _excluded(place / name, excludes, folder=False) and file.is_file():
                yield (place / name).as_posix(), file


def _excluded(path: PurePosixPath, patterns: Sequence[str], *, folder: bool) -> bool:
    """Tell whether the last pattern that fits a path leaves it out; ``!`` takes it in again."""
    excluded = False
    for given in patterns:
        pattern = given.removeprefix("!")
        if pattern.endswith("/") and not folder:
            continue
        pattern = pattern.rstrip("/")
        if "/" in pattern:
            fits = path.as_posix() == (whole := pattern.lstrip("/")) or fnmatch.fnmatchcase(
                path.as_posix(), whole.replace("**/", "*")
            )
        else:
            fits = fnmatch.fnmatchcase(path.name, pattern)
        if fits:
            excluded = not given.startswith("!")
    return excluded


def store_package(store: Store, data: bytes, seconds: int) -> str:
    """Store a package under its content hash, if it is not there, and return its name."""
    digest = hashlib.sha256(data).hexdigest()
    name = f"{PACKAGE}{digest}:{len(data)}"
    if not refresh(store, name, seconds):
        store.put_blob(f"package-{digest}", memoryview(data), seconds)
    return name


def refresh(store: Store, name: str, seconds: int) -> bool:
    """Keep a package for another while; False where not all of it is there."""
    digest, _, size = name.removeprefix(PACKAGE).partition(":")
    keys = chunk_keys(f"package-{digest}", int(size))
    return all(int(store.run("EXPIRE", key, seconds)) for key in keys)


def fetch(store: Store, name: str, cache: Path) -> Path:
    """Return the folder with a package's contents, unpacked once per node.

    ``name`` comes from a signed record; what does not have its hash is not unpacked.

    Raises:
        RuntimeEnvSetupError: the package is gone, was changed, or cannot be unpacked.
    """
    digest, _, size = name.removeprefix(PACKAGE).partition(":")
    folder = cache / digest
    with (cache / f"{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several workers of one environment start at once
        if not folder.exists():
            try:
                data = store.need_blob(f"package-{digest}", int(size))
            except ObjectLostError as error:
                raise RuntimeEnvSetupError(
                    f"the package {digest[:12]} of a runtime_env is not in the store any more "
                    f"({error}). Restart the driver, which stores it again"
                ) from None
            if hashlib.sha256(data).hexdigest() != digest:
                raise RuntimeEnvSetupError(
                    f"the package {digest[:12]} of a runtime_env was changed in the store: its "
                    "contents have another hash. It was not unpacked"
                )
            _unpack(io.BytesIO(data), folder)
    return folder


@contextlib.contextmanager
def package_cache() -> Iterator[Path]:
    """Give a folder for unpacked packages that is removed at the end.

    Folders whose node was killed are removed by the next one: a lock that the kernel lets go with
    its process says which.
    """
    root = Path(tempfile.gettempdir())
    for old in root.glob(f"{_CACHE}*"):
        with contextlib.suppress(OSError), (old / "alive").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{_CACHE}"))
    with (fresh / "alive").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = fresh.rename(root / fresh.name.removeprefix("."))  # seen by others from now on
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _unpack(packed: io.BytesIO, folder: Path) -> None:
    partial = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        with zipfile.ZipFile(packed) as archive:
            for entry in archive.infolist():
                _refuse_escape(entry)
                target = Path(archive.extract(entry, partial))
                mode = (entry.external_attr >> 16) & 0o777
                if mode and not entry.is_dir():
                    target.chmod(mode | stat.S_IRUSR | stat.S_IWUSR)
        partial.rename(folder)
    except (zipfile.BadZipFile, OSError) as error:
        raise RuntimeEnvSetupError(
            f"a package of a runtime_env cannot be unpacked in {folder.parent}: {error}"
        ) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(partial)


def _refuse_escape(entry: zipfile.ZipInfo) -> None:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or is_link:
        raise RuntimeEnvSetupError(
            f"a package of a runtime_env holds {entry.filename!r}, which leads out of its folder; "
            "nothing more of it was unpacked. Pack it without links and '..'"
        )
