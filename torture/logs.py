"""What the nodes said: lost connections are expected, exceptions that nobody foresaw are not."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Final

#: What a node may say while its database comes and goes.
_EXPECTED: Final = frozenset(
    {
        # the driver's, with the reason as an exception
        "Failed to restore the pool connection floor; retrying",
        "connection_lost",
        "batch_again",
        "claim_cut_short",
        "drain_gave_up",
        "started_jobs_stay_for_now",
        "database unavailable",
        "health check failed",
    }
)
#: And every service: that it waits for its database, or leaves something for later.
_WAITS: Final = re.compile(r"_waits?_for_(database|lock)$|_wait$|_left_for_later$|_left_to_sweep$|_not_settled$")
#: A node that starts while its database goes away says why, and ends; whoever runs it starts it again.
_START_FAILED: Final = re.compile(
    r"^Application startup failed|"
    r"\n(ConnectionRefusedError|ConnectionResetError|ConnectionError|TimeoutError|asyncpg\.exceptions\.(_base\.)?"
    r"(ConnectionDoesNotExistError|CannotConnectNowError|AdminShutdownError|CrashShutdownError|InternalClientError"
    r"|InterfaceError))\b[^\n]*\n*(DETAIL[^\n]*\n*)?$"
)
#: Lines that are no record: what the command line says when it cannot start.
_SENTENCES: Final = ("one-time admin token", "pliers: the database cannot be used", "pliers: the embedded PostgreSQL")


def judge(log: Path) -> tuple[list[str], Counter[str]]:
    """The lines that should not be there, and how often each event stands in the log."""
    wrong: list[str] = []
    said: Counter[str] = Counter()
    for number, line in enumerate(log.read_text(errors="replace").splitlines(), start=1):
        try:
            record = json.loads(line)
            event = str(record["event"])
        except (ValueError, TypeError, KeyError):
            if line.strip() and not line.startswith(_SENTENCES):
                wrong.append(f"{log.name}:{number}: {line[:500]}")
            continue
        said[event] += 1
        if record.get("level") == "info" or event in _EXPECTED or _WAITS.search(event):
            continue
        if record.get("logger") != "uvicorn.error" or not _START_FAILED.search(event):
            wrong.append(f"{log.name}:{number}: {line[:3000]}")
    return wrong, said
