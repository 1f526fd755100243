"""As whom PostgreSQL runs. It refuses to be root, so for root there are two ways, and no folder is opened to others in either.

1. *As an account that exists already*, `postgres`, else `nobody`: the folder is given to it (mode 0700 as before). It
   does not work where that account cannot come: below /root, or with the programs in a private virtual environment.
2. *In a user namespace* (`unshare --user`): the server sees itself as user 1000 while its files stay root's. It needs no
   account and reads what root reads, but many containers forbid user namespaces.

The first comes first, because a server in a namespace is still root to the file system. What a folder was made with is
kept where that still works: its owner says which way it was.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

from .binaries import Binaries
from .errors import EmbeddedError

__all__ = ["Account", "choose_account"]

ACCOUNTS: Final = ("postgres", "nobody")
NAMESPACE_ID: Final = 1000


class Account(Struct, frozen=True):
    """How to run a program so that it is not root: as we are, as another user, or behind a command."""

    name: str
    user: int | None = None
    group: int | None = None
    command: tuple[str, ...] = ()

    def run(self, arguments: Sequence[str], *, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, from the root folder, with its output kept."""
        extra: dict[str, Any] = (
            {} if self.user is None else {"user": self.user, "group": self.group, "extra_groups": []}
        )
        return subprocess.run(
            [*self.command, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            cwd="/",
            env=environment(),
            check=False,
            **extra,
        )


def environment() -> dict[str, str]:
    """What PostgreSQL gets of our environment: no PG variables of ours, no secrets, one language for its messages."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def choose_account(folder: Path, binaries: Binaries) -> Account:
    """
    Choose as whom to run, and give `folder` with all that is in it to that account.

    Raises EmbeddedError when we are root and neither way is open.
    """
    if os.geteuid() != 0:
        return Account(name="self")
    tried: list[str] = []
    cluster = folder / "data"
    for account in _in_order(cluster.stat().st_uid if cluster.exists() else None):
        _give(folder, account)
        if (problem := _problem(account, folder, binaries)) is None:
            return account
        tried.append(f"{account.name}: {problem}")
    _give(folder, Account(name="root"))
    raise EmbeddedError(
        f"PostgreSQL does not run as root, and no other way is open here ({'; '.join(tried)}). Start the engine as an "
        "ordinary user, choose a data folder that the account postgres or nobody can reach, or name a server by its DSN"
    )


def _in_order(owner: int | None) -> Iterator[Account]:
    """Every way there is, the one that the cluster was made with first."""
    accounts = []
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            accounts.append(Account(name=name, user=entry.pw_uid, group=entry.pw_gid))
    if (unshare := shutil.which("unshare")) is not None:
        ids = (f"--map-user={NAMESPACE_ID}", f"--map-group={NAMESPACE_ID}")
        # Entering the namespace clears the order to die with the parent; setpriv gives it again.
        setpriv = shutil.which("setpriv")
        mortal = (setpriv, "--pdeathsig", "INT", "--") if setpriv else ()
        accounts.append(Account(name="user namespace", command=(unshare, "--user", *ids, "--", *mortal)))
    yield from sorted(accounts, key=lambda account: owner is not None and (account.user or 0) != owner)


def _give(folder: Path, account: Account) -> None:
    """Make the account the owner of the folder and of the cluster in it; modes stay as they are."""
    user, group = account.user or 0, account.group or 0
    if folder.stat().st_uid == user:
        return
    os.chown(folder, user, group)
    for cluster in folder.glob("data*"):
        os.chown(cluster, user, group)
        for place, folders, names in os.walk(cluster):
            for name in (*folders, *names):
                os.chown(Path(place) / name, user, group, follow_symlinks=False)


def _problem(account: Account, folder: Path, binaries: Binaries) -> str | None:
    """Say why the account cannot serve; None: it can."""
    try:
        if account.run([binaries.program("postgres"), "--version"]).returncode != 0:
            return "it cannot run PostgreSQL's programs"
        if account.run(["test", "-w", str(folder), "-a", "-x", str(folder)]).returncode != 0:
            return f"it cannot reach {folder}"
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None
