"""A worker for steps of the type `external`, in Python: fetches tasks over the API, holds them, brings what came of them.

    from pliers_workflow.worker import Permanent, Task, Worker

    worker = Worker("https://workflows.example.com", token, concurrency=4)

    @worker.task("printing", lease=60)
    def print_letter(task: Task) -> dict[str, int]: ...

    worker.start()      # until SIGTERM

Nothing of the engine is needed where it runs but this package and `httpx`. What it speaks is written down in the guide
"External workers", for workers in other languages.
"""

from __future__ import annotations

from .errors import Permanent, Retryable, TaskLost, WorkerRefused
from .task import Task
from .worker import Worker

__all__ = ["Permanent", "Retryable", "Task", "TaskLost", "Worker", "WorkerRefused"]
