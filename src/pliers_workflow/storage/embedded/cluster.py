"""The cluster on disk: made once, checked at every start, never opened to anybody else.

FOLDER/               0700, of the account that runs the server
    data/             the cluster, as initdb made it
    password          0600, of us: the server's only password, random
    server.json       0600: what the supervisor says about itself
    server.log        0600: what PostgreSQL says
    *.lock
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Final
from urllib.parse import quote

from .account import Account
from .binaries import Binaries
from .errors import EmbeddedError

__all__ = ["USER", "dsn", "prepare_cluster", "prepare_folder"]

#: the cluster's superuser, and the database that is there from the beginning
USER: Final = "pliers"
DATABASE: Final = "postgres"


def prepare_folder(folder: Path) -> None:
    """Make the folder, for its owner only. Raises EmbeddedError when it is somebody else's or open to others."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if os.geteuid() not in (0, found.st_uid):
        raise EmbeddedError(f"{folder} belongs to another user; choose a folder of your own")
    if found.st_mode & 0o077:
        if any(folder.iterdir()):
            raise EmbeddedError(
                f"{folder} can be entered by other users: chmod 700 {folder}, or choose an empty folder"
            )
        folder.chmod(0o700)


def prepare_cluster(folder: Path, binaries: Binaries, account: Account, *, sync: bool = True) -> None:
    """
    Make the cluster in `folder` unless it is there, and check that these programs can run it.

    A cluster is made beside its place and moved there when it is whole, so an interrupted start leaves nothing half-made.
    `sync`: wait until the disk has it.
    Raises EmbeddedError: the cluster is of another major version, its password is lost, or initdb failed.
    """
    data = folder / "data"
    if data.exists():
        version = (data / "PG_VERSION").read_text().strip()
        if version != str(binaries.version):
            raise EmbeddedError(
                f"the data in {folder} belongs to PostgreSQL {version}, and the programs here are version "
                f"{binaries.version}: name a bin_folder of version {version}, or carry the data over with pg_dump or pg_upgrade"
            )
        if not (folder / "password").exists():
            raise EmbeddedError(f"{folder / 'password'} is gone, and without it nobody can connect: restore it")
        return
    unfinished = folder / "data.new"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    password = secrets.token_urlsafe(32)
    handed_over = folder / "data.password"
    _write_private(handed_over, password)
    try:
        if account.user is not None:
            os.chown(handed_over, account.user, account.group or 0)
        _initialise(unfinished, handed_over, binaries, account, sync)
    finally:
        handed_over.unlink(missing_ok=True)
    _write_private(folder / "password", password)
    unfinished.rename(data)


def dsn(folder: Path, port: int, database: str = DATABASE) -> str:
    """Say how to connect: user, password, port and database in one URL. Keep it out of logs."""
    password = (folder / "password").read_text().strip()
    return f"postgresql://{USER}:{quote(password, safe='')}@127.0.0.1:{port}/{database}"


def _initialise(data: Path, password: Path, binaries: Binaries, account: Account, sync: bool) -> None:
    if binaries.version >= 17:
        # Code point order, and letters of all languages, without the operating system's locales: the same everywhere.
        locales = [["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]]
    else:
        locales = [["--locale=C.UTF-8"], ["--locale=C"]]
    answer = None
    for locale in locales:
        answer = account.run([
            binaries.program("initdb"), "--pgdata", str(data), "--username", USER, "--pwfile", str(password),
            "--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums", "--no-instructions", *locale,
            *(() if sync else ("--no-sync",)),
        ])  # fmt: skip
        if answer.returncode == 0:
            return
        shutil.rmtree(data, ignore_errors=True)
    assert answer is not None
    raise EmbeddedError(f"initdb failed: {(answer.stderr or answer.stdout).strip()[-1000:]}")


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
