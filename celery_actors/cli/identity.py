"""Gives up root's rights before a node begins: ``--uid`` and ``--gid``."""

from __future__ import annotations

import os
import sys

from ..errors import ConfigurationError

__all__ = ["take_identity"]


def take_identity(user: str | None, group: str | None) -> None:
    """Become another user and group, for good; nothing where none is named.

    Raises:
        ConfigurationError: there is no such user or group, or this process is not root's.
    """
    if user is None and group is None:
        return
    if sys.platform == "win32":  # pragma: no cover - there is no node there
        raise ConfigurationError("--uid and --gid are for POSIX systems")
    import grp
    import pwd

    try:
        found = None if user is None else (
            pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
        )  # fmt: skip
        gid = None if group is None else (
            grp.getgrgid(int(group)) if group.isdigit() else grp.getgrnam(group)
        ).gr_gid  # fmt: skip
    except KeyError as error:
        raise ConfigurationError(f"--uid or --gid: {error.args[0]}") from None
    uid = found.pw_uid if found is not None else os.geteuid()
    if gid is None:
        gid = found.pw_gid if found is not None else os.getegid()
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return
    if os.geteuid() != 0:
        raise ConfigurationError("--uid and --gid need root, which this process is not")
    name = found.pw_name if found is not None else pwd.getpwuid(uid).pw_name
    os.initgroups(name, gid)
    os.setgid(gid)
    os.setuid(uid)
    if found is not None:  # what user code and its libraries write to a home goes to theirs
        os.environ.update(HOME=found.pw_dir, USER=name, LOGNAME=name)
