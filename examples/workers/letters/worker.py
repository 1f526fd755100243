"""A worker for the workflow `letter`: writes letters into a folder, as a printer would print them.

pliers token create --user printer --permission worker
PLIERS_URL=http://127.0.0.1:8080 PLIERS_TOKEN=pliers_… LETTERS=/tmp/letters python worker.py
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

from pliers_workflow.worker import Permanent, Retryable, Task, Worker

LINES_OF_A_PAGE = 40

worker = Worker(os.environ["PLIERS_URL"], os.environ["PLIERS_TOKEN"], concurrency=4)
folder = Path(os.environ.get("LETTERS", "letters"))


@worker.task("letters", lease=int(os.environ.get("LEASE", "30")))
def print_letter(task: Task) -> dict[str, Any]:
    """Write one letter; the same letter again when the same attempt is seen twice."""
    to = str(task.input.get("to") or "").strip()
    if not to:
        raise Permanent("NO_ADDRESS", "A letter needs somebody whom it is for.")
    if not folder.is_dir():
        raise Retryable("The printer is not there.", code="PRINTER_AWAY", delay=10)
    lines = str(task.input.get("text") or "").splitlines() or [""]
    file = folder / f"{task.idempotency_key.replace(':', '-').replace('/', '-')}.txt"
    draft = file.with_suffix(".draft")
    with draft.open("w") as page:
        page.write(f"To {to}\n\n")
        for line in lines:
            task.heartbeat()  # ends here when nobody waits for the letter any more
            page.write(line + "\n")
            page.flush()
            time.sleep(float(os.environ.get("SECONDS_A_LINE", "0")))
    draft.rename(file)
    return {"pages": -(-len(lines) // LINES_OF_A_PAGE), "file": file.name}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    worker.start()
