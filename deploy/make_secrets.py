"""Make the secrets of a cluster: passwords of the store's users, a signing key, Flower's login.

    python3 deploy/make_secrets.py [FOLDER] [--store valkey:6379]

writes ``users.acl`` for the server, with hashes instead of passwords, and for each kind of process
an environment file. A folder that holds some already is left alone. Needs Python and nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import secrets
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PLACEHOLDER = re.compile(r">CHANGE-ME-(\S+)")


def main() -> None:
    """Write the files, or say why not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=HERE / "secrets")
    parser.add_argument("--store", default="valkey:6379", help="host and port of the store")
    words = parser.parse_args()
    try:
        words.folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        sys.exit(f"{words.folder} is there already: remove it to make new secrets")
    for name, text in contents(words.store).items():
        path = words.folder / name
        path.touch(mode=0o600)
        path.write_text(text)
    # The server in a container is another user; the folder keeps others of this machine out.
    (words.folder / "users.acl").chmod(0o644)
    sys.stdout.write(f"wrote {words.folder}: keep it out of version control\n")


def contents(store: str) -> dict[str, str]:
    """Return the text of each file."""
    rules = (HERE / "users.acl").read_text()
    passwords = {user: secrets.token_urlsafe(24) for user in PLACEHOLDER.findall(rules)}

    def address(user: str) -> str:
        return f"CELERY_ACTORS_ADDRESS=redis://{user}:{passwords[user]}@{store}/0\n"

    key = f"CELERY_ACTORS_KEYS={secrets.token_hex(32)}\n"
    login = f"FLOWER_BASIC_AUTH=operator:{secrets.token_urlsafe(18)}\n"
    return {
        "users.acl": PLACEHOLDER.sub(lambda found: f"#{_hash(passwords[found[1]])}", rules),
        "node.env": address("celery-actors") + key,
        "scripts.env": address("scripts"),
        "flower.env": address("flower") + login,
        "keda.env": f"username=keda\npassword={passwords['keda']}\n",
        "admin.env": f"REDISCLI_AUTH={passwords['admin']}\n",
    }


def _hash(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


if __name__ == "__main__":
    main()
