"""Run the embedded PostgreSQL by itself: `python -m pliers_workflow.storage.embedded [FOLDER]`, until Ctrl-C or SIGTERM.

Prints its DSN, password included, as its first line.
"""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from . import EmbeddedError, EmbeddedPostgres, default_folder


def main(arguments: list[str]) -> int:
    """Run in the foreground; the exit status."""
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    server = EmbeddedPostgres(Path(arguments[0]) if arguments else default_folder())
    try:
        sys.stdout.write(server.start() + "\n")
        sys.stdout.flush()
    except EmbeddedError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    over.wait()
    server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
